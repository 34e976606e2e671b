use std::time::Duration;

use bytes::Bytes;
use capstan_etcd::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use capstan_etcd::proto::etcdserverpb::kv_client::KvClient;
use capstan_etcd::proto::etcdserverpb::request_op::Request;
use capstan_etcd::proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use tonic::transport::{Channel, Endpoint};

/// Connections at most: clients share them, as the clients in a kube-apiserver do.
const CONNECTIONS_MAX: usize = 16;

pub(crate) type Kv = KvClient<Channel>;

/// Connections for so many clients, spread over the members.
pub(crate) async fn connect(endpoints: &[String], clients: usize) -> anyhow::Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for endpoint in endpoints.iter().cycle().take(clients.clamp(1, CONNECTIONS_MAX)) {
        let endpoint = Endpoint::from_shared(endpoint.clone())?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true);
        channels.push(endpoint.connect().await?);
    }
    Ok(channels)
}

/// A client whose answers may be of any size.
pub(crate) fn kv(channel: &Channel) -> Kv {
    KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX)
}

pub(crate) fn put(key: Bytes, value: Bytes) -> PutRequest {
    PutRequest {
        key,
        value,
        ..PutRequest::default()
    }
}

pub(crate) fn get(key: Bytes) -> RangeRequest {
    RangeRequest {
        key,
        ..RangeRequest::default()
    }
}

/// All keys of a prefix that does not end in 0xff.
pub(crate) fn prefix(prefix: &str, limit: i64) -> RangeRequest {
    RangeRequest {
        key: Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: end_of(prefix),
        limit,
        ..RangeRequest::default()
    }
}

pub(crate) fn end_of(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// What a kube-apiserver writes an object with: put if nobody changed it since, else read it.
pub(crate) fn update(key: Bytes, value: Bytes, mod_revision: i64) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(mod_revision)),
        ..Compare::default()
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestPut(put(key.clone(), value)))],
        failure: vec![op(Request::RequestRange(get(key)))],
    }
}

/// So many bytes that do not compress to nothing.
pub(crate) fn value(length: usize) -> Bytes {
    (0..length).map(|_| fastrand::alphanumeric() as u8).collect()
}
