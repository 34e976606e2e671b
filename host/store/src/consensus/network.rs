//! openraft's network on [`Links`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::appends::{AppendAsk, IN_FLIGHT_MAX, Numbered};
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
    /// Appends come one after the other; signs of life do not.
    is_ordered: bool,
}

type Appended = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: NodeId, node: &Node) -> Way {
        self.links.learn_one(target, &node.peer_urls);
        Way {
            links: self.links.clone(),
            target,
            append_deadline: self.append_deadline,
            is_ordered: true,
        }
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Node) -> Way {
        Way {
            is_ordered: false,
            ..self.new_client(target, node).await
        }
    }
}

fn rpc_error(error: &PeerError) -> RPCError<TypeConfig> {
    match error {
        PeerError::Unreachable(_) => RPCError::Unreachable(Unreachable::new(error)),
        PeerError::Failed(_) => RPCError::Network(NetworkError::new(error)),
    }
}

async fn append(links: Arc<Links>, target: NodeId, ask: AppendAsk, deadline: Duration) -> Appended {
    let before = ask.request.prev_log_id;
    let last = ask
        .request
        .entries
        .last()
        .map_or(before, |entry| Some(entry.log_id()));
    let answer: Result<AppendEntriesResponse<TypeConfig>, _> =
        links.ask(target, PeerCallKind::Append, &ask, deadline).await;
    let answer = answer.map_err(|error| rpc_error(&error))?;
    Ok(answer.into_stream_result(before, last))
}

impl Way {
    async fn ask<Answer: DeserializeOwned>(
        &self,
        kind: PeerCallKind,
        question: &impl Serialize,
        option: &RPCOption,
    ) -> Result<Answer, RPCError<TypeConfig>> {
        let answer = self
            .links
            .ask(self.target, kind, question, option.hard_ttl())
            .await;
        answer.map_err(|error| rpc_error(&error))
    }
}

impl RaftNetworkV2<TypeConfig> for Way {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let ask = AppendAsk { place: None, request };
        self.ask(PeerCallKind::Append, &ask, &option).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if !self.is_ordered {
            return openraft::network::stream_append_sequential(self, input, option);
        }
        let numbered = Numbered::new();
        let (links, target, deadline) = (self.links.clone(), self.target, self.append_deadline);
        let asking = input.map(move |request| {
            let ask = AppendAsk {
                place: Some(numbered.next()),
                request,
            };
            append(links.clone(), target, ask, deadline)
        });
        let answers: BoxStream<'s, Appended> = Box::pin(asking.buffered(IN_FLIGHT_MAX));
        Box::pin(async move { Ok(answers) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let ask = VoteAsk {
            is_real: true,
            request,
        };
        self.ask(PeerCallKind::Vote, &ask, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let ask = VoteAsk {
            is_real: false,
            request,
        };
        self.ask(PeerCallKind::Vote, &ask, &option).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(PeerCallKind::TransferLeader, &request, &option).await
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
