//! What can be refused of a request by looking at it alone, with etcd's own words.
//!
//! Called before a proposal, so that a senseless request never reaches the log. What depends on the state
//! (leases, existing keys, revisions) is decided when it is applied.

use bytes::Bytes;

use super::Span;
use crate::{KeyRange, Op, Put, RangeRequest, Refusal, Result, Txn};

/// Checks a read.
pub(crate) fn check_range(request: &RangeRequest) -> Result<()> {
    check_key_range(&request.range)
}

fn check_key_range(range: &KeyRange) -> Result<()> {
    match range {
        KeyRange::Key(key) if key.is_empty() => Err(Refusal::EmptyKey.into()),
        _ => Ok(()),
    }
}

fn check_put(put: &Put) -> Result<()> {
    if put.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Refusal::ValueProvided.into());
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Refusal::LeaseProvided.into());
    }
    Ok(())
}

/// Checks a transaction.
pub(crate) fn check_txn(txn: &Txn, ops_max: usize) -> Result<()> {
    check_ops(txn, ops_max)?;
    check_writes(&txn.success)?;
    check_writes(&txn.failure)?;
    Ok(())
}

/// What a transaction takes of the bound its nested ones no longer have, as in etcd; so their depth is bounded.
fn check_ops(txn: &Txn, ops_max: usize) -> Result<()> {
    let count = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if count > ops_max {
        return Err(Refusal::TooManyOps.into());
    }
    for compare in &txn.compare {
        check_key_range(&compare.range)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(request) => check_range(request)?,
            Op::Put(put) => check_put(put)?,
            Op::Delete { range, .. } => check_key_range(range)?,
            Op::Txn(nested) => check_ops(nested, ops_max - count)?,
        }
    }
    Ok(())
}

/// The keys that a branch may put and the ranges that it may delete.
#[derive(Default)]
struct Writes {
    puts: Vec<Bytes>,
    deletes: Vec<Span>,
}

impl Writes {
    fn has_put(&self, key: &Bytes) -> bool {
        self.puts.contains(key)
    }

    fn add_put(&mut self, key: &Bytes, allowed_twice: bool) -> Result<()> {
        let twice = self.has_put(key) && !allowed_twice;
        if twice || self.deletes.iter().any(|span| span.contains(key)) {
            return Err(Refusal::DuplicateKey.into());
        }
        self.puts.push(key.clone());
        Ok(())
    }
}

/// No key may be changed twice by one run of a branch. The two branches of a nested transaction exclude one
/// another, so the same key may be put in both.
fn check_writes(ops: &[Op]) -> Result<Writes> {
    let mut writes = Writes::default();
    for op in ops {
        if let Op::Delete { range, .. } = op {
            writes.deletes.push(Span::of(range));
        }
    }
    for op in ops {
        let Op::Txn(nested) = op else { continue };
        let success = check_writes(&nested.success)?;
        let failure = check_writes(&nested.failure)?;
        for key in &success.puts {
            writes.add_put(key, false)?;
        }
        for key in &failure.puts {
            writes.add_put(key, success.has_put(key))?;
        }
        writes.deletes.extend(success.deletes);
        writes.deletes.extend(failure.deletes);
    }
    for op in ops {
        if let Op::Put(put) = op {
            writes.add_put(&put.key, false)?;
        }
    }
    Ok(writes)
}

/// Whether neither branch can change anything: then it is answered as a read, and never proposed.
pub(crate) fn is_read_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::Delete { .. } => false,
        Op::Txn(nested) => is_read_only(nested),
    })
}
