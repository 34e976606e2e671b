//! Messages between members over gRPC: the [`PeerTransport`] that sends them and the service that takes them.
//!
//! Each peer has a standing connection for short messages and another for long streams, so that a snapshot
//! does not delay a sign of life. Bodies are opaque. A message from another cluster is turned away unread.
//! Called by a member's process; what messages mean is `capstan-store`'s.

mod service;
mod transport;

pub(crate) use service::service;
pub(crate) use transport::GrpcPeers;

/// A message may be so large; senders cut them far smaller.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Metadata: the sender's cluster, as etcd prints ids.
const CLUSTER_ID: &str = "capstan-cluster-id";
/// Metadata of a stream: what it is.
const KIND: &str = "capstan-kind";
