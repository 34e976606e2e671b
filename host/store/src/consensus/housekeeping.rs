//! Keeps the log short: a checkpoint after so much was applied, and then the log before the *previous*
//! checkpoint is purged. So it holds two intervals at most, and a follower that lags by less is served from it.
//!
//! A leader keeps more for followers that answer, within a bound: else one that is slower than the log is
//! purged would be sent one snapshot after the other.

use std::sync::Arc;

use openraft::type_config::async_runtime::watch::WatchReceiver;
use std::time::Duration;

use super::raft::Core;

/// Checkpoints, and intervals of entries, that the log may go back for a follower that answers: whichever is less.
const KEPT_CHECKPOINTS_MAX: usize = 16;
/// A follower that has not answered for so long gets a snapshot when it is back.
const LIVE_WITHIN: Duration = Duration::from_secs(30);

/// Runs until Raft stops.
pub(super) async fn run(core: Arc<Core>) {
    let mut metrics = core.raft.metrics();
    // All that was applied when this run began; the state has been synced since.
    let mut taken: Vec<u64> = metrics
        .borrow_watched()
        .snapshot
        .map(|log_id| log_id.index)
        .into_iter()
        .collect();
    loop {
        tokio::select! {
            () = core.progress.due.notified() => {}
            () = raft_stopped(&core) => return,
        }
        let before = metrics.borrow_watched().snapshot;
        // A burst that is applied at once is due more than once; Raft never tells a checkpoint of nothing new.
        if before.is_some_and(|before| core.progress.index() <= before.index) {
            continue;
        }
        if core.raft.trigger().snapshot().await.is_err() {
            return;
        }
        let now = metrics
            .wait_until(|now| now.snapshot > before || now.running_state.is_err())
            .await;
        let Ok(Some(now)) = now.map(|now| now.snapshot) else {
            return;
        };
        if let Some(upto) = purgeable(&core, &mut taken)
            && core.raft.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
        taken.push(now.index);
    }
}

/// Up to which of the earlier checkpoints the log may go; that one and those before it are forgotten.
fn purgeable(core: &Core, taken: &mut Vec<u64>) -> Option<u64> {
    let newest = *taken.last()?;
    let (matched, live) = (core.matched(), core.live(LIVE_WITHIN));
    let needed = live
        .iter()
        .filter(|id| **id != core.own_id)
        .map(|id| matched.get(id).copied().unwrap_or(0));
    let checkpoint = match taken.len().checked_sub(KEPT_CHECKPOINTS_MAX) {
        Some(at) => taken[at],
        None => 0,
    };
    // A checkpoint under load is of more entries than its interval has.
    let entries =
        newest.saturating_sub(KEPT_CHECKPOINTS_MAX.saturating_mul(core.progress.entries_max()) as u64);
    let bound = checkpoint.max(entries);
    let upto = needed.min().unwrap_or(newest).max(bound).min(newest);
    taken.retain(|index| *index > upto);
    (upto > 0).then_some(upto)
}

async fn raft_stopped(core: &Core) {
    let mut server = core.raft.server_metrics();
    while WatchReceiver::changed(&mut server).await.is_ok() {}
}
