//! The members' side of a [`LocalStore`]: who they are, changing them, and what they send to this one.

use std::sync::Weak;

use bytes::Bytes;
use tokio::sync::watch;

use super::LocalStore;
use super::server::Server;
use crate::cluster::message::{self, Change, Changed};
use crate::{Error, Identity, Member, PeerCallKind, PeerChunks, PeerError, RaftView, Result};

/// A larger append has entries.
const SIGN_OF_LIFE_BYTES_MAX: usize = 256;

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
        self.server()
            .map(|server| server.identity.clone())
            .unwrap_or_default()
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
        self.server()?.change_members(Change::Remove { id }).await
    }

    /// Changes where other members reach a member.
    ///
    /// # Errors
    /// etcd's refusals: `MemberNotFound`, `PeerUrlExists`.
    pub async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<Member>> {
        self.server()?
            .change_members(Change::Update { id, peer_urls })
            .await
    }

    /// Gives a learner that has caught up its vote.
    ///
    /// # Errors
    /// etcd's refusals: `MemberNotFound`, `NotLearner`, `LearnerNotReady`, `NotEnoughStartedMembers`.
    pub async fn member_promote(&self, id: u64) -> Result<Vec<Member>> {
        self.server()?.change_members(Change::Promote { id }).await
    }

    /// Hands the leadership, which this member must have, to another.
    ///
    /// # Errors
    /// etcd's refusals: `NotLeader`, `BadLeaderTransferee`, `Timeout`.
    pub async fn move_leader(&self, target: u64) -> Result<()> {
        self.server()?.consensus.move_leader(target).await
    }

    /// This member's view of consensus; cheap. Zeros after a shutdown.
    pub fn raft(&self) -> RaftView {
        self.server()
            .map(|server| server.consensus.view())
            .unwrap_or_default()
    }

    /// Changes of the view but for its indexes. Closed by a shutdown.
    pub fn watch_raft(&self) -> watch::Receiver<RaftView> {
        let closed = || watch::channel(RaftView::default()).1;
        self.server()
            .map_or_else(|_| closed(), |server| server.consensus.watch_view())
    }
}

impl Server {
    /// Turns away another cluster's. One that joins does not know its cluster yet.
    fn check_cluster(&self, from: u64, kind: PeerCallKind) -> Result<(), PeerError> {
        if from == self.identity.cluster_id || (from == 0 && kind == PeerCallKind::Members) {
            return Ok(());
        }
        Err(PeerError::Unreachable(format!(
            "cluster ID mismatch: the message is of {from:x}, this is {:x}",
            self.identity.cluster_id
        )))
    }

    async fn handle(&self, from: u64, kind: PeerCallKind, body: Bytes) -> Result<Bytes, PeerError> {
        self.check_cluster(from, kind)?;
        // An engine that could not write is lost, a member that takes nothing for a while is not.
        if kind == PeerCallKind::Append
            && body.len() > SIGN_OF_LIFE_BYTES_MAX
            && let Err(error) = self.space.admit(body.len(), false)
        {
            return Err(PeerError::Unreachable(error.to_string()));
        }
        if kind == PeerCallKind::Lease {
            let (_, body) = message::open(self.identity.member_id, &body)?;
            return message::answer(&self.answer_lease(message::read(&body)?).await);
        }
        self.consensus.handle(kind, &body).await
    }

    async fn handle_stream(
        &self,
        from: u64,
        kind: PeerCallKind,
        chunks: PeerChunks,
    ) -> Result<Bytes, PeerError> {
        self.check_cluster(from, kind)?;
        self.consensus.handle_stream(kind, chunks).await
    }

    async fn members(&self, linearizable: bool) -> Result<Vec<Member>> {
        if linearizable {
            self.consensus.read_barrier().await?;
        }
        Ok(self.consensus.members())
    }

    async fn member_add(&self, peer_urls: Vec<String>, is_learner: bool) -> Result<(Member, Vec<Member>)> {
        let change = Change::Add {
            peer_urls,
            is_learner,
        };
        let Changed { id, members } = self.consensus.change_members(change).await?;
        let added = members.iter().find(|member| member.id == id).cloned();
        let gone = || Error::Unknown("the added member is gone already".into());
        Ok((added.ok_or_else(gone)?, members))
    }

    async fn change_members(&self, change: Change) -> Result<Vec<Member>> {
        Ok(self.consensus.change_members(change).await?.members)
    }
}
