//! Follows Raft's state: publishes who leads, the addresses of the members, and when this member may act as
//! leader; turns Raft's timer on when there is more than one member.
//!
//! A leader counts only while it is heard of: by a follower through its messages, by itself through its quorum.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, ServerState};

use super::raft::Core;
use super::types::LogId;
use crate::RaftView;
use crate::lock::Mutex;

/// How many times the longest election a leader without its quorum is silent before it tries for one.
const SILENT_ROUNDS: u32 = 2;

/// When the leader was last heard of.
pub(super) struct Heard {
    origin: Instant,
    milliseconds: AtomicU64,
    /// Since when this member leads, and in which term.
    leads_since: Mutex<Option<(u64, Instant)>>,
    /// Since when this leader is without its quorum.
    lost_since: Mutex<Option<Instant>>,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            milliseconds: AtomicU64::new(0),
            leads_since: Mutex::new(None),
            lost_since: Mutex::new(None),
        }
    }
}

impl Heard {
    /// A message of the leader came in.
    pub(super) fn now(&self) {
        let since = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        // 0 is never.
        self.milliseconds.store(since.max(1), Ordering::Release);
    }

    fn ago(&self) -> Option<Duration> {
        let at = self.milliseconds.load(Ordering::Acquire);
        (at > 0).then(|| self.origin.elapsed().saturating_sub(Duration::from_millis(at)))
    }
}

/// Runs until Raft stops.
pub(super) async fn run(core: Arc<Core>) {
    let mut server = core.raft.server_metrics();
    let mut applied = core.progress.watch();
    loop {
        let has_others = refresh(&core);
        // A term is led from its first applied entry on.
        let is_waiting = core.leading.borrow().is_none() && core.view.borrow().leader == core.own_id;
        let check = core.timing.heartbeat * 2;
        tokio::select! {
            changed = WatchReceiver::changed(&mut server) => if changed.is_err() { return },
            changed = applied.changed(), if is_waiting => if changed.is_err() { return },
            () = tokio::time::sleep(check), if has_others => {}
        }
    }
}

/// Looks and publishes; whether there are other members.
pub(super) fn refresh(core: &Core) -> bool {
    let server = core.raft.server_metrics().borrow_watched().clone();
    let membership = server.membership_config.membership();
    let has_others = membership.nodes().count() > 1;
    core.raft.runtime_config().tick(has_others);
    if membership.nodes().next().is_some() {
        core.links.learn(membership);
    }
    let term = openraft::vote::RaftVote::leader_id(&server.vote).term;
    let is_leader = server.state == ServerState::Leader;
    let leader = match server.current_leader {
        Some(id) if id == core.own_id => (is_leader && leads(core, term)).then_some(id),
        Some(id) => core
            .heard
            .ago()
            .is_some_and(|ago| ago <= core.timing.election_max)
            .then_some(id),
        None => None,
    };
    let is_lost = is_leader && leader.is_none();
    core.links
        .is_muted
        .store(is_lost && keeps_still(core), Ordering::Relaxed);
    if !is_lost {
        *core.heard.lost_since.lock() = None;
    }
    if !is_leader {
        *core.heard.leads_since.lock() = None;
    }
    let is_voter = membership.voter_ids().any(|id| id == core.own_id);
    let own = membership.get_node(&core.own_id);
    let now = RaftView {
        term,
        leader: leader.unwrap_or(0),
        is_learner: !is_voter && own.is_some_and(|node| node.is_learner),
        ..RaftView::default()
    };
    core.view
        .send_if_modified(|view| std::mem::replace(view, now) != now);
    let leading = (is_leader && core.progress.term() == term).then_some(term);
    core.leading
        .send_if_modified(|before| std::mem::replace(before, leading) != leading);
    has_others
}

/// Whether a leader without its quorum is silent now: first for two elections, and then it tries for one, and
/// so on.
fn keeps_still(core: &Core) -> bool {
    let lost = *core.heard.lost_since.lock().get_or_insert_with(Instant::now);
    let round = lost.elapsed().as_nanos() / core.timing.election_max.as_nanos().max(1);
    round % u128::from(SILENT_ROUNDS + 1) < u128::from(SILENT_ROUNDS)
}

/// A voter that asks for votes lacks entries of this leader's: it will not be voted for, and there may be a quorum
/// that only needs to hear this leader.
pub(super) fn heard_voter(core: &Core, last: Option<LogId>) {
    if !core.links.is_muted.load(Ordering::Relaxed) {
        return;
    }
    let own = core.raft.data_metrics().borrow_watched().last_log;
    if last < own {
        let speaking = core.timing.election_max * SILENT_ROUNDS;
        *core.heard.lost_since.lock() = Instant::now().checked_sub(speaking);
        refresh(core);
    }
}

/// Whether this leader's quorum answered within the last while.
fn leads(core: &Core, term: u64) -> bool {
    if core.is_only_voter() {
        return true;
    }
    let mut since = core.heard.leads_since.lock();
    let (led, begun) = *since.get_or_insert_with(|| (term, Instant::now()));
    if led != term {
        *since = Some((term, Instant::now()));
        return true;
    }
    let metrics = core.raft.data_metrics();
    let acked = metrics.borrow_watched().last_quorum_acked;
    let fresh = |age: Duration| age <= core.timing.election_max;
    fresh(begun.elapsed()) || acked.is_some_and(|at| fresh(at.elapsed()))
}
