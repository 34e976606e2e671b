//! The types that openraft is instantiated with.

use std::fmt;

use bytes::Bytes;
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig, impls};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Member;
use crate::replica::Outcome;

/// A command on its way through the log: encoded once, and cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proposal(pub(super) Bytes);

impl fmt::Display for Proposal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "proposal of {} bytes", self.0.len())
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bytes::deserialize(deserializer).map(Self)
    }
}

/// openraft, as this store uses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TypeConfig;

pub(super) type NodeId = u64;

/// What the membership says of a member. It is all that is known of it: addresses must be there as soon as
/// the member is, and travel with log and snapshot as the membership does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) peer_urls: Vec<String>,
    pub(super) client_urls: Vec<String>,
    /// It is to stay without a vote. Without this, one that has no vote yet gets it when it has caught up.
    pub(super) is_learner: bool,
}

impl Node {
    pub(super) fn member(&self, id: NodeId) -> Member {
        Member {
            id,
            name: self.name.clone(),
            peer_urls: self.peer_urls.clone(),
            client_urls: self.client_urls.clone(),
            is_learner: self.is_learner,
        }
    }
}

impl From<Member> for Node {
    fn from(member: Member) -> Self {
        Self {
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            is_learner: member.is_learner,
        }
    }
}

#[allow(deprecated)] // The runtime's own crate is not a dependency of ours.
impl RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Outcome;
    type NodeId = NodeId;
    type Node = Node;
    type Term = u64;
    type LeaderId = impls::leader_id_std::LeaderId<u64, NodeId>;
    type Vote = impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Self::D, Self::NodeId, Self::Node>;
    type Entry = openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = impls::TokioRuntime;
    type Responder<T>
        = impls::OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = impls::BoxedErrorSource;
}

pub(super) type Entry = <TypeConfig as RaftTypeConfig>::Entry;
pub(super) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(super) type CommittedLeaderId =
    <<TypeConfig as RaftTypeConfig>::LeaderId as openraft::vote::RaftLeaderId>::Committed;
pub(super) type Membership = openraft::Membership<NodeId, Node>;
pub(super) type Vote = <TypeConfig as RaftTypeConfig>::Vote;
pub(super) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(super) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(super) type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, crate::replica::Image>;

/// The leader of a term, as log ids name it.
pub(super) fn committed(term: u64) -> CommittedLeaderId {
    CommittedLeaderId { term }
}

/// Bytes that most of what is kept fits in, so that it is encoded without growing.
const ENCODED_BYTES: usize = 512;

/// Encodes what openraft wants kept.
pub(super) fn encode<T: Serialize>(value: &T) -> std::io::Result<Vec<u8>> {
    postcard::to_extend(value, Vec::with_capacity(ENCODED_BYTES)).map_err(std::io::Error::other)
}

/// Decodes what was kept.
pub(super) fn decode<T: for<'de> Deserialize<'de>>(what: &str, bytes: &[u8]) -> std::io::Result<T> {
    postcard::from_bytes(bytes).map_err(|error| {
        let error = crate::Error::Corrupt(format!("{what} cannot be decoded: {error}"));
        io_error(error)
    })
}

/// Our error in the clothes that openraft asks for.
pub(super) fn io_error(error: crate::Error) -> std::io::Error {
    std::io::Error::other(error)
}
