//! Keeps the log short: a checkpoint after so much was applied, and then the log before the *previous*
//! checkpoint is purged. So it holds two intervals at most, and a follower that lags by less is served from it.

use std::sync::{Arc, OnceLock};

use openraft::type_config::async_runtime::watch::WatchReceiver;
use tokio::sync::Notify;

use super::raft::Raft;
use crate::Error;
use crate::lock::Mutex;

/// Bytes of commands applied between two checkpoints.
const CHECKPOINT_BYTES: usize = 32 * 1024 * 1024;
/// Entries applied between two checkpoints.
const CHECKPOINT_ENTRIES: usize = 20_000;

/// What was applied since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct Progress {
    since: Mutex<(usize, usize)>,
    due: Notify,
    /// Why the state machine stopped.
    failure: OnceLock<Error>,
}

impl Progress {
    /// What a log of an earlier run, of so many bytes on disk, counts for: short runs add up.
    pub(super) fn resume(&self, log_bytes: u64) {
        self.since.lock().0 = usize::try_from(log_bytes).unwrap_or(usize::MAX);
    }

    pub(super) fn applied(&self, bytes: usize) {
        let mut since = self.since.lock();
        since.0 = since.0.saturating_add(bytes);
        since.1 += 1;
        if since.0 >= CHECKPOINT_BYTES || since.1 >= CHECKPOINT_ENTRIES {
            *since = (0, 0);
            self.due.notify_one();
        }
    }

    pub(super) fn failed(&self, error: &std::io::Error) {
        self.failure.get_or_init(|| {
            let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
            ours.cloned()
                .unwrap_or_else(|| Error::Unavailable(error.to_string()))
        });
    }

    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }
}

/// Runs until Raft stops.
pub(super) async fn run(raft: Raft, progress: Arc<Progress>) {
    let mut metrics = raft.metrics();
    // All that was applied when this run began; the state has been synced since.
    let mut previous = metrics.borrow_watched().snapshot.map(|log_id| log_id.index);
    loop {
        tokio::select! {
            () = progress.due.notified() => {}
            () = raft_stopped(&raft) => return,
        }
        let before = metrics.borrow_watched().snapshot;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let taken = metrics
            .wait_until(|now| now.snapshot > before || now.running_state.is_err())
            .await;
        let Ok(Some(taken)) = taken.map(|now| now.snapshot) else {
            return;
        };
        if let Some(upto) = previous.replace(taken.index)
            && raft.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
    }
}

async fn raft_stopped(raft: &Raft) {
    let mut metrics = raft.metrics();
    let _ = metrics.wait_until(|now| now.running_state.is_err()).await;
}
