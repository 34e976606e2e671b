//! openraft's log storage on a [`LogEngine`].
//!
//! Writes go to the log's thread in order. Reads come from the tail in memory, and from the engine for what
//! is older.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::{mpsc, oneshot};

use super::durable::{Durable, Reached};
use super::log_tail::LogTail;
use super::log_writer::{self, Done, Job};
use super::snapshot_in::Spool;
use super::types::{Entry, LogId, TypeConfig, Vote, decode, encode, io_error};
use crate::Result;
use crate::engine::{LogEngine, LogValue};
use crate::lock::RwLock;

/// The log.
#[derive(Clone)]
pub(super) struct LogStore {
    engine: Arc<dyn LogEngine>,
    tail: Arc<RwLock<LogTail>>,
    jobs: mpsc::Sender<Job>,
    /// What stands in for the log until that is purged.
    spool: Option<Arc<Spool>>,
}

/// Bytes of entries in one read for another member, but for one larger entry.
const READ_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Entries of an answer that are read from the engine at a time.
const READ_ENTRIES: u64 = 64;

impl LogStore {
    /// Starts the log's thread; it ends when every clone is dropped. An engine has synced all that it opened with.
    pub(super) fn start(engine: Arc<dyn LogEngine>, spool: Option<Arc<Spool>>) -> Result<(Self, Reached)> {
        let tail = Arc::new(RwLock::new(LogTail::default()));
        let end = last_log_id(&*engine)?.map_or(0, |log_id| log_id.index + 1);
        let (durable, reached) = Durable::new(end);
        let jobs = log_writer::start(engine.clone(), tail.clone(), durable)?;
        let this = Self {
            engine,
            tail,
            jobs,
            spool,
        };
        Ok((this, reached))
    }

    async fn run(&self, job: impl FnOnce(Done) -> Job) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(job(done)).await?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    async fn send(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).await.map_err(|_| stopped())
    }
}

/// The log's last entry's id.
pub(super) fn last_log_id(engine: &dyn LogEngine) -> Result<Option<LogId>> {
    let bad = |error: io::Error| super::raft::from_io(&error);
    let purged = engine.get(LogValue::Purged)?;
    let purged: Option<LogId> = purged
        .map(|bytes| decode("the purged log id", &bytes))
        .transpose()
        .map_err(bad)?;
    let last = engine.last()?;
    let last: Option<Entry> = last
        .map(|bytes| decode("the log's last entry", &bytes))
        .transpose()
        .map_err(bad)?;
    Ok(last.map(|entry| entry.log_id()).max(purged))
}

fn stopped() -> io::Error {
    io_error(crate::Error::Unavailable("the log's thread has stopped".into()))
}

fn bounds(range: &impl RangeBounds<u64>) -> Option<(u64, u64)> {
    let first = match range.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let last = match range.end_bound() {
        Bound::Included(last) => *last,
        Bound::Excluded(after) => after.checked_sub(1)?,
        Bound::Unbounded => u64::MAX - 1,
    };
    (first <= last).then_some((first, last))
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let Some((first, last)) = bounds(&range) else {
            return Ok(Vec::new());
        };
        if let Some(entries) = self.tail.read().read(first, last) {
            return Ok(entries);
        }
        let rows = self.engine.read(first, last).map_err(io_error)?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let entry: Entry = decode("an entry of the log", &row)?;
            let index = entry.log_id().index;
            if let Some(before) = entries.last().map(|entry: &Entry| entry.log_id().index)
                && index != before + 1
            {
                let what = format!("the log has entries {before} and {index}, and none between");
                return Err(io_error(crate::Error::Corrupt(what)));
            }
            entries.push(entry);
        }
        // Entries that were appended but are not yet written are in the tail alone.
        let next = entries.last().map_or(first, |entry| entry.log_id().index + 1);
        if next <= last {
            entries.extend(self.tail.read().read(next, last).unwrap_or_default());
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (mut found, mut bytes, mut next) = (Vec::new(), 0, start);
        while next < end && bytes < READ_BYTES_MAX {
            let upto = end.min(next.saturating_add(READ_ENTRIES));
            let entries = self.try_get_log_entries(next..upto).await?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                // The first is always taken.
                if !found.is_empty() && bytes >= READ_BYTES_MAX {
                    return Ok(found);
                }
                bytes += super::log_tail::cost(&entry);
                next = entry.log_id().index + 1;
                found.push(entry);
            }
        }
        Ok(found)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let vote = self.engine.get(LogValue::Vote).map_err(io_error)?;
        vote.map(|bytes| decode("the vote", &bytes)).transpose()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let purged = self.engine.get(LogValue::Purged).map_err(io_error)?;
        let purged: Option<LogId> = purged
            .map(|bytes| decode("the purged log id", &bytes))
            .transpose()?;
        let last = self.engine.last().map_err(io_error)?;
        let last: Option<Entry> = last
            .map(|bytes| decode("the log's last entry", &bytes))
            .transpose()?;
        let last_log_id = last.map(|entry| entry.log_id()).max(purged);
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let value = encode(vote)?;
        self.run(|done| Job::Set {
            name: LogValue::Vote,
            value,
            done,
        })
        .await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut tail = self.tail.write();
            entries.iter().for_each(|entry| tail.push(entry.clone()));
        }
        self.send(Job::Append {
            entries,
            done: callback,
        })
        .await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let first = last_log_id.map_or(0, |log_id| log_id.index + 1);
        self.run(|done| Job::Truncate { first, done }).await?;
        self.tail.write().truncate(first);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let purged = encode(&log_id)?;
        self.run(|done| Job::Purge {
            last: log_id.index,
            purged,
            done,
        })
        .await?;
        self.tail.write().purge(log_id.index);
        if let Some(spool) = &self.spool {
            spool.purged(log_id.index);
        }
        tracing::info!(upto = log_id.index, "compacted Raft logs");
        Ok(())
    }
}
