//! The log's thread: takes all that waits, writes it as one batch, syncs once, and only then calls back.
//!
//! Jobs keep their order. A thread and not a task, because a sync blocks.

use std::io;
use std::sync::Arc;
use std::thread;

use openraft::entry::RaftEntry;
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

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
pub(super) fn start(engine: Arc<dyn LogEngine>, tail: Arc<RwLock<LogTail>>) -> Result<mpsc::Sender<Job>> {
    let (sender, jobs) = mpsc::channel(JOBS_MAX);
    let run = move || run(&*engine, &tail, jobs);
    let thread = thread::Builder::new().name("store-log".into()).spawn(run);
    thread.map_err(|error| Error::Unavailable(format!("starting a thread: {error}")))?;
    Ok(sender)
}

fn run(engine: &dyn LogEngine, tail: &RwLock<LogTail>, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::new();
    while jobs.blocking_recv_many(&mut group, GROUP_JOBS_MAX) > 0 {
        let written = write(engine, &group).and_then(|last| engine.sync().map(|()| last));
        if let Ok(Some(last)) = written {
            tail.write().synced(last);
        }
        let answer = || written.clone().map(|_| ()).map_err(io_error);
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

/// Writes a group in order, consecutive appends together; returns the last appended index.
fn write(engine: &dyn LogEngine, group: &[Job]) -> Result<Option<u64>> {
    let mut last = None;
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
                    last = Some(index);
                }
            }
            Job::Set { name, value, .. } => engine.set(*name, value)?,
            Job::Truncate { first, .. } => engine.truncate(*first)?,
            Job::Purge { last, purged, .. } => {
                engine.set(LogValue::Purged, purged)?;
                engine.purge(*last)?;
            }
        }
    }
    if !rows.is_empty() {
        engine.append(&rows)?;
    }
    Ok(last)
}
