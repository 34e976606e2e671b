//! Notices that this member was removed: nobody tells it, its part in the log may end before the change that
//! removed it, and nobody answers it any more.
//!
//! A member that was one, and is none in a later change, is gone for good: ids never return.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::raft::Core;
use super::types::NodeId;
use crate::cluster::REMOVED;
use crate::cluster::message::Roster;
use crate::{Error, PeerCallKind};

/// How long one that has no leader waits before it asks, each time.
const ASK_AFTER: Duration = Duration::from_secs(3);
/// How long one that was removed still answers those who wait (etcd's).
const LINGER: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Told when this member is removed, before it stops.
pub(crate) type OnRemoved = Box<dyn FnOnce() + Send>;

/// Runs until Raft stops, and stops it.
pub(super) async fn run(core: Arc<Core>, on_removed: OnRemoved) {
    tokio::select! {
        () = applied(&core) => {}
        () = told(&core) => {}
    }
    tracing::error!(member = format!("{:x}", core.own_id), "{REMOVED}");
    let _ = tokio::task::spawn_blocking(on_removed).await;
    tokio::time::sleep(LINGER).await;
    core.progress.ended(Error::Invalid(REMOVED.into()));
    let _ = core.raft.shutdown().await;
}

/// Whether members that this one was among are now members without it.
fn is_gone(own_id: u64, known: &Roster, found: &Roster) -> bool {
    let has_own = |roster: &Roster| roster.members.iter().any(|member| member.id == own_id);
    found.cluster_id == known.cluster_id && found.index > known.index && has_own(known) && !has_own(found)
}

/// Ends when a change was applied here that removed this member.
async fn applied(core: &Arc<Core>) {
    let mut changes = core.progress.watch_members();
    let mut known = core.roster();
    loop {
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
        let now = core.roster();
        if is_gone(core.own_id, &known, &now) {
            return;
        }
        if now.index != known.index {
            known = now;
        }
    }
}

/// Ends when another member knows of such a change.
async fn told(core: &Arc<Core>) {
    let mut view = core.view.subscribe();
    loop {
        if view.wait_for(|view| view.leader == 0).await.is_err() {
            return std::future::pending().await;
        }
        tokio::time::sleep(ASK_AFTER).await;
        if core.view.borrow().leader != 0 {
            continue;
        }
        // One that was removed early may have applied nothing that it is in, and has it in its log.
        let known = [core.roster(), core.newest_roster()];
        let all = known
            .iter()
            .flat_map(|known| &known.members)
            .map(|member| member.id);
        let others: BTreeSet<NodeId> = all.filter(|id| *id != core.own_id).collect();
        let asking = others
            .into_iter()
            .map(|id| core.links.ask(id, PeerCallKind::Members, &(), ASK_TIMEOUT));
        let answers: Vec<Result<Roster, _>> = futures::future::join_all(asking).await;
        let is_gone = |found: &Roster| known.iter().any(|known| is_gone(core.own_id, known, found));
        if answers.iter().flatten().any(is_gone) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;

    #[test]
    fn only_a_later_change_without_it_removes_a_member() {
        let roster = |cluster_id, index, ids: &[u64]| Roster {
            cluster_id,
            index,
            members: ids
                .iter()
                .map(|id| Member {
                    id: *id,
                    ..Member::default()
                })
                .collect(),
        };
        let known = roster(1, 10, &[7, 8]);
        for (found, gone) in [
            (roster(1, 11, &[8]), true),
            (roster(1, 11, &[7, 8, 9]), false),
            (roster(1, 9, &[8]), false),
            (roster(2, 11, &[8]), false),
        ] {
            assert_eq!(is_gone(7, &known, &found), gone, "{found:?}");
        }
        // One that was added and has yet to hear of it.
        assert!(!is_gone(9, &known, &roster(1, 11, &[8])));
    }
}
