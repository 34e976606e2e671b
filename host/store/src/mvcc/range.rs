//! A read in two steps: which revisions answer it (under the state's lock), then their values (without).
//!
//! As in etcd, the count is that of the whole range; bounds on revisions come before the order, and the order
//! before the limit.

use bytes::Bytes;

use super::{Item, Record, Records, Rev, Span, State};
use crate::{Error, KeyValue, RangeRequest, RangeResponse, Result, Revision, SortTarget};

/// Bytes of values that are held to sort by them.
const SORTED_VALUE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A key that answers a read.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    /// Left empty where the record, which is read anyway, has it.
    pub(crate) key: Bytes,
    pub(crate) item: Item,
}

/// What a read has to fetch.
#[derive(Debug)]
pub(crate) struct RangePlan {
    /// The store's revision when it was planned.
    pub(crate) revision: Revision,
    /// The revision that it reads at.
    pub(crate) at: Revision,
    hits: Vec<Hit>,
    count: usize,
    /// How many of the hits are wanted, where they must all be sorted first.
    limit: usize,
    request: Shape,
}

/// What of a request matters after its keys were found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) keys_only: bool,
    sort: Option<(SortTarget, bool)>,
    bounds: [(Revision, Revision); 2],
}

impl Shape {
    pub(crate) fn of(request: &RangeRequest) -> Self {
        let upper = |bound| if bound > 0 { bound } else { Revision::MAX };
        let sort = request.sort.map(|sort| (sort.target, sort.descending));
        Self {
            keys_only: request.keys_only,
            sort: sort.filter(|sort| *sort != (SortTarget::Key, false)),
            bounds: [
                (request.min_mod_revision, upper(request.max_mod_revision)),
                (request.min_create_revision, upper(request.max_create_revision)),
            ],
        }
    }

    /// Whether keys can be answered in the order in which they are found.
    pub(crate) fn is_in_key_order(&self) -> bool {
        self.sort.is_none()
    }

    fn sorts_by_value(&self) -> bool {
        matches!(self.sort, Some((SortTarget::Value, _)))
    }

    /// Whether the bounds on revisions let a key through.
    pub(crate) fn admits(&self, item: &Item) -> bool {
        let [changed, created] = self.bounds;
        (changed.0..=changed.1).contains(&item.rev.main)
            && (created.0..=created.1).contains(&item.create_revision)
    }

    /// Sorts by anything but the value. Hits come in the order of their keys, and equals stay so, whichever way
    /// the order goes (as etcd's do).
    pub(crate) fn sort(&self, hits: &mut [Hit]) {
        let Some((target, descending)) = self.sort else {
            return;
        };
        if descending && target != SortTarget::Key {
            hits.reverse();
        }
        match target {
            SortTarget::Key => {}
            SortTarget::Version => hits.sort_by_key(|hit| hit.item.version),
            SortTarget::CreateRevision => hits.sort_by_key(|hit| hit.item.create_revision),
            SortTarget::ModRevision => hits.sort_by_key(|hit| hit.item.rev),
            SortTarget::Value => return,
        }
        if descending {
            hits.reverse();
        }
    }

    fn sort_by_value(&self, kvs: &mut [KeyValue]) {
        let descending = matches!(self.sort, Some((_, true)));
        kvs.sort_by(|one, other| {
            let order = one.value.cmp(&other.value);
            if descending { order.reverse() } else { order }
        });
    }

    /// The same read of keys and values that are at hand, in the order of their keys.
    pub(crate) fn apply(&self, kvs: &mut Vec<KeyValue>) {
        kvs.retain(|kv| {
            self.admits(&Item {
                rev: Rev {
                    main: kv.mod_revision,
                    sub: 0,
                },
                create_revision: kv.create_revision,
                ..Item::MISSING
            })
        });
        let Some((target, descending)) = self.sort else {
            return;
        };
        if descending && !matches!(target, SortTarget::Key | SortTarget::Value) {
            kvs.reverse();
        }
        match target {
            SortTarget::Key => {}
            SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
            SortTarget::CreateRevision => kvs.sort_by_key(|kv| kv.create_revision),
            SortTarget::ModRevision => kvs.sort_by_key(|kv| kv.mod_revision),
            SortTarget::Value => return self.sort_by_value(kvs),
        }
        if descending {
            kvs.reverse();
        }
    }
}

/// Decides what answers a read.
pub(crate) fn plan_range(state: &State, request: &RangeRequest) -> Result<RangePlan> {
    let at = state.read_revision(request.revision)?;
    let span = Span::of(&request.range);
    let shape = Shape::of(request);
    let limit = match request.limit {
        0 => usize::MAX,
        limit => limit,
    };
    let mut plan = RangePlan {
        revision: state.revision,
        at,
        hits: Vec::new(),
        count: 0,
        limit,
        request: shape,
    };
    if request.count_only {
        plan.count = count(state, &span, at);
        return Ok(plan);
    }
    // One more than asked for tells whether there are more.
    let needed = if shape.is_in_key_order() {
        limit.saturating_add(1)
    } else {
        usize::MAX
    };
    let mut found = state.index.range(&span, at);
    let mut passed = 0;
    let admitted = found.by_ref().inspect(|_| passed += 1);
    let admitted = admitted.filter(|(_, item)| shape.admits(item)).take(needed);
    plan.hits = admitted.map(|(key, item)| hit(key, item, &shape)).collect();
    plan.count = if plan.hits.len() < needed {
        passed
    } else {
        count(state, &span, at)
    };
    Ok(plan)
}

/// How many keys of a span a read at a revision sees.
pub(crate) fn count(state: &State, span: &Span, at: Revision) -> usize {
    if at == state.revision {
        state.index.count_latest(span)
    } else {
        state.index.range(span, at).count()
    }
}

pub(crate) fn hit(key: &[u8], item: Item, shape: &Shape) -> Hit {
    let key = if shape.keys_only && !shape.sorts_by_value() {
        Bytes::copy_from_slice(key)
    } else {
        Bytes::new()
    };
    Hit { key, item }
}

impl RangePlan {
    /// Fetches the values.
    pub(crate) fn fetch(self, records: &dyn Records) -> Result<RangeResponse> {
        let (mut kvs, more) = fetch_hits(records, self.hits, self.limit, &self.request)?;
        kvs.truncate(self.limit);
        Ok(RangeResponse {
            revision: self.revision,
            kvs,
            more,
            count: i64::try_from(self.count).unwrap_or(i64::MAX),
        })
    }
}

/// Sorts and fetches the first `limit` of the hits; also whether there are more.
pub(crate) fn fetch_hits(
    records: &dyn Records,
    mut hits: Vec<Hit>,
    limit: usize,
    shape: &Shape,
) -> Result<(Vec<KeyValue>, bool)> {
    let more = hits.len() > limit;
    if shape.sorts_by_value() {
        let bytes: u64 = hits.iter().map(|hit| u64::from(hit.item.value_bytes)).sum();
        if bytes > SORTED_VALUE_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "sorting {bytes} bytes of values; at most {SORTED_VALUE_BYTES_MAX} can be"
            )));
        }
        let kvs = hits.into_iter().map(|hit| fetch_one(records, hit, false));
        let mut kvs = kvs.collect::<Result<Vec<_>>>()?;
        shape.sort_by_value(&mut kvs);
        kvs.truncate(limit);
        if shape.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        return Ok((kvs, more));
    }
    shape.sort(&mut hits);
    let wanted = hits.into_iter().take(limit);
    let kvs = wanted.map(|hit| fetch_one(records, hit, shape.keys_only));
    Ok((kvs.collect::<Result<_>>()?, more))
}

/// The key and value of a hit.
pub(crate) fn fetch_one(records: &dyn Records, hit: Hit, keys_only: bool) -> Result<KeyValue> {
    let item = hit.item;
    if keys_only {
        return Ok(KeyValue {
            key: hit.key,
            value: Bytes::new(),
            create_revision: item.create_revision,
            mod_revision: item.rev.main,
            version: item.version,
            lease: item.lease,
        });
    }
    Ok(fetch(records, item.rev)?.key_value(item.rev.main))
}

/// A record that the index says exists.
pub(crate) fn fetch(records: &dyn Records, rev: Rev) -> Result<Record> {
    records.record(rev)?.ok_or_else(|| {
        Error::Corrupt(format!(
            "the record of revision {}.{} is missing",
            rev.main, rev.sub
        ))
    })
}
