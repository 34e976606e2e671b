//! The store: etcd v3's data model (MVCC revisions, transactions, watches, leases, compaction), replicated
//! by openraft, kept on sled.
//!
//! It knows bytes and revisions, and nothing of Kubernetes. Everything above talks to the [`Store`] trait;
//! a remote etcd is one more implementation of it.
//!
//! Invariants: acknowledged means synced to disk (on a quorum); revisions only grow; a read never goes back
//! in time; every watcher sees every event of its range once, in revision order, or is told that it was
//! compacted or cancelled.

mod alarm;
mod api;
mod auth;
mod cluster;
pub mod conformance;
mod consensus;
mod engine;
#[cfg(test)]
mod fuzz;
mod lease;
mod local;
mod lock;
mod memory;
mod metrics;
mod mvcc;
mod nest;
mod refusal;
mod replica;
mod watch;

pub use alarm::{Alarm, AlarmKind};
pub use api::*;
pub use auth::*;
pub use cluster::{
    ClusterOptions, Identity, InitialCluster, Member, Peer, PeerCall, PeerCallKind, PeerChunks, PeerError,
    PeerTransport, RaftView, SNAPSHOT_COUNT,
};
pub use engine::LogEngineKind;
pub use local::{
    AutoCompaction, HashKv, LocalStore, Options, PeerHandler, QUOTA_BYTES, REQUEST_BYTES_MAX,
    SPACE_RESERVE_BYTES, Sizes, TXN_OPS_MAX,
};
pub use metrics::StoreMetrics;
pub use refusal::{Code, Refusal};
pub use replica::{ImageReader, ImageRecord, RestoreSource};
pub use watch::WATCH_QUEUE_MAX;
