//! A read in two steps: which revisions answer it (under the state's lock), then their values (without).

use bytes::Bytes;

use super::{Item, Record, Records, Rev, Span, State};
use crate::{Error, KeyValue, RangeRequest, RangeResponse, Result, Revision};

/// What a read has to fetch.
#[derive(Debug)]
pub(crate) struct RangePlan {
    /// The store's revision when it was planned.
    pub(crate) revision: Revision,
    /// The revision that it reads at.
    pub(crate) at: Revision,
    pub(crate) hits: Vec<(Bytes, Item)>,
    count: usize,
    keys_only: bool,
}

/// Decides what answers a read.
pub(crate) fn plan_range(state: &State, request: &RangeRequest) -> Result<RangePlan> {
    let at = state.read_revision(request.revision)?;
    let span = Span::of(&request.range);
    let limit = match request.limit {
        _ if request.count_only => 0,
        0 => usize::MAX,
        limit => limit,
    };
    let mut found = state.index.range(&span, at);
    let hits: Vec<_> = found
        .by_ref()
        .take(limit)
        .map(|(key, item)| (key.clone(), item))
        .collect();
    let count = if at == state.revision && hits.len() == limit {
        state.index.count_latest(&span)
    } else {
        hits.len() + found.count()
    };
    Ok(RangePlan {
        revision: state.revision,
        at,
        hits,
        count,
        keys_only: request.keys_only,
    })
}

impl RangePlan {
    /// Fetches the values.
    pub(crate) fn fetch(self, records: &dyn Records) -> Result<RangeResponse> {
        let more = self.count > self.hits.len() && !self.hits.is_empty();
        let keys_only = self.keys_only;
        let pairs = self.hits.into_iter();
        let kvs = pairs.map(|(key, item)| fetch_one(records, key, item, keys_only));
        Ok(RangeResponse {
            revision: self.revision,
            kvs: kvs.collect::<Result<_>>()?,
            more,
            count: i64::try_from(self.count).unwrap_or(i64::MAX),
        })
    }
}

fn fetch_one(records: &dyn Records, key: Bytes, item: Item, keys_only: bool) -> Result<KeyValue> {
    let value = if keys_only {
        Bytes::new()
    } else {
        fetch(records, item.rev)?.value
    };
    Ok(KeyValue {
        key,
        value,
        create_revision: item.create_revision,
        mod_revision: item.rev.main,
        version: item.version,
        lease: item.lease,
    })
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
