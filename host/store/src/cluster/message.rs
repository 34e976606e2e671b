//! What members say to one another beside Raft's own messages, and the envelope around all of it.
//!
//! The envelope leads with a format number and names sender and receiver, so that what went to a wrong address
//! or comes from another version is turned away unread.

use bytes::{BufMut, Bytes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Member, PeerError};
use crate::{Error, LeaseId};

const FORMAT: u8 = 1;
const ENVELOPE_BYTES: usize = 1 + 8 + 8;

/// A leader's answer to what was forwarded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Reply<T> {
    Done(T),
    /// Nothing was done: the asked member does not lead, or not yet.
    NotLeader,
    Failed(Error),
}

/// A follower's lease traffic.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum LeaseAsk {
    KeepAlive(LeaseId),
    TimeToLive(LeaseId),
}

/// The leader's answer to it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LeaseAnswer {
    pub(crate) granted_ttl_seconds: i64,
    /// -1 when it has run out.
    pub(crate) remaining_ttl_seconds: i64,
}

/// A change of the members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    Add {
        peer_urls: Vec<String>,
        is_learner: bool,
    },
    Remove {
        id: u64,
    },
    Update {
        id: u64,
        peer_urls: Vec<String>,
    },
    Promote {
        id: u64,
    },
    /// A member that started makes its name and its client URLs known.
    Publish {
        id: u64,
        name: String,
        client_urls: Vec<String>,
    },
}

/// The members after a change, and the one that it was about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Changed {
    pub(crate) id: u64,
    pub(crate) members: Vec<Member>,
}

/// What a member that joins asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Roster {
    pub(crate) cluster_id: u64,
    /// Where in the log the change is that made them the members.
    pub(crate) index: u64,
    pub(crate) members: Vec<Member>,
}

/// A message in its envelope.
pub(crate) fn seal(from: u64, to: u64, message: &impl Serialize) -> Result<Bytes, PeerError> {
    let mut out = Vec::with_capacity(ENVELOPE_BYTES + 64);
    out.put_u8(FORMAT);
    out.put_u64(from);
    out.put_u64(to);
    let sealed = postcard::to_extend(message, out).map(Bytes::from);
    sealed.map_err(|error| PeerError::Unreachable(format!("encoding the message: {error}")))
}

/// The sender and the message. Turns away what is for another member; 0 is for whoever receives it.
pub(crate) fn open(own_id: u64, body: &Bytes) -> Result<(u64, Bytes), PeerError> {
    let refused = |what: String| Err(PeerError::Unreachable(what));
    let Some((head, _)) = body.split_first_chunk::<ENVELOPE_BYTES>() else {
        return refused("the message is too short".into());
    };
    let [format, ids @ ..] = head;
    if *format != FORMAT {
        return refused(format!("messages of format {format} are not understood"));
    }
    let id = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_be_bytes);
    let (from, to) = (id(&ids[..8]), id(&ids[8..]));
    if to != 0 && to != own_id {
        return refused(format!("the message is for member {to:x}, this is {own_id:x}"));
    }
    Ok((from, body.slice(ENVELOPE_BYTES..)))
}

/// A message out of its envelope, or an answer.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PeerError> {
    postcard::from_bytes(bytes).map_err(|error| PeerError::Unreachable(format!("not understood: {error}")))
}

/// An answer's body.
pub(crate) fn answer(value: &impl Serialize) -> Result<Bytes, PeerError> {
    let bytes = postcard::to_stdvec(value).map(Bytes::from);
    bytes.map_err(|error| PeerError::Failed(format!("encoding the answer: {error}")))
}
