//! Between the trait's types and etcd's messages, in the client's direction.

use bytes::Bytes;
use capstan_store::{
    Compare, CompareResult, CompareTarget, Error, Event, KeyRange, KeyValue, Op, OpResponse, Put,
    RangeRequest, RangeResponse, Result, Revision, SortTarget, Txn, TxnResponse,
};

use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb;

const ZERO: Bytes = Bytes::from_static(b"\0");

/// `key` and `range_end`.
pub(super) fn bounds(range: &KeyRange) -> (Bytes, Bytes) {
    let from = |key: &Bytes| if key.is_empty() { ZERO } else { key.clone() };
    match range {
        KeyRange::Key(key) => (key.clone(), Bytes::new()),
        KeyRange::Prefix(prefix) => (from(prefix), after(prefix)),
        // Nothing is below these ends, but on the wire they mean one key, and all that follow.
        KeyRange::Span(_, end) if end.is_empty() || *end == ZERO => {
            (Bytes::from_static(b"\x01"), Bytes::from_static(b"\0\0"))
        }
        KeyRange::Span(start, end) => (from(start), end.clone()),
        KeyRange::From(start) => (from(start), ZERO),
    }
}

/// The end of a prefix's range; `\0` is no end.
fn after(prefix: &Bytes) -> Bytes {
    let Some(last) = prefix.iter().rposition(|byte| *byte != u8::MAX) else {
        return ZERO;
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

pub(super) fn range(request: &RangeRequest) -> pb::RangeRequest {
    use pb::range_request::{SortOrder, SortTarget as Target};
    let (key, range_end) = bounds(&request.range);
    let (order, target) = match request.sort {
        None => (SortOrder::None, Target::Key),
        Some(sort) => {
            let order = if sort.descending {
                SortOrder::Descend
            } else {
                SortOrder::Ascend
            };
            let target = match sort.target {
                SortTarget::Key => Target::Key,
                SortTarget::Version => Target::Version,
                SortTarget::CreateRevision => Target::Create,
                SortTarget::ModRevision => Target::Mod,
                SortTarget::Value => Target::Value,
            };
            (order, target)
        }
    };
    pb::RangeRequest {
        key,
        range_end,
        limit: i64::try_from(request.limit).unwrap_or(i64::MAX),
        revision: request.revision,
        sort_order: order.into(),
        sort_target: target.into(),
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

pub(super) fn put(put: &Put) -> pb::PutRequest {
    pb::PutRequest {
        key: put.key.clone(),
        value: put.value.clone(),
        lease: put.lease,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

pub(super) fn delete(range: &KeyRange, prev_kv: bool) -> pb::DeleteRangeRequest {
    let (key, range_end) = bounds(range);
    pb::DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    }
}

pub(super) fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: txn.success.iter().map(op).collect(),
        failure: txn.failure.iter().map(op).collect(),
    }
}

fn op(op: &Op) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match op {
        Op::Range(request) => Request::RequestRange(range(request)),
        Op::Put(request) => Request::RequestPut(put(request)),
        Op::Delete { range, prev_kv } => Request::RequestDeleteRange(delete(range, *prev_kv)),
        Op::Txn(nested) => Request::RequestTxn(txn(nested)),
    };
    pb::RequestOp {
        request: Some(request),
    }
}

fn compare(compare: &Compare) -> pb::Compare {
    use pb::compare::{CompareResult as Relation, CompareTarget as Target, TargetUnion};
    let (key, range_end) = bounds(&compare.range);
    let (target, value) = match &compare.target {
        CompareTarget::Version(version) => (Target::Version, TargetUnion::Version(*version)),
        CompareTarget::CreateRevision(revision) => (Target::Create, TargetUnion::CreateRevision(*revision)),
        CompareTarget::ModRevision(revision) => (Target::Mod, TargetUnion::ModRevision(*revision)),
        CompareTarget::Value(value) => (Target::Value, TargetUnion::Value(value.clone())),
        CompareTarget::Lease(lease) => (Target::Lease, TargetUnion::Lease(*lease)),
    };
    let relation = match compare.result {
        CompareResult::Equal => Relation::Equal,
        CompareResult::NotEqual => Relation::NotEqual,
        CompareResult::Greater => Relation::Greater,
        CompareResult::Less => Relation::Less,
    };
    pb::Compare {
        result: relation.into(),
        target: target.into(),
        key,
        range_end,
        target_union: Some(value),
    }
}

/// Whether neither branch can change anything.
pub(super) fn is_read_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::Delete { .. } => false,
        Op::Txn(nested) => is_read_only(nested),
    })
}

/// A read of an old revision in the transaction, if there is one.
pub(super) fn past_read(txn: &Txn) -> Option<(&KeyRange, Revision)> {
    txn.success.iter().chain(&txn.failure).find_map(|op| match op {
        Op::Range(request) if request.revision > 0 => Some((&request.range, request.revision)),
        Op::Txn(nested) => past_read(nested),
        _ => None,
    })
}

pub(super) fn revision(header: Option<&pb::ResponseHeader>) -> Revision {
    header.map_or(0, |header| header.revision)
}

pub(super) fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub(super) fn range_answer(answer: pb::RangeResponse) -> RangeResponse {
    RangeResponse {
        revision: revision(answer.header.as_ref()),
        kvs: answer.kvs.into_iter().map(key_value).collect(),
        more: answer.more,
        count: answer.count,
    }
}

pub(super) fn txn_answer(answer: pb::TxnResponse) -> Result<TxnResponse> {
    let header = revision(answer.header.as_ref());
    let responses: Result<Vec<_>> = answer
        .responses
        .into_iter()
        .map(|response| op_answer(response, header))
        .collect();
    Ok(TxnResponse {
        revision: header,
        succeeded: answer.succeeded,
        responses: responses?,
    })
}

fn op_answer(answer: pb::ResponseOp, header: Revision) -> Result<OpResponse> {
    use pb::response_op::Response;
    let previous = |kvs: Vec<mvccpb::KeyValue>| kvs.into_iter().map(key_value).collect();
    match answer.response {
        Some(Response::ResponseRange(answer)) => Ok(OpResponse::Range(range_answer(answer))),
        Some(Response::ResponsePut(answer)) => Ok(OpResponse::Put {
            prev_kv: answer.prev_kv.map(key_value),
        }),
        Some(Response::ResponseDeleteRange(answer)) => Ok(OpResponse::Delete {
            deleted: answer.deleted,
            prev_kvs: previous(answer.prev_kvs),
        }),
        Some(Response::ResponseTxn(mut answer)) => {
            // A nested answer comes without a header.
            answer.header.get_or_insert_default().revision = header;
            txn_answer(answer).map(OpResponse::Txn)
        }
        None => Err(Error::Unknown(
            "the store answered an operation with nothing".into(),
        )),
    }
}

pub(super) fn event(event: mvccpb::Event) -> Option<Event> {
    let kv = key_value(event.kv?);
    let prev_kv = event.prev_kv.map(key_value);
    Some(if event.r#type == i32::from(mvccpb::event::EventType::Delete) {
        Event::Delete { kv, prev_kv }
    } else {
        Event::Put { kv, prev_kv }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_mean_on_the_wire_what_they_mean_here() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        for (range, start, end) in [
            (KeyRange::Key(key("a")), &b"a"[..], &b""[..]),
            (KeyRange::Prefix(key("a")), b"a", b"b"),
            (KeyRange::Prefix(key("")), b"\0", b"\0"),
            (
                KeyRange::Prefix(Bytes::from_static(b"a\xff\xff")),
                b"a\xff\xff",
                b"b",
            ),
            (KeyRange::Prefix(Bytes::from_static(b"\xff")), b"\xff", b"\0"),
            (KeyRange::Span(key("a"), key("c")), b"a", b"c"),
            (KeyRange::Span(key(""), key("c")), b"\0", b"c"),
            (KeyRange::Span(key("a"), key("")), b"\x01", b"\0\0"),
            (KeyRange::Span(key("a"), key("\0")), b"\x01", b"\0\0"),
            (KeyRange::From(key("a")), b"a", b"\0"),
            (KeyRange::From(key("")), b"\0", b"\0"),
        ] {
            let (from, to) = bounds(&range);
            assert_eq!((&from[..], &to[..]), (start, end), "{range:?}");
        }
    }
}
