//! The ways to the other members: their addresses as last known, and one exchange of a message.
//!
//! Used by everything that asks another member something. It holds no connection; the transport does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::types::{Membership, NodeId};
use crate::cluster::message;
use crate::lock::RwLock;
use crate::{Peer, PeerCall, PeerCallKind, PeerChunks, PeerError, PeerTransport};

/// Snapshots that are sent at a time: each reads the whole state.
const SNAPSHOTS_SENT_MAX: usize = 1;

/// What is needed to reach the others.
pub(super) struct Links {
    pub(super) cluster_id: u64,
    pub(super) own_id: NodeId,
    transport: Option<Arc<dyn PeerTransport>>,
    addresses: RwLock<BTreeMap<NodeId, Vec<String>>>,
    /// Members that the last message did not get through to.
    unreachable: RwLock<BTreeSet<NodeId>>,
    pub(super) snapshots: Semaphore,
    /// This leader has lost its quorum and keeps still, so that those who hear it, and whom it does not hear,
    /// elect another.
    pub(super) is_muted: AtomicBool,
}

impl Links {
    pub(super) fn new(cluster_id: u64, own_id: NodeId, transport: Option<Arc<dyn PeerTransport>>) -> Self {
        Self {
            cluster_id,
            own_id,
            transport,
            addresses: RwLock::default(),
            unreachable: RwLock::default(),
            snapshots: Semaphore::new(SNAPSHOTS_SENT_MAX),
            is_muted: AtomicBool::new(false),
        }
    }

    /// Takes the addresses of a membership.
    pub(super) fn learn(&self, membership: &Membership) {
        let known = membership.nodes().map(|(id, node)| (*id, node.peer_urls.clone()));
        *self.addresses.write() = known.collect();
        self.unreachable
            .write()
            .retain(|id| membership.get_node(id).is_some());
    }

    pub(super) fn learn_one(&self, id: NodeId, peer_urls: &[String]) {
        self.addresses.write().insert(id, peer_urls.to_vec());
    }

    fn peer(&self, id: NodeId) -> Result<Peer, PeerError> {
        let peer_urls = self.addresses.read().get(&id).cloned();
        let peer_urls =
            peer_urls.ok_or_else(|| PeerError::Unreachable(format!("member {id:x} is not known")))?;
        let cluster_id = self.cluster_id;
        Ok(Peer {
            cluster_id,
            id,
            peer_urls,
        })
    }

    fn transport(&self) -> Result<&Arc<dyn PeerTransport>, PeerError> {
        let transport = self.transport.as_ref();
        transport.ok_or_else(|| PeerError::Unreachable("this store has no transport".into()))
    }

    /// Sends a message and reads the answer.
    pub(super) async fn ask<Answer: DeserializeOwned>(
        &self,
        to: NodeId,
        kind: PeerCallKind,
        message: &impl Serialize,
        deadline: Duration,
    ) -> Result<Answer, PeerError> {
        if kind == PeerCallKind::Append && self.is_muted.load(Ordering::Relaxed) {
            return Err(PeerError::Unreachable("this leader has lost its quorum".into()));
        }
        let transport = self.transport()?;
        let peer = self.peer(to)?;
        let body = message::seal(self.own_id, to, message)?;
        let call = PeerCall { kind, body, deadline };
        let answer = tokio::time::timeout(deadline, transport.call(&peer, call)).await;
        let answer = answer.unwrap_or_else(|_| Err(PeerError::Failed("no answer in time".into())));
        self.note(to, &answer);
        let answer = answer?;
        // It arrived, whatever came back.
        message::read(&answer).map_err(|error| PeerError::Failed(error.to_string()))
    }

    fn note<T>(&self, to: NodeId, answer: &Result<T, PeerError>) {
        let was_reached = !self.unreachable.read().contains(&to);
        match answer {
            Ok(_) if !was_reached => drop(self.unreachable.write().remove(&to)),
            Err(PeerError::Unreachable(_)) if was_reached => drop(self.unreachable.write().insert(to)),
            _ => {}
        }
    }

    /// Whether the last message to a member got through, or none was sent.
    pub(super) fn reaches(&self, id: NodeId) -> bool {
        !self.unreachable.read().contains(&id)
    }

    /// Sends a stream and reads the answer.
    pub(super) async fn stream<Answer: DeserializeOwned>(
        &self,
        to: NodeId,
        kind: PeerCallKind,
        chunks: PeerChunks,
    ) -> Result<Answer, PeerError> {
        let answer = self
            .transport()?
            .send_stream(&self.peer(to)?, kind, chunks)
            .await?;
        message::read(&answer).map_err(|error| PeerError::Failed(error.to_string()))
    }
}
