//! Changing the members: decided by the leader, by [`crate::cluster::reconfigure`], one change at a time.
//!
//! A voter is added without its vote and gets it when it has caught up ([`super::tend`]), so that adding one
//! never costs the quorum that there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{ChangeMembers, Instant as _};

use super::raft::{Consensus, Core, Repeat, timed_out};
use super::types::{LogId, Membership, Node, NodeId};
use crate::cluster::message::{Change, Changed, Reply, Roster};
use crate::cluster::reconfigure::{Plan, Seen, plan};
use crate::{Error, Member, PeerCallKind, Refusal, Result};

/// How often another change is waited for.
const BUSY_POLL: Duration = Duration::from_millis(20);
/// A learner is in sync with so many per cent of the leader's log (etcd's).
const CAUGHT_UP_PERCENT: u64 = 90;

impl Consensus {
    /// The members as applied here.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.core.progress.members()
    }

    /// What a member that joins wants to know.
    pub(crate) fn roster(&self) -> Roster {
        self.core.roster()
    }

    /// Changes the members, wherever the leader is.
    pub(crate) async fn change_members(&self, change: Change) -> Result<Changed> {
        let core = &self.core;
        core.alive()?;
        let here = || {
            let (core, change) = (core.clone(), change.clone());
            async move { core.change_in_time(change).await }
        };
        core.at_leader(PeerCallKind::Reconfigure, &change, Repeat::Never, here)
            .await
    }

    /// Hands the leadership, which this member must have, to another voter.
    pub(crate) async fn move_leader(&self, target: NodeId) -> Result<()> {
        let core = &self.core;
        core.alive()?;
        if core.view.borrow().leader != core.own_id {
            return Err(Error::Refused(Refusal::NotLeader));
        }
        if target == core.own_id {
            return Ok(());
        }
        if !core.raft.voter_ids().any(|id| id == target) {
            return Err(Error::Refused(Refusal::BadLeaderTransferee));
        }
        if core.hand_over(target).await {
            Ok(())
        } else {
            Err(Error::Refused(Refusal::Timeout))
        }
    }

    /// Before it stops, a leader hands over to whoever is furthest.
    pub(crate) async fn resign(&self) {
        let core = &self.core;
        if core.view.borrow().leader == core.own_id
            && let Some(target) = core.successor()
        {
            core.hand_over(target).await;
        }
    }
}

/// Why a change was not made.
enum Unmade {
    /// Another is being made; nothing was done.
    Busy,
    NotLeader,
    Failed(Error),
}

impl Core {
    pub(super) fn roster(&self) -> Roster {
        let (index, members) = self.progress.roster();
        Roster {
            cluster_id: self.links.cluster_id,
            index,
            members,
        }
    }

    /// The same as the log has it, applied or not.
    pub(super) fn newest_roster(&self) -> Roster {
        let (log_id, membership, _) = self.membership();
        Roster {
            cluster_id: self.links.cluster_id,
            index: log_id.map_or(0, |log_id| log_id.index),
            members: membership.nodes().map(|(id, node)| node.member(*id)).collect(),
        }
    }

    /// The live voter with the longest log, but for this member.
    fn successor(&self) -> Option<NodeId> {
        let seen = self.seen();
        let matched = self.matched();
        let others = seen
            .voters
            .iter()
            .filter(|id| **id != self.own_id && seen.live.contains(id));
        others
            .copied()
            .max_by_key(|id| matched.get(id).copied().unwrap_or(0))
    }

    /// Whether another leads in time.
    async fn hand_over(&self, target: NodeId) -> bool {
        if self.raft.trigger().transfer_leader(target).await.is_err() {
            return false;
        }
        let mut view = self.view.subscribe();
        let moved = view.wait_for(|view| view.leader != 0 && view.leader != self.own_id);
        tokio::time::timeout(self.timing.election_max, moved)
            .await
            .is_ok()
    }

    pub(super) async fn change_in_time(&self, change: Change) -> Reply<Changed> {
        let deadline = Instant::now() + self.timing.request;
        let changing = tokio::time::timeout(self.timing.request, self.change(&change, deadline));
        changing.await.unwrap_or_else(|_| Reply::Failed(timed_out()))
    }

    async fn change(&self, change: &Change, deadline: Instant) -> Reply<Changed> {
        let _turn = self.changing.lock().await;
        loop {
            let planned = match plan(&self.seen(), change) {
                Ok(planned) => planned,
                Err(error) => return Reply::Failed(error),
            };
            match self.carry_out(planned).await {
                Ok(id) => {
                    return Reply::Done(Changed {
                        id,
                        members: self.progress.members(),
                    });
                }
                Err(Unmade::Busy) if Instant::now() < deadline => tokio::time::sleep(BUSY_POLL).await,
                Err(Unmade::Busy) => return Reply::Failed(Error::Refused(Refusal::Timeout)),
                Err(Unmade::NotLeader) => return Reply::NotLeader,
                Err(Unmade::Failed(error)) => return Reply::Failed(error),
            }
        }
    }

    async fn carry_out(&self, planned: Plan) -> Result<NodeId, Unmade> {
        let node = |member: Member| (member.id, BTreeMap::from([(member.id, Node::from(member))]));
        match planned {
            Plan::Nothing(id) => Ok(id),
            Plan::Add(member) => {
                let (id, nodes) = node(member);
                self.submit(ChangeMembers::AddNodes(nodes)).await.map(|()| id)
            }
            Plan::Set(member) => {
                let (id, nodes) = node(member);
                self.submit(ChangeMembers::SetNodes(nodes)).await.map(|()| id)
            }
            Plan::Promote(member) => {
                let (id, nodes) = node(member);
                let change = vec![
                    ChangeMembers::SetNodes(nodes),
                    ChangeMembers::AddVoterIds([id].into()),
                ];
                self.submit(ChangeMembers::Batch(change)).await.map(|()| id)
            }
            Plan::RemoveVoter(id) => self
                .submit(ChangeMembers::RemoveVoters([id].into()))
                .await
                .map(|()| id),
            Plan::RemoveLearner(id) => self
                .submit(ChangeMembers::RemoveNodes([id].into()))
                .await
                .map(|()| id),
            Plan::HandOver => {
                let target = self
                    .successor()
                    .ok_or(Unmade::Failed(Error::Refused(Refusal::UnhealthyCluster)))?;
                self.hand_over(target).await;
                Err(Unmade::NotLeader)
            }
        }
    }

    /// Proposes a change if the membership is still the one that it was decided on.
    async fn submit(&self, change: ChangeMembers<NodeId, Node>) -> Result<(), Unmade> {
        let (log_id, _, is_settled) = self.membership();
        if !is_settled {
            return Err(Unmade::Busy);
        }
        let unchanged = Precondition::LastMembershipLogId {
            last_membership_log_id: log_id,
        };
        let made = self.raft.change_membership_if(change, false, [unchanged]).await;
        match made {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(Unmade::NotLeader),
            Err(RaftError::APIError(
                ClientWriteError::PreconditionFailed(_)
                | ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)),
            )) => Err(Unmade::Busy),
            Err(error @ RaftError::APIError(ClientWriteError::ChangeMembershipError(_))) => {
                Err(Unmade::Failed(Error::Invalid(error.to_string())))
            }
            Err(error) => Err(Unmade::Failed(Error::Unknown(self.failure(&error).to_string()))),
        }
    }

    /// The newest membership, where it is in the log, and whether it is committed.
    pub(super) fn membership(&self) -> (Option<LogId>, Membership, bool) {
        let metrics = self.raft.server_metrics();
        let now = metrics.borrow_watched();
        let (newest, committed) = (&now.membership_config, &now.committed_membership_config);
        let log_id = *newest.log_id();
        (log_id, newest.membership().clone(), log_id == *committed.log_id())
    }

    /// Gives its vote to a voter that has caught up, and ends a change that an earlier leader left half made.
    /// Whether there is more to do.
    pub(super) async fn finish_changes(&self) -> bool {
        let (_, membership, _) = self.membership();
        if membership.get_joint_config().len() > 1 {
            let _turn = self.changing.lock().await;
            let _ = self.submit(ChangeMembers::AddVoterIds(BTreeSet::new())).await;
            return true;
        }
        let waiting: BTreeSet<NodeId> = membership
            .learner_ids()
            .filter(|id| membership.get_node(id).is_some_and(|node| !node.is_learner))
            .collect();
        if waiting.is_empty() {
            return false;
        }
        let seen = self.seen();
        let ready = waiting
            .iter()
            .find(|id| seen.caught_up.contains(id) && seen.live.contains(id));
        if let Some(id) = ready {
            let _turn = self.changing.lock().await;
            let change = self.submit(ChangeMembers::AddVoterIds([*id].into()));
            let _ = tokio::time::timeout(self.timing.request, change).await;
        }
        true
    }

    /// How far each member's log is known to be.
    pub(super) fn matched(&self) -> BTreeMap<NodeId, u64> {
        let metrics = self.raft.data_metrics();
        let now = metrics.borrow_watched();
        let known = now.replication.iter().flatten();
        known
            .filter_map(|(id, log_id)| log_id.map(|log_id| (*id, log_id.index)))
            .collect()
    }

    /// Members that answered within a time, this one among them.
    pub(super) fn live(&self, within: Duration) -> BTreeSet<NodeId> {
        let metrics = self.raft.data_metrics();
        let now = metrics.borrow_watched();
        let acked = now.heartbeat.iter().flatten();
        let live = acked.filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() <= within));
        live.map(|(id, _)| *id).chain([self.own_id]).collect()
    }

    fn seen(&self) -> Seen {
        let (log_id, membership, _) = self.membership();
        let matched = self.matched();
        let mut live = self.live(self.timing.election_min);
        live.retain(|id| *id == self.own_id || self.links.reaches(*id));
        let last = {
            let metrics = self.raft.data_metrics();
            let now = metrics.borrow_watched();
            now.last_log.map_or(0, |log_id| log_id.index)
        };
        let is_caught_up = |index: u64| index.saturating_mul(100) >= last.saturating_mul(CAUGHT_UP_PERCENT);
        Seen {
            members: membership.nodes().map(|(id, node)| node.member(*id)).collect(),
            voters: membership.voter_ids().collect(),
            live,
            caught_up: matched
                .iter()
                .filter(|(_, index)| is_caught_up(**index))
                .map(|(id, _)| *id)
                .collect(),
            leader: self.own_id,
            unix_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            last_change: log_id.map_or(0, |log_id| log_id.index),
        }
    }
}
