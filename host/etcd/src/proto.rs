//! The messages and the stubs of etcd's API, generated from `proto/`. A package a module, as in etcd.
//!
//! `bytes` fields are [`bytes::Bytes`]: what is decoded shares the buffer that it came in.

/// Keys with their values, and changes of them.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Users, roles and permissions.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// Requests, responses, and a client and a server of each service.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// What members say to one another.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub(crate) mod peer {
    tonic::include_proto!("capstan.peer.v1");
}
