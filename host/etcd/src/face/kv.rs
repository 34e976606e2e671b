//! Reads, writes, transactions, compaction.

use std::sync::Arc;

use capstan_store::{AuthInfo, Error, Op, OpResponse, Revision, Store, Txn};
use tonic::{Request, Response, Status};

use super::caller::Host;
use super::check;
use crate::convert;
use crate::errors::{status, status_of};
use crate::proto::etcdserverpb as pb;
use pb::kv_server::Kv;

#[derive(Debug)]
pub(super) struct KvService(pub(super) Arc<Host>);

impl KvService {
    /// Carries out one operation.
    async fn one(&self, caller: Option<AuthInfo>, op: Op) -> Result<(Revision, OpResponse), Status> {
        let txn = Txn {
            success: vec![op],
            ..Txn::default()
        };
        let mut answer = self.0.store.txn_as(caller, txn).await.map_err(status)?;
        let response = answer.responses.pop();
        let response =
            response.ok_or_else(|| status(Error::Unknown("an operation was not answered".into())))?;
        Ok((answer.revision, response))
    }
}

fn mismatch(response: &OpResponse) -> Status {
    status(Error::Unknown(format!(
        "an operation was answered by {response:?}"
    )))
}

#[tonic::async_trait]
impl Kv for KvService {
    /// The whole answer at once; see `face::range` for the path that requests take.
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        check::range(request.get_ref()).map_err(status_of)?;
        let caller = self.0.caller(&request).await?;
        let asked = convert::range_request(request.get_ref());
        let answer = self.0.store.range_as(caller, asked).await.map_err(status)?;
        let header = self.0.header(answer.revision);
        Ok(Response::new(convert::range_response(answer, header)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        check::put(request.get_ref()).map_err(status_of)?;
        let caller = self.0.caller(&request).await?;
        let op = Op::Put(convert::put(request.into_inner()));
        match self.one(caller, op).await? {
            (revision, OpResponse::Put { prev_kv }) => Ok(Response::new(pb::PutResponse {
                header: Some(self.0.header(revision)),
                prev_kv: prev_kv.map(convert::key_value),
            })),
            (_, other) => Err(mismatch(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        check::delete(request.get_ref()).map_err(status_of)?;
        let caller = self.0.caller(&request).await?;
        match self.one(caller, convert::delete(request.get_ref())).await? {
            (revision, OpResponse::Delete { deleted, prev_kvs }) => {
                Ok(Response::new(pb::DeleteRangeResponse {
                    header: Some(self.0.header(revision)),
                    deleted,
                    prev_kvs: prev_kvs.into_iter().map(convert::key_value).collect(),
                }))
            }
            (_, other) => Err(mismatch(&other)),
        }
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        check::txn(request.get_ref(), self.0.options.txn_ops_max).map_err(status_of)?;
        let caller = self.0.caller(&request).await?;
        let txn = convert::txn(request.into_inner());
        let answer = self.0.store.txn_as(caller, txn).await.map_err(status)?;
        Ok(Response::new(pb::TxnResponse {
            header: Some(self.0.header(answer.revision)),
            succeeded: answer.succeeded,
            responses: convert::op_responses(answer.responses, answer.revision),
        }))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.0.admin(&request).await?;
        let pb::CompactionRequest { revision, physical } = request.into_inner();
        self.0.store.compact(revision, physical).await.map_err(status)?;
        let header = Some(self.0.header_now());
        Ok(Response::new(pb::CompactionResponse { header }))
    }
}
