//! The task of a watcher that lags: reads what it lacks, at its own pace, and makes it live.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

use super::hub::{Step, Watcher};
use super::{Batch, CATCH_UP_BYTES, History, Hub};
use crate::{Result, Revision, WatchMessage};

/// Writes taken from the ring at a time.
const RECENT_MAX: usize = 64;

/// Starts catching up.
pub(super) fn spawn(hub: &Arc<Hub>, history: &Arc<dyn History>, watcher: Watcher) {
    let (hub, history) = (hub.clone(), history.clone());
    let slow = Slow::of(&hub);
    tokio::spawn(async move {
        let _slow = slow;
        let messages = watcher.messages.clone();
        let mut closing = hub.closing();
        let mut watcher = Some(watcher);
        let end = tokio::select! {
            end = run(&hub, &history, &mut watcher) => end,
            () = async { drop(closing.wait_for(|closed| *closed).await) } => {
                let reason = "the store is shutting down".to_owned();
                let _ = messages.try_send(WatchMessage::Cancelled { reason });
                None
            }
        };
        if let Some(end) = end {
            let _ = messages.send(end).await;
        }
    });
}

/// Counts a watcher as slow for as long as it lives.
struct Slow(Gauge);

impl Slow {
    fn of(hub: &Hub) -> Self {
        let gauge = hub.metrics.slow_watchers.clone();
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Runs until the watcher is live, gone, or has to be told the returned end.
async fn run(
    hub: &Arc<Hub>,
    history: &Arc<dyn History>,
    watcher: &mut Option<Watcher>,
) -> Option<WatchMessage> {
    loop {
        let upto = match hub.step(watcher, RECENT_MAX) {
            Step::Joined => return None,
            Step::Recent(batches) => {
                let watcher = watcher.as_mut()?;
                for batch in batches {
                    if !send(history, watcher, &batch).await {
                        return None;
                    }
                }
                continue;
            }
            Step::Progress(revision) => {
                let watcher = watcher.as_mut()?;
                watcher.told = watcher.told.max(revision);
                if watcher
                    .messages
                    .send(WatchMessage::Progress { revision })
                    .await
                    .is_err()
                {
                    return None;
                }
                continue;
            }
            Step::Disk(upto) => upto,
        };
        let watcher = watcher.as_mut()?;
        let batches = match read(history, watcher.next, upto).await {
            Ok(batches) => batches,
            Err(error) => {
                return Some(WatchMessage::Cancelled {
                    reason: error.to_string(),
                });
            }
        };
        // Looked at after reading: what was read before a compaction went over it is whole.
        let compact_revision = history.compact_revision();
        if watcher.next < compact_revision {
            return Some(WatchMessage::Compacted { compact_revision });
        }
        for batch in &batches {
            if !send(history, watcher, batch).await {
                return None;
            }
        }
        if batches.is_empty() {
            watcher.next = upto + 1;
        }
    }
}

async fn read(history: &Arc<dyn History>, first: Revision, last: Revision) -> Result<Vec<Batch>> {
    let history = history.clone();
    let reading = tokio::task::spawn_blocking(move || history.writes(first, last, CATCH_UP_BYTES));
    reading
        .await
        .unwrap_or_else(|error| Err(crate::Error::Unavailable(error.to_string())))
}

/// Sends a write as far as it concerns the watcher; false when the watcher is gone.
async fn send(history: &Arc<dyn History>, watcher: &mut Watcher, batch: &Batch) -> bool {
    if batch.revision >= watcher.next {
        watcher.next = batch.revision + 1;
        if let Some(message) = batch.message(&**history, &watcher.span, watcher.prev_kv) {
            return watcher.messages.send(message).await.is_ok();
        }
    }
    !watcher.messages.is_closed()
}
