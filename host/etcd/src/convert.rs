//! etcd's messages from and to the store's types, for a member's face.
//!
//! Requests become the store's; answers become etcd's, headers as etcd fills them: whole at the top, only the
//! revision in a transaction's operations, empty in a nested transaction. Keys are copied out of the buffer
//! that a request came in, as some are kept for long. What is wrong in a request is `face::check`'s to say.

use bytes::Bytes;
use capstan_store::{
    Compare, CompareResult, CompareTarget, Event, KeyRange, KeyValue, Member, Op, OpResponse, Put,
    RangeRequest, RangeResponse, Revision, Sort, SortTarget, Txn,
};

use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb;
use pb::compare::TargetUnion;
use pb::request_op::Request;
use pb::response_op::Response;

/// A range end that means all keys from the first on.
const OPEN_END: &[u8] = &[0];

/// A range as etcd writes it.
pub(crate) fn key_range(key: &[u8], range_end: &[u8]) -> KeyRange {
    let start = Bytes::copy_from_slice(key);
    match range_end {
        [] => KeyRange::Key(start),
        OPEN_END => KeyRange::From(start),
        end if is_after_prefix(key, end) => KeyRange::Prefix(start),
        end => KeyRange::Span(start, Bytes::copy_from_slice(end)),
    }
}

/// Whether `end` is the first key after all that begin with `key`.
fn is_after_prefix(key: &[u8], end: &[u8]) -> bool {
    let (Some((last, head)), Some((end_last, end_head))) = (key.split_last(), end.split_last()) else {
        return false;
    };
    head == end_head && last.checked_add(1) == Some(*end_last)
}

/// A read. A number that does not fit the store's is no bound, as in etcd.
pub(crate) fn range_request(request: &pb::RangeRequest) -> RangeRequest {
    RangeRequest {
        range: key_range(&request.key, &request.range_end),
        revision: request.revision.max(0),
        limit: usize::try_from(request.limit).unwrap_or(0),
        keys_only: request.keys_only,
        count_only: request.count_only,
        serializable: request.serializable,
        sort: sort(request.sort_order(), request.sort_target()),
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

/// Without an order, what is not the key is sorted ascending; keys are in their order anyway.
fn sort(order: pb::range_request::SortOrder, target: pb::range_request::SortTarget) -> Option<Sort> {
    use pb::range_request::{SortOrder, SortTarget as Target};
    let target = match target {
        Target::Key => SortTarget::Key,
        Target::Version => SortTarget::Version,
        Target::Create => SortTarget::CreateRevision,
        Target::Mod => SortTarget::ModRevision,
        Target::Value => SortTarget::Value,
    };
    let descending = order == SortOrder::Descend;
    (descending || target != SortTarget::Key).then_some(Sort { target, descending })
}

/// A write.
pub(crate) fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A deletion.
pub(crate) fn delete(request: &pb::DeleteRangeRequest) -> Op {
    Op::Delete {
        range: key_range(&request.key, &request.range_end),
        prev_kv: request.prev_kv,
    }
}

/// A transaction.
pub(crate) fn txn(request: pb::TxnRequest) -> Txn {
    let ops = |ops: Vec<pb::RequestOp>| ops.into_iter().filter_map(op).collect();
    Txn {
        compare: request.compare.into_iter().map(compare).collect(),
        success: ops(request.success),
        failure: ops(request.failure),
    }
}

fn op(op: pb::RequestOp) -> Option<Op> {
    Some(match op.request? {
        Request::RequestRange(request) => Op::Range(range_request(&request)),
        Request::RequestPut(request) => Op::Put(put(request)),
        Request::RequestDeleteRange(request) => delete(&request),
        Request::RequestTxn(request) => Op::Txn(Box::new(txn(request))),
    })
}

/// A target without its value is compared with zero, as in etcd.
fn compare(compare: pb::Compare) -> Compare {
    use pb::compare::{CompareResult as Result, CompareTarget as Target};
    let union = &compare.target_union;
    let target = match (compare.target(), union) {
        (Target::Version, Some(TargetUnion::Version(version))) => CompareTarget::Version(*version),
        (Target::Version, _) => CompareTarget::Version(0),
        (Target::Create, Some(TargetUnion::CreateRevision(at))) => CompareTarget::CreateRevision(*at),
        (Target::Create, _) => CompareTarget::CreateRevision(0),
        (Target::Mod, Some(TargetUnion::ModRevision(at))) => CompareTarget::ModRevision(*at),
        (Target::Mod, _) => CompareTarget::ModRevision(0),
        (Target::Value, Some(TargetUnion::Value(value))) => CompareTarget::Value(value.clone()),
        (Target::Value, _) => CompareTarget::Value(Bytes::new()),
        (Target::Lease, Some(TargetUnion::Lease(lease))) => CompareTarget::Lease(*lease),
        (Target::Lease, _) => CompareTarget::Lease(0),
    };
    Compare {
        range: key_range(&compare.key, &compare.range_end),
        target,
        result: match compare.result() {
            Result::Equal => CompareResult::Equal,
            Result::Greater => CompareResult::Greater,
            Result::Less => CompareResult::Less,
            Result::NotEqual => CompareResult::NotEqual,
        },
    }
}

/// A key with its value.
pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

/// A change.
pub(crate) fn event(event: Event) -> mvccpb::Event {
    use mvccpb::event::EventType;
    let (kind, kv, prev_kv) = match event {
        Event::Put { kv, prev_kv } => (EventType::Put, kv, prev_kv),
        Event::Delete { kv, prev_kv } => (EventType::Delete, kv, prev_kv),
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(key_value(kv)),
        prev_kv: prev_kv.map(key_value),
    }
}

/// A read's answer under a header.
pub(crate) fn range_response(answer: RangeResponse, header: pb::ResponseHeader) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: answer.kvs.into_iter().map(key_value).collect(),
        more: answer.more,
        count: answer.count,
    }
}

/// A transaction's answers. `revision` is the store's after it.
pub(crate) fn op_responses(responses: Vec<OpResponse>, revision: Revision) -> Vec<pb::ResponseOp> {
    let changes = responses.iter().any(changes);
    let mut at = Position {
        begin: if changes { revision - 1 } else { revision },
        has_changed: false,
    };
    at.all(responses)
}

fn changes(response: &OpResponse) -> bool {
    match response {
        OpResponse::Range(_) => false,
        OpResponse::Put { .. } => true,
        OpResponse::Delete { deleted, .. } => *deleted > 0,
        OpResponse::Txn(nested) => nested.responses.iter().any(changes),
    }
}

/// How far a transaction has come: its operations tell the revision as they saw it.
struct Position {
    begin: Revision,
    has_changed: bool,
}

impl Position {
    fn all(&mut self, responses: Vec<OpResponse>) -> Vec<pb::ResponseOp> {
        let each = responses.into_iter().map(|response| self.one(response));
        each.collect()
    }

    fn one(&mut self, response: OpResponse) -> pb::ResponseOp {
        self.has_changed |= !matches!(response, OpResponse::Txn(_)) && changes(&response);
        let header = Some(pb::ResponseHeader {
            revision: self.begin + Revision::from(self.has_changed),
            ..pb::ResponseHeader::default()
        });
        let response = match response {
            OpResponse::Range(answer) => Response::ResponseRange(pb::RangeResponse {
                header,
                kvs: answer.kvs.into_iter().map(key_value).collect(),
                more: answer.more,
                count: answer.count,
            }),
            OpResponse::Put { prev_kv } => Response::ResponsePut(pb::PutResponse {
                header,
                prev_kv: prev_kv.map(key_value),
            }),
            OpResponse::Delete { deleted, prev_kvs } => {
                Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                    header,
                    deleted,
                    prev_kvs: prev_kvs.into_iter().map(key_value).collect(),
                })
            }
            OpResponse::Txn(nested) => Response::ResponseTxn(pb::TxnResponse {
                header: Some(pb::ResponseHeader::default()),
                succeeded: nested.succeeded,
                responses: self.all(nested.responses),
            }),
        };
        pb::ResponseOp {
            response: Some(response),
        }
    }
}

/// A member.
pub(crate) fn member(member: Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_store::TxnResponse;

    #[test]
    fn ranges_are_what_etcd_means_by_them() {
        let bytes = Bytes::from_static;
        let cases: [(&[u8], &[u8], KeyRange); 7] = [
            (b"a", b"", KeyRange::Key(bytes(b"a"))),
            (b"a", b"\0", KeyRange::From(bytes(b"a"))),
            (b"\0", b"\0", KeyRange::From(bytes(b"\0"))),
            (b"a/", b"a0", KeyRange::Prefix(bytes(b"a/"))),
            (b"a\xff", b"b", KeyRange::Span(bytes(b"a\xff"), bytes(b"b"))),
            (b"a", b"c", KeyRange::Span(bytes(b"a"), bytes(b"c"))),
            (b"b", b"a", KeyRange::Span(bytes(b"b"), bytes(b"a"))),
        ];
        for (key, end, range) in cases {
            assert_eq!(key_range(key, end), range);
        }
    }

    #[test]
    fn operations_tell_the_revision_that_they_saw() {
        let range = || OpResponse::Range(RangeResponse::default());
        let delete = |deleted| OpResponse::Delete {
            deleted,
            prev_kvs: Vec::new(),
        };
        let nested = OpResponse::Txn(TxnResponse {
            responses: vec![OpResponse::Put { prev_kv: None }],
            ..TxnResponse::default()
        });
        let cases = [
            (vec![range(), delete(0)], vec![9, 9]),
            (vec![range(), delete(1), range(), delete(0)], vec![8, 9, 9, 9]),
            (vec![range(), nested, range()], vec![8, 0, 9]),
        ];
        for (responses, revisions) in cases {
            let told: Vec<_> = op_responses(responses, 9)
                .into_iter()
                .map(|op| match op.response {
                    Some(Response::ResponseRange(answer)) => answer.header,
                    Some(Response::ResponsePut(answer)) => answer.header,
                    Some(Response::ResponseDeleteRange(answer)) => answer.header,
                    Some(Response::ResponseTxn(answer)) => answer.header,
                    None => None,
                })
                .map(|header| header.map(|header| header.revision))
                .collect();
            assert_eq!(told, revisions.into_iter().map(Some).collect::<Vec<_>>());
        }
    }
}
