//! The log's thread: takes all that waits, writes it as one batch, syncs once, and only then calls back.
//!
//! Jobs keep their order. After one that failed all are refused: what is appended after it would leave a hole.
//! A thread and not a task, because a sync blocks.

use std::io;
use std::sync::Arc;
use std::thread;

use openraft::entry::RaftEntry;
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::durable::Durable;
use super::log_tail::LogTail;
use super::types::{Entry, TypeConfig, encode, io_error};
use crate::engine::{LogEngine, LogValue};
use crate::lock::RwLock;
use crate::{Error, Result};

/// Jobs that may wait; then openraft's core does.
const JOBS_MAX: usize = 1_024;
/// Jobs in one group.
const GROUP_JOBS_MAX: usize = 512;

/// What the log has to do.
pub(super) enum Job {
    Append {
        entries: Vec<Entry>,
        done: IOFlushed<TypeConfig>,
    },
    Set {
        name: LogValue,
        value: Vec<u8>,
        done: Done,
    },
    /// Remove from this index on.
    Truncate { first: u64, done: Done },
    /// Remove up to this index, and remember its log id.
    Purge { last: u64, purged: Vec<u8>, done: Done },
}

pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// Starts the thread; it ends when the last sender is dropped.
pub(super) fn start(
    engine: Arc<dyn LogEngine>,
    tail: Arc<RwLock<LogTail>>,
    durable: Durable,
) -> Result<mpsc::Sender<Job>> {
    let (sender, jobs) = mpsc::channel(JOBS_MAX);
    let run = move || run(&*engine, &tail, &durable, jobs);
    let thread = thread::Builder::new().name("store-log".into()).spawn(run);
    thread.map_err(|error| Error::Unavailable(format!("starting a thread: {error}")))?;
    Ok(sender)
}

fn run(engine: &dyn LogEngine, tail: &RwLock<LogTail>, durable: &Durable, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::new();
    while jobs.blocking_recv_many(&mut group, GROUP_JOBS_MAX) > 0 {
        let end = durable.end().and_then(|end| {
            let end = write(engine, &group, end)?;
            engine.sync()?;
            Ok(end)
        });
        if let Ok(end) = end {
            tail.write().synced(end);
        }
        durable.set(end.clone());
        let answer = || end.clone().map(|_| ()).map_err(io_error);
        for job in group.drain(..) {
            match job {
                Job::Append { done, .. } => done.io_completed(answer()),
                Job::Set { done, .. } | Job::Truncate { done, .. } | Job::Purge { done, .. } => {
                    let _ = done.send(answer());
                }
            }
        }
    }
}

/// Writes a group in order, consecutive appends together, to a log that ends at `end`; returns where it ends then.
fn write(engine: &dyn LogEngine, group: &[Job], mut end: u64) -> Result<u64> {
    let mut rows: Vec<(u64, Vec<u8>)> = Vec::new();
    for job in group {
        if !matches!(job, Job::Append { .. }) && !rows.is_empty() {
            engine.append(&std::mem::take(&mut rows))?;
        }
        match job {
            Job::Append { entries, .. } => {
                for entry in entries {
                    let index = entry.log_id().index;
                    let value = encode(entry).map_err(|error| Error::Invalid(error.to_string()))?;
                    rows.push((index, value));
                    end = index + 1;
                }
            }
            Job::Set { name, value, .. } => engine.set(*name, value)?,
            Job::Truncate { first, .. } => {
                engine.truncate(*first)?;
                end = end.min(*first);
            }
            Job::Purge { last, purged, .. } => {
                engine.set(LogValue::Purged, purged)?;
                engine.purge(*last)?;
                end = end.max(*last + 1);
            }
        }
    }
    if !rows.is_empty() {
        engine.append(&rows)?;
    }
    Ok(end)
}
