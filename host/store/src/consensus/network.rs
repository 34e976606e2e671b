//! openraft's network on [`Links`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{RPCOption, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use serde::{Deserialize, Serialize};

use super::links::Links;
use super::snapshot_out;
use super::types::{Node, NodeId, Snapshot, TypeConfig, Vote};
use crate::replica::Image;
use crate::{PeerCallKind, PeerError};

/// A vote, or the question whether it would be given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct VoteAsk {
    pub(super) is_real: bool,
    pub(super) request: VoteRequest<TypeConfig>,
}

/// Makes the ways to the others.
pub(super) struct Network {
    pub(super) links: Arc<Links>,
    /// Entries may wait so long for a slow disk.
    pub(super) append_deadline: Duration,
}

/// The way to one member.
pub(super) struct Way {
    links: Arc<Links>,
    target: NodeId,
    append_deadline: Duration,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: NodeId, node: &Node) -> Way {
        self.links.learn_one(target, &node.peer_urls);
        Way {
            links: self.links.clone(),
            target,
            append_deadline: self.append_deadline,
        }
    }
}

fn rpc_error(error: &PeerError) -> RPCError<TypeConfig> {
    match error {
        PeerError::Unreachable(_) => RPCError::Unreachable(Unreachable::new(error)),
        PeerError::Failed(_) => RPCError::Network(NetworkError::new(error)),
    }
}

impl RaftNetworkV2<TypeConfig> for Way {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let deadline = if request.entries.is_empty() {
            option.hard_ttl()
        } else {
            self.append_deadline
        };
        let answer = self.links.ask(self.target, PeerCallKind::Append, &request, deadline).await;
        answer.map_err(|error| rpc_error(&error))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let ask = VoteAsk { is_real: true, request };
        let answer = self.links.ask(self.target, PeerCallKind::Vote, &ask, option.hard_ttl()).await;
        answer.map_err(|error| rpc_error(&error))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let ask = VoteAsk { is_real: false, request };
        let answer = self.links.ask(self.target, PeerCallKind::Vote, &ask, option.hard_ttl()).await;
        answer.map_err(|error| rpc_error(&error))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let kind = PeerCallKind::TransferLeader;
        let answer = self.links.ask(self.target, kind, &request, option.hard_ttl()).await;
        answer.map_err(|error| rpc_error(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = snapshot_out::send(self.links.clone(), self.target, vote, snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            // What was unreachable is tried again after a pause, and a snapshot is dear to repeat.
            answer = sending => answer.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error))),
        }
    }
}
