//! What can be proposed, and what applying it answers.
//!
//! The encoding leads with a format number, so that a log of another format is refused rather than misread.

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};

use crate::{Error, LeaseId, Result, Revision, Txn, TxnResponse};

const FORMAT: u8 = 1;

/// A change of the state. Deterministic: whatever depends on time or chance was decided by the proposer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    Txn(Txn),
    Compact { revision: Revision },
    LeaseGrant { id: LeaseId, ttl_seconds: i64 },
    LeaseRevoke { id: LeaseId },
}

/// The answer to a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Of a transaction.
    Txn(Result<TxnResponse>),
    /// Of any other command, and of entries that are not commands.
    Done(Result<()>),
}

impl Command {
    pub(crate) fn encode(&self) -> Result<Bytes> {
        let mut out = Vec::new();
        out.put_u8(FORMAT);
        let encoded = postcard::to_extend(self, out);
        encoded
            .map(Bytes::from)
            .map_err(|error| Error::Invalid(format!("encoding the request: {error}")))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: String| Error::Corrupt(format!("a command in the log: {what}"));
        match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(|error| damaged(error.to_string())),
            Some((format, _)) => Err(damaged(format!("format {format} is not known"))),
            None => Err(damaged("empty".into())),
        }
    }
}
