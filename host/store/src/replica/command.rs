//! What can be proposed, and what applying it answers.
//!
//! The encoding leads with a format number, so that a log of another format is refused rather than misread.

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};

use crate::auth::{Access, AuthCommand, AuthInfo};
use crate::mvcc::State;
use crate::{Alarm, Error, LeaseId, Op, Result, Revision, Txn, TxnResponse};

const FORMAT: u8 = 1;
/// Bytes that most commands fit in, so that they are encoded without growing.
const ENCODED_BYTES: usize = 512;

/// A change of the state. Deterministic: whatever depends on time or chance was decided by the proposer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    Txn(Txn),
    Compact {
        revision: Revision,
    },
    LeaseGrant {
        id: LeaseId,
        ttl_seconds: i64,
    },
    LeaseRevoke {
        id: LeaseId,
    },
    /// A command of a client, to be checked against its permissions again where it is applied. Nobody is a
    /// client without a name. Never nested.
    By(
        Option<AuthInfo>,
        #[serde(deserialize_with = "crate::nest::bounded")] Box<Command>,
    ),
    /// Passwords in it are hashed.
    Auth(AuthCommand),
    /// Lets a user in whose password was checked at this auth revision.
    Authenticate {
        user: String,
        token: String,
        auth_revision: u64,
    },
    Alarm {
        alarm: Alarm,
        is_raised: bool,
    },
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
    /// The command itself, whoever it is of.
    pub(super) fn inner(&self) -> &Self {
        match self {
            Self::By(_, command) => command,
            command => command,
        }
    }

    /// Whether it may make the store larger, so that the quota has a say: puts and leases, as in etcd.
    pub(crate) fn grows(&self) -> bool {
        match self {
            Self::Txn(txn) => has_put(txn),
            Self::LeaseGrant { .. } => true,
            Self::By(_, command) => command.grows(),
            _ => false,
        }
    }

    /// Whether it reads or changes keys or leases, which nobody may while the store is known to be corrupt.
    fn touches(&self) -> bool {
        match self {
            Self::Txn(_) | Self::Compact { .. } | Self::LeaseGrant { .. } | Self::LeaseRevoke { .. } => true,
            Self::By(_, command) => command.touches(),
            Self::Auth(_) | Self::Authenticate { .. } | Self::Alarm { .. } => false,
        }
    }

    /// Whether it may be carried out in this state at all: alarms, and the client's permissions. Called before
    /// it is proposed, and where it is applied.
    pub(crate) fn admit(&self, state: &State) -> Result<()> {
        state.alarms.admit(self.touches(), self.grows())?;
        let Self::By(caller, command) = self else {
            return Ok(());
        };
        let (auth, caller) = (&state.auth, caller.as_ref());
        match &**command {
            Self::Txn(txn) => auth.check_txn(caller, txn, &|lease| state.lease_keys(lease))?,
            Self::LeaseRevoke { id } => auth.check_keys(caller, Access::Write, state.lease_keys(*id))?,
            Self::Auth(_) => auth.check_admin(caller)?,
            Self::By(..) => return Err(Error::Corrupt("a command in the log is nested".into())),
            Self::Compact { .. }
            | Self::LeaseGrant { .. }
            | Self::Authenticate { .. }
            | Self::Alarm { .. } => {}
        }
        Ok(())
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        let mut out = Vec::with_capacity(ENCODED_BYTES);
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

fn has_put(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Put(_) => true,
        Op::Range(_) | Op::Delete { .. } => false,
        Op::Txn(nested) => has_put(nested),
    })
}
