//! What can be refused of a request by looking at it alone, with etcd's own words.
//!
//! Called before a proposal, so that a senseless request never reaches the log. What depends on the state
//! (leases, existing keys, revisions) is decided when it is applied.

use bytes::Bytes;

use super::Span;
use crate::{Error, KeyRange, Op, Put, RangeRequest, Result, Txn};

/// Operations in one branch of a transaction (etcd's default).
const TXN_OPS_MAX: usize = 128;
/// Transactions inside one another.
const TXN_DEPTH_MAX: usize = 8;

fn invalid(text: &str) -> Error {
    Error::Invalid(text.to_owned())
}

/// Checks a read.
pub(crate) fn check_range(request: &RangeRequest) -> Result<()> {
    check_key_range(&request.range)
}

fn check_key_range(range: &KeyRange) -> Result<()> {
    match range {
        KeyRange::Key(key) if key.is_empty() => Err(invalid("etcdserver: key is not provided")),
        _ => Ok(()),
    }
}

fn check_put(put: &Put) -> Result<()> {
    if put.key.is_empty() {
        return Err(invalid("etcdserver: key is not provided"));
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(invalid("etcdserver: value is provided"));
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(invalid("etcdserver: lease is provided"));
    }
    Ok(())
}

/// Checks a transaction.
pub(crate) fn check_txn(txn: &Txn) -> Result<()> {
    check_ops(txn, 1)?;
    check_writes(&txn.success)?;
    check_writes(&txn.failure)?;
    Ok(())
}

fn check_ops(txn: &Txn, depth: usize) -> Result<()> {
    let sizes = [txn.compare.len(), txn.success.len(), txn.failure.len()];
    if depth > TXN_DEPTH_MAX || sizes.iter().any(|size| *size > TXN_OPS_MAX) {
        return Err(invalid("etcdserver: too many operations in txn request"));
    }
    for compare in &txn.compare {
        check_key_range(&compare.range)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(request) => check_range(request)?,
            Op::Put(put) => check_put(put)?,
            Op::Delete { range, .. } => check_key_range(range)?,
            Op::Txn(nested) => check_ops(nested, depth + 1)?,
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
            return Err(invalid("etcdserver: duplicate key given in txn request"));
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
