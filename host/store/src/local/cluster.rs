//! The members' side of a [`LocalStore`]: who they are, changing them, and what they send to this one.

use std::sync::Weak;

use bytes::Bytes;
use tokio::sync::watch;

use super::{LocalStore, Server};
use crate::{Error, Identity, Member, PeerCallKind, PeerChunks, PeerError, RaftView, Refusal, Result};

/// Takes what other members send; the transport's server calls it. It does not keep the store open.
#[derive(Clone)]
pub struct PeerHandler(Weak<Server>);

impl std::fmt::Debug for PeerHandler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PeerHandler").finish_non_exhaustive()
    }
}

impl PeerHandler {
    /// Carries out a message of a member of the cluster `from_cluster_id`, and returns the answer's body.
    ///
    /// # Errors
    /// `Unreachable` when it was turned away: another cluster's, or the store is shut down.
    pub async fn handle(
        &self,
        from_cluster_id: u64,
        kind: PeerCallKind,
        body: Bytes,
    ) -> Result<Bytes, PeerError> {
        let server = self.0.upgrade().ok_or_else(shut_down)?;
        server.handle(from_cluster_id, kind, body).await
    }

    /// The same for a message of many chunks.
    ///
    /// # Errors
    /// As [`PeerHandler::handle`]; `Failed` when the chunks end early.
    pub async fn handle_stream(
        &self,
        from_cluster_id: u64,
        kind: PeerCallKind,
        chunks: PeerChunks,
    ) -> Result<Bytes, PeerError> {
        let server = self.0.upgrade().ok_or_else(shut_down)?;
        server.handle_stream(from_cluster_id, kind, chunks).await
    }
}

fn shut_down() -> PeerError {
    PeerError::Unreachable("the store is shut down".into())
}

impl LocalStore {
    /// The entrance for other members' messages.
    pub fn peers(&self) -> PeerHandler {
        let server = self.server.read();
        PeerHandler(server.as_ref().map_or_else(Weak::new, std::sync::Arc::downgrade))
    }

    /// Who this member is; empty after a shutdown.
    pub fn identity(&self) -> Identity {
        self.server().map(|server| server.identity()).unwrap_or_default()
    }

    /// All members, by id.
    ///
    /// # Errors
    /// As a read's, where `linearizable`.
    pub async fn members(&self, linearizable: bool) -> Result<Vec<Member>> {
        self.server()?.members(linearizable).await
    }

    /// Adds a member, which is to be started afterwards, and returns it and all members.
    ///
    /// # Errors
    /// etcd's refusals: `PeerUrlExists`, `TooManyLearners`, `NotEnoughStartedMembers`, `UnhealthyCluster`.
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<(Member, Vec<Member>)> {
        self.server()?.member_add(peer_urls, is_learner).await
    }

    /// Removes a member, which may be this one or the leader.
    ///
    /// # Errors
    /// etcd's refusals: `MemberNotFound`, `NotEnoughStartedMembers`, `UnhealthyCluster`.
    pub async fn member_remove(&self, id: u64) -> Result<Vec<Member>> {
        self.server()?.member_remove(id).await
    }

    /// Changes where other members reach a member.
    ///
    /// # Errors
    /// etcd's refusals: `MemberNotFound`, `PeerUrlExists`.
    pub async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<Member>> {
        self.server()?.member_update(id, peer_urls).await
    }

    /// Gives a learner that has caught up its vote.
    ///
    /// # Errors
    /// etcd's refusals: `MemberNotFound`, `NotLearner`, `LearnerNotReady`, `NotEnoughStartedMembers`.
    pub async fn member_promote(&self, id: u64) -> Result<Vec<Member>> {
        self.server()?.member_promote(id).await
    }

    /// Hands the leadership, which this member must have, to another.
    ///
    /// # Errors
    /// etcd's refusals: `NotLeader`, `BadLeaderTransferee`, `Timeout`.
    pub async fn move_leader(&self, target: u64) -> Result<()> {
        self.server()?.move_leader(target).await
    }

    /// This member's view of consensus; cheap. Zeros after a shutdown.
    pub fn raft(&self) -> RaftView {
        self.server().map(|server| server.raft()).unwrap_or_default()
    }

    /// Changes of the view but for its indexes. Closed by a shutdown.
    pub fn watch_raft(&self) -> watch::Receiver<RaftView> {
        let closed = || watch::channel(RaftView::default()).1;
        self.server().map_or_else(|_| closed(), |server| server.watch_raft())
    }
}

/// Until members can be more than one.
fn alone<T>() -> Result<T> {
    Err(Error::Refused(Refusal::UnhealthyCluster))
}

impl Server {
    async fn handle(&self, _: u64, _: PeerCallKind, _: Bytes) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable("this store has one member".into()))
    }

    async fn handle_stream(&self, _: u64, _: PeerCallKind, _: PeerChunks) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable("this store has one member".into()))
    }

    async fn members(&self, _linearizable: bool) -> Result<Vec<Member>> {
        Ok(vec![self.member.clone()])
    }

    async fn member_add(&self, _: Vec<String>, _: bool) -> Result<(Member, Vec<Member>)> {
        alone()
    }

    async fn member_remove(&self, _: u64) -> Result<Vec<Member>> {
        alone()
    }

    async fn member_update(&self, _: u64, _: Vec<String>) -> Result<Vec<Member>> {
        alone()
    }

    async fn member_promote(&self, _: u64) -> Result<Vec<Member>> {
        alone()
    }

    async fn move_leader(&self, target: u64) -> Result<()> {
        if target == self.member.id {
            return Ok(());
        }
        Err(Error::Refused(Refusal::BadLeaderTransferee))
    }
}
