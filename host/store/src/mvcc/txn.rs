//! What a transaction does to a state: its answer and its changes. The state itself is left alone.
//!
//! Order as in etcd: every comparison, nested ones too, looks at the state before the transaction; then
//! whatever could fail in the branches that run is checked; then they run, and a read in them sees the
//! writes before it. So a transaction either changes everything or nothing.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::range::{Shape, fetch};
use super::{Item, Record, Records, Rev, Span, State};
use crate::{
    Compare, CompareResult, CompareTarget, Error, KeyRange, KeyValue, Op, OpResponse, Put, RangeRequest,
    RangeResponse, Result, Revision, Txn, TxnResponse,
};

/// One change that a write makes.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) rev: Rev,
    pub(crate) record: Record,
    /// Where the value before it is.
    pub(crate) previous: Option<Rev>,
}

/// Runs a transaction.
pub(crate) fn execute(state: &State, records: &dyn Records, txn: &Txn) -> Result<(TxnResponse, Vec<Change>)> {
    let mut path = VecDeque::new();
    decide(state, records, txn, &mut path)?;
    check_path(state, txn, &mut path.clone())?;
    let mut run = Run::new(state, records);
    let response = run.txn(txn, &mut path)?;
    Ok((response, run.changes))
}

/// Deletes keys in one revision, as the end of a lease does.
pub(crate) fn delete_keys(state: &State, records: &dyn Records, keys: &[Bytes]) -> Result<Vec<Change>> {
    let mut run = Run::new(state, records);
    for key in keys {
        run.delete(&KeyRange::Key(key.clone()), false)?;
    }
    Ok(run.changes)
}

/// Evaluates all comparisons on the way; `path` says of each transaction, in order, whether they held.
fn decide(state: &State, records: &dyn Records, txn: &Txn, path: &mut VecDeque<bool>) -> Result<()> {
    let mut succeeded = true;
    for compare in &txn.compare {
        succeeded = succeeded && holds(state, records, compare)?;
    }
    path.push_back(succeeded);
    for op in branch(txn, succeeded) {
        if let Op::Txn(nested) = op {
            decide(state, records, nested, path)?;
        }
    }
    Ok(())
}

fn branch(txn: &Txn, succeeded: bool) -> &[Op] {
    if succeeded { &txn.success } else { &txn.failure }
}

fn holds(state: &State, records: &dyn Records, compare: &Compare) -> Result<bool> {
    let span = Span::of(&compare.range);
    let mut any = false;
    for (_, item) in state.index.range(&span, state.revision) {
        any = true;
        if !holds_for(records, compare, item)? {
            return Ok(false);
        }
    }
    if any {
        return Ok(true);
    }
    // A key that does not exist compares as zeros, but it has no value that could be compared.
    match &compare.target {
        CompareTarget::Value(_) => Ok(false),
        _ => holds_for(records, compare, Item::MISSING),
    }
}

fn holds_for(records: &dyn Records, compare: &Compare, item: Item) -> Result<bool> {
    let order = match &compare.target {
        CompareTarget::Version(version) => item.version.cmp(version),
        CompareTarget::CreateRevision(revision) => item.create_revision.cmp(revision),
        CompareTarget::ModRevision(revision) => item.rev.main.cmp(revision),
        CompareTarget::Lease(lease) => item.lease.cmp(lease),
        CompareTarget::Value(value) => fetch(records, item.rev)?.value.cmp(value),
    };
    Ok(match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
    })
}

/// Finds what would fail in the branches that will run, before anything runs.
fn check_path(state: &State, txn: &Txn, path: &mut VecDeque<bool>) -> Result<()> {
    let succeeded = path.pop_front().unwrap_or(false);
    for op in branch(txn, succeeded) {
        match op {
            Op::Range(request) => {
                state.read_revision(request.revision)?;
            }
            Op::Put(put) => {
                if put.lease != 0 && !state.leases.contains(put.lease) {
                    return Err(Error::LeaseNotFound);
                }
                if (put.ignore_value || put.ignore_lease) && state.index.latest(&put.key).is_none() {
                    return Err(Error::KeyNotFound);
                }
            }
            Op::Delete { .. } => {}
            Op::Txn(nested) => check_path(state, nested, path)?,
        }
    }
    Ok(())
}

/// A transaction while it runs: the state, and over it the changes so far.
struct Run<'a> {
    state: &'a State,
    records: &'a dyn Records,
    revision: Revision,
    changes: Vec<Change>,
    /// The latest change of each changed key.
    changed: BTreeMap<Bytes, usize>,
}

impl<'a> Run<'a> {
    fn new(state: &'a State, records: &'a dyn Records) -> Self {
        let revision = state.revision + 1;
        Self {
            state,
            records,
            revision,
            changes: Vec::new(),
            changed: BTreeMap::new(),
        }
    }

    /// The store's revision as the transaction sees it.
    fn current(&self) -> Revision {
        if self.changes.is_empty() {
            self.state.revision
        } else {
            self.revision
        }
    }

    fn txn(&mut self, txn: &Txn, path: &mut VecDeque<bool>) -> Result<TxnResponse> {
        let succeeded = path.pop_front().unwrap_or(false);
        let mut responses = Vec::with_capacity(branch(txn, succeeded).len());
        for op in branch(txn, succeeded) {
            responses.push(match op {
                Op::Range(request) => OpResponse::Range(self.range(request)?),
                Op::Put(put) => OpResponse::Put {
                    prev_kv: self.put(put)?,
                },
                Op::Delete { range, prev_kv } => self.delete(range, *prev_kv)?,
                Op::Txn(nested) => OpResponse::Txn(self.txn(nested, path)?),
            });
        }
        Ok(TxnResponse {
            revision: self.current(),
            succeeded,
            responses,
        })
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let sees_changes = request.revision <= 0 && !self.changes.is_empty();
        if !sees_changes {
            let plan = super::plan_range(self.state, request)?;
            return Ok(RangeResponse {
                revision: self.current(),
                ..plan.fetch(self.records)?
            });
        }
        let mut kvs = Vec::new();
        for key in self.live_keys(&Span::of(&request.range)) {
            kvs.extend(self.latest(&key)?);
        }
        let count = kvs.len();
        Shape::of(request).apply(&mut kvs);
        let more = request.limit > 0 && kvs.len() > request.limit && !request.count_only;
        if request.count_only {
            kvs.clear();
        }
        if request.limit > 0 {
            kvs.truncate(request.limit);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(RangeResponse {
            revision: self.current(),
            more,
            kvs,
            count: i64::try_from(count).unwrap_or(i64::MAX),
        })
    }

    fn put(&mut self, put: &Put) -> Result<Option<KeyValue>> {
        let needs_value = put.prev_kv || put.ignore_value;
        let before = self.item(&put.key);
        let previous = if needs_value { self.latest(&put.key)? } else { None };
        let value = match &previous {
            Some(kv) if put.ignore_value => kv.value.clone(),
            None if put.ignore_value => return Err(Error::KeyNotFound),
            _ => put.value.clone(),
        };
        let lease = if put.ignore_lease {
            before.map_or(0, |item| item.lease)
        } else {
            put.lease
        };
        let record = Record {
            key: put.key.clone(),
            value,
            create_revision: before.map_or(self.revision, |item| item.create_revision),
            version: before.map_or(0, |item| item.version) + 1,
            lease,
            deleted: false,
        };
        self.push(record, before.map(|item| item.rev));
        Ok(previous.filter(|_| put.prev_kv))
    }

    fn delete(&mut self, range: &KeyRange, prev_kv: bool) -> Result<OpResponse> {
        let keys = self.live_keys(&Span::of(range));
        let mut prev_kvs = Vec::new();
        for key in &keys {
            if prev_kv {
                prev_kvs.extend(self.latest(key)?);
            }
            let record = Record {
                key: key.clone(),
                value: Bytes::new(),
                create_revision: 0,
                version: 0,
                lease: 0,
                deleted: true,
            };
            let before = self.item(key).map(|item| item.rev);
            self.push(record, before);
        }
        Ok(OpResponse::Delete {
            deleted: i64::try_from(keys.len()).unwrap_or(i64::MAX),
            prev_kvs,
        })
    }

    fn push(&mut self, record: Record, previous: Option<Rev>) {
        let at = self.changes.len();
        let rev = Rev {
            main: self.revision,
            sub: u32::try_from(at).unwrap_or(u32::MAX),
        };
        self.changed.insert(record.key.clone(), at);
        self.changes.push(Change {
            rev,
            record,
            previous,
        });
    }

    /// The key as it is now, changes included.
    fn item(&self, key: &Bytes) -> Option<Item> {
        let Some(at) = self.changed.get(key) else {
            return self.state.index.latest(key);
        };
        let Change { rev, record, .. } = &self.changes[*at];
        (!record.deleted).then_some(Item {
            rev: *rev,
            create_revision: record.create_revision,
            version: record.version,
            lease: record.lease,
            ..Item::MISSING
        })
    }

    fn latest(&self, key: &Bytes) -> Result<Option<KeyValue>> {
        if let Some(at) = self.changed.get(key) {
            let Change { rev, record, .. } = &self.changes[*at];
            return Ok((!record.deleted).then(|| record.clone().key_value(rev.main)));
        }
        let Some(item) = self.state.index.latest(key) else {
            return Ok(None);
        };
        Ok(Some(fetch(self.records, item.rev)?.key_value(item.rev.main)))
    }

    fn live_keys(&self, span: &Span) -> Vec<Bytes> {
        let stored = self.state.index.range(span, self.state.revision);
        let mut keys: Vec<Bytes> = stored
            .map(|(key, _)| key)
            .filter(|key| !self.changed.contains_key(*key))
            .map(Bytes::copy_from_slice)
            .collect();
        let changed = self.changed.iter().filter(|(key, _)| span.contains(key));
        keys.extend(
            changed
                .filter(|(_, at)| !self.changes[**at].record.deleted)
                .map(|(key, _)| key.clone()),
        );
        keys.sort_unstable();
        keys
    }
}
