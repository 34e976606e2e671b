//! What carries messages between members: gRPC in `capstan-etcd`, memory with faults in tests.
//!
//! Bodies are opaque to it. It need not keep an order between calls, and must not repeat one by itself.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// The member that a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The sender's cluster, which the transport hands to the receiver beside the body. 0: not known yet.
    pub cluster_id: u64,
    /// The member's id. 0: not known yet, whoever answers at these URLs.
    pub id: u64,
    /// Where it is reached; any of them.
    pub peer_urls: Vec<String>,
}

/// One message that awaits an answer.
#[derive(Debug, Clone)]
pub struct PeerCall {
    /// What it is.
    pub kind: PeerCallKind,
    /// Its content.
    pub body: Bytes,
    /// After this time the answer is of no use.
    pub deadline: Duration,
}

/// What a message is: the transport may keep kinds apart, so that large ones do not delay small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PeerCallKind {
    /// Entries of the log, or a sign of life. The leader's.
    Append = 1,
    /// A vote, or a question whether one would be given.
    Vote = 2,
    /// Leadership is handed over.
    TransferLeader = 3,
    /// The whole state, as a stream.
    Snapshot = 4,
    /// A follower's write.
    Propose = 5,
    /// A follower asks how far it must have applied to read.
    ReadIndex = 6,
    /// A follower's lease traffic.
    Lease = 7,
    /// A change of membership.
    Reconfigure = 8,
    /// Who the members are: asked by one that joins.
    Members = 9,
}

impl PeerCallKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Append,
        Self::Vote,
        Self::TransferLeader,
        Self::Snapshot,
        Self::Propose,
        Self::ReadIndex,
        Self::Lease,
        Self::Reconfigure,
        Self::Members,
    ];

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with this number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// A streamed message.
pub type PeerChunks = BoxStream<'static, Result<Bytes, PeerError>>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The message surely did not take effect: it never arrived, or was turned away unread.
    #[error("not delivered: {0}")]
    Unreachable(String),
    /// It may have been carried out.
    #[error("no answer: {0}")]
    Failed(String),
}

/// The way to other members.
#[async_trait]
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends a message and returns its answer; gives up by the deadline.
    async fn call(&self, to: &Peer, call: PeerCall) -> Result<Bytes, PeerError>;

    /// Sends a message of many chunks, of which it holds few at a time, and returns its answer.
    async fn send_stream(
        &self,
        to: &Peer,
        kind: PeerCallKind,
        chunks: PeerChunks,
    ) -> Result<Bytes, PeerError>;
}
