//! The keys of the state's rows: one letter a kind.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::whole::Sum;
use crate::alarm::Alarms;
use crate::mvcc::Rev;
use crate::{Error, LeaseId, Result, Revision};

/// Values that the state machine keeps beside the state, written in the same batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The last applied entry.
    Applied,
    /// The last applied membership.
    Membership,
    /// A checkpoint was taken: the log before it may be gone.
    Checkpoint,
}

pub(super) const RECORD: u8 = b'r';
pub(super) const LEASE: u8 = b'l';
/// The compact revision.
pub(super) const COMPACT: [u8; 1] = [b'c'];
/// Present while a snapshot is being installed.
pub(super) const INSTALLING: [u8; 1] = [b'i'];

/// Users and roles.
pub(super) const AUTH: [u8; 1] = [b'u'];
/// The alarms that are raised.
pub(super) const ALARMS: [u8; 1] = [b'n'];
/// The revision that a restored backup left the store at, before any entry is applied, and the sum of its records.
pub(super) const RESTORED: [u8; 1] = [b'b'];
/// The records that compactions deleted: their sum, and the last of them, which may still be there.
pub(super) const DELETED: [u8; 1] = [b'g'];
/// What the rows that are not records must be: see [`super::whole::Rest`].
pub(super) const REST: [u8; 1] = [b'z'];

pub(super) fn encode_alarms(alarms: &Alarms) -> Result<Bytes> {
    let encoded = postcard::to_stdvec(alarms);
    encoded
        .map(Bytes::from)
        .map_err(|error| Error::Invalid(format!("encoding the alarms: {error}")))
}

pub(super) fn decode_alarms(row: &[u8]) -> Result<Alarms> {
    postcard::from_bytes(row).map_err(|error| Error::Corrupt(format!("the alarms: {error}")))
}

pub(super) fn mark(mark: Mark) -> [u8; 1] {
    match mark {
        Mark::Applied => *b"a",
        Mark::Membership => *b"m",
        Mark::Checkpoint => *b"k",
    }
}

pub(super) fn record(rev: Rev) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + Rev::ENCODED_BYTES);
    key.push(RECORD);
    key.extend_from_slice(&rev.encode());
    key
}

pub(super) fn record_rev(key: &[u8]) -> Option<Rev> {
    key.strip_prefix(&[RECORD]).and_then(Rev::decode)
}

pub(super) fn lease(id: LeaseId) -> Vec<u8> {
    let mut key = vec![LEASE];
    key.extend_from_slice(&id.to_be_bytes());
    key
}

pub(super) fn lease_id(key: &[u8]) -> Option<LeaseId> {
    let id = key.strip_prefix(&[LEASE])?;
    Some(LeaseId::from_be_bytes(id.try_into().ok()?))
}

/// A mark's row. That of the applied entry leads with the revision that the entry left the store at, records of later
/// ones are not whole; and with the sum of all records that were written up to it.
pub(super) fn mark_value(mark: Mark, revision: Revision, sum: Sum, value: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(size_of::<Revision>() + size_of::<u64>() + value.len());
    if mark == Mark::Applied {
        row.put_i64(revision);
        row.put_u64(sum.0);
    }
    row.put_slice(value);
    row.freeze()
}

/// The revision, the sum and the value in a mark's row; the first two are that of the applied entry only.
pub(super) fn split_mark(mark: Mark, mut row: Bytes) -> Option<(Revision, Sum, Bytes)> {
    if mark != Mark::Applied {
        return Some((0, Sum::default(), row));
    }
    let revision = row.try_get_i64().ok()?;
    let sum = row.try_get_u64().ok()?;
    Some((revision, Sum(sum), row))
}

/// The row of a restored backup.
pub(super) fn restored(revision: Revision, sum: Sum) -> Bytes {
    let mut row = BytesMut::with_capacity(size_of::<Revision>() + size_of::<u64>());
    row.put_i64(revision);
    row.put_u64(sum.0);
    row.freeze()
}

pub(super) fn split_restored(mut row: Bytes) -> Option<(Revision, Sum)> {
    Some((row.try_get_i64().ok()?, Sum(row.try_get_u64().ok()?)))
}

/// The row of deleted records.
pub(super) fn deleted(sum: Sum, last: &[Rev]) -> Bytes {
    let mut row = BytesMut::with_capacity(size_of::<u64>() + last.len() * Rev::ENCODED_BYTES);
    row.put_u64(sum.0);
    last.iter().for_each(|rev| row.put_slice(&rev.encode()));
    row.freeze()
}

pub(super) fn split_deleted(mut row: Bytes) -> Option<(Sum, Vec<Rev>)> {
    let sum = Sum(row.try_get_u64().ok()?);
    let last = row.chunks(Rev::ENCODED_BYTES).map(Rev::decode);
    Some((sum, last.collect::<Option<_>>()?))
}
