//! What other members send: Raft's messages, and what followers forward.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use openraft::raft::{AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use serde::Serialize;

use super::appends::AppendAsk;
use super::network::VoteAsk;
use super::raft::{Consensus, Core};
use super::snapshot_out::Head;
use super::types::{Proposal, Snapshot, TypeConfig};
use crate::cluster::message::{self, Change};
use crate::{PeerCallKind, PeerChunks, PeerError};

impl Consensus {
    /// Carries out a message and returns the answer's body. Lease traffic is the server's own.
    pub(crate) async fn handle(&self, kind: PeerCallKind, body: &Bytes) -> Result<Bytes, PeerError> {
        let core = &self.core;
        let (from, body) = message::open(core.own_id, body)?;
        match kind {
            PeerCallKind::Append => {
                let AppendAsk { place, request } = message::read(&body)?;
                let answered = match place {
                    Some(place) => core.sessions.append(&core.raft, from, place, request).await?,
                    None => core.raft.append_entries(request).await.map_err(stopped)?,
                };
                if !matches!(answered, AppendEntriesResponse::HigherVote(_)) {
                    core.heard.now();
                    if core.view.borrow().leader == 0 {
                        super::view::refresh(core);
                    }
                }
                message::answer(&answered)
            }
            PeerCallKind::Vote => {
                let ask: VoteAsk = message::read(&body)?;
                super::view::heard_voter(core, ask.request.last_log_id);
                let answered = if ask.is_real {
                    core.raft.vote(ask.request).await
                } else {
                    core.raft.pre_vote(ask.request).await
                };
                message::answer(&answered.map_err(stopped)?)
            }
            PeerCallKind::TransferLeader => {
                let request: TransferLeaderRequest<TypeConfig> = message::read(&body)?;
                message::answer(&core.raft.handle_transfer_leader(request).await.map_err(stopped)?)
            }
            PeerCallKind::Propose => {
                let command: Bytes = message::read(&body)?;
                answer(core.write_in_time(Proposal(command), None).await)
            }
            PeerCallKind::ReadIndex => answer(core.lead_index().await),
            PeerCallKind::Reconfigure => {
                let change: Change = message::read(&body)?;
                answer(core.change_in_time(change).await)
            }
            PeerCallKind::Members => answer(self.roster()),
            PeerCallKind::Lease | PeerCallKind::Snapshot => Err(PeerError::Unreachable(format!(
                "{kind:?} is no message of this form"
            ))),
        }
    }

    /// The same for a stream: a snapshot.
    pub(crate) async fn handle_stream(
        &self,
        kind: PeerCallKind,
        mut chunks: PeerChunks,
    ) -> Result<Bytes, PeerError> {
        if kind != PeerCallKind::Snapshot {
            return Err(PeerError::Unreachable(format!("{kind:?} is no stream")));
        }
        let core = &self.core;
        let first = chunks.next().await;
        let first = first.unwrap_or_else(|| Err(PeerError::Unreachable("an empty stream".into())))?;
        let (_, body) = message::open(core.own_id, &first)?;
        let head: Head = message::read(&body)?;
        core.install(head, chunks).await
    }
}

impl Core {
    async fn install(self: &Arc<Self>, head: Head, chunks: PeerChunks) -> Result<Bytes, PeerError> {
        let own_vote = self.raft.metrics().borrow_watched().vote;
        if own_vote > head.vote {
            return message::answer(&SnapshotResponse::<TypeConfig>::new(own_vote));
        }
        let index = head.meta.last_log_id.map_or(0, |log_id| log_id.index);
        if index <= self.progress.index() {
            return message::answer(&SnapshotResponse::<TypeConfig>::new(own_vote));
        }
        tracing::info!(index, "receiving a snapshot");
        let (head, image) = self.unless_closing(self.spool.receive(head, chunks)).await?;
        self.heard.now();
        let snapshot = Snapshot {
            meta: head.meta,
            snapshot: image,
        };
        let installed = self.raft.install_full_snapshot(head.vote, snapshot).await;
        message::answer(&installed.map_err(stopped)?)
    }
}

fn answer(reply: impl Serialize) -> Result<Bytes, PeerError> {
    message::answer(&reply)
}

fn stopped(error: impl std::fmt::Display) -> PeerError {
    PeerError::Failed(error.to_string())
}
