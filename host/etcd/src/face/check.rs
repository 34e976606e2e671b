//! What etcd refuses of a request by looking at it alone, in etcd's order.

use capstan_store::Refusal;

use crate::proto::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;

type Checked = Result<(), Refusal>;

fn key(key: &[u8]) -> Checked {
    if key.is_empty() {
        Err(Refusal::EmptyKey)
    } else {
        Ok(())
    }
}

pub(super) fn range(request: &pb::RangeRequest) -> Checked {
    key(&request.key)?;
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        return Err(Refusal::InvalidSortOption);
    }
    Ok(())
}

pub(super) fn put(request: &pb::PutRequest) -> Checked {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

pub(super) fn delete(request: &pb::DeleteRangeRequest) -> Checked {
    key(&request.key)
}

/// Keys that are changed twice are the store's to find.
pub(super) fn txn(request: &pb::TxnRequest, ops_max: usize) -> Checked {
    let ops = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let left = ops_max.checked_sub(ops).ok_or(Refusal::TooManyOps)?;
    for compare in &request.compare {
        key(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete(request)?,
            Some(Request::RequestTxn(request)) => txn(request, left)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}
