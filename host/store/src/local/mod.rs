//! The store in this process: a data folder, its consensus, its leases, behind the [`Store`] trait.
//!
//! Reads do not pass through Raft's core; writes are proposed and come back durable and applied. After
//! [`LocalStore::shutdown`] every call answers `Unavailable`. The gRPC face and other members are not here.

mod auth;
mod cluster;
mod failure;
mod folder;
mod glance;
mod keeping;
mod leases;
mod maintenance;
mod metrics;
mod open;
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::lock::RwLock;
use crate::{
    ClusterOptions, Error, LeaseId, LeaseStatus, LogEngineKind, RangeRequest, RangeResponse, RangeStream,
    Result, Revision, Status, Store, StoreMetrics, Txn, TxnResponse, Watch, WatchRequest,
};
use auth::Caller;
pub use cluster::PeerHandler;
pub use maintenance::{AutoCompaction, HashKv, QUOTA_BYTES, Sizes};
use server::Server;

/// What stays free on the disk, by default: writes are refused before it is used up.
pub const SPACE_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// A request may be so large (etcd's default).
pub const REQUEST_BYTES_MAX: usize = 1536 * 1024;
/// Operations in a branch of a transaction (etcd's default).
pub const TXN_OPS_MAX: usize = 128;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data folder; made if missing. One process at a time may open it.
    pub dir: PathBuf,
    /// Its place in a cluster; by default it is alone.
    pub cluster: ClusterOptions,
    /// Bytes that stay free on its disk; writes that would use them are answered with `NoSpace`.
    pub space_reserve_bytes: u64,
    /// What keys, values and their history may take before the `NoSpace` alarm; 0 is [`QUOTA_BYTES`], and
    /// below 0 there is no bound (etcd's `--quota-backend-bytes`).
    pub quota_bytes: i64,
    /// Which history is forgotten without being asked to.
    pub auto_compaction: AutoCompaction,
    /// A request may be so large (etcd's `--max-request-bytes`).
    pub request_bytes_max: usize,
    /// Comparisons, and operations of a branch, in a transaction (etcd's `--max-txn-ops`).
    pub txn_ops_max: usize,
    /// What hashing a password costs, as a power of two (etcd's `--bcrypt-cost`).
    pub bcrypt_cost: u32,
    /// How long a token lasts after its last use (etcd's `--auth-token-ttl`).
    pub token_ttl: Duration,
    /// What keeps the log. A folder with data must be opened with the kind that it was made with.
    pub log_engine: LogEngineKind,
}

impl Options {
    /// A store in `dir`, all else as usual.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cluster: ClusterOptions::default(),
            space_reserve_bytes: SPACE_RESERVE_BYTES,
            quota_bytes: 0,
            auto_compaction: AutoCompaction::Off,
            request_bytes_max: REQUEST_BYTES_MAX,
            txn_ops_max: TXN_OPS_MAX,
            bcrypt_cost: crate::auth::BCRYPT_COST,
            token_ttl: crate::auth::TOKEN_TTL,
            log_engine: LogEngineKind::default(),
        }
    }
}

/// A store in this process.
pub struct LocalStore {
    server: RwLock<Option<Arc<Server>>>,
    metrics: Arc<StoreMetrics>,
}

impl std::fmt::Debug for LocalStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LocalStore").finish_non_exhaustive()
    }
}

impl LocalStore {
    /// Opens a store: returns when it can be written, with everything acknowledged before in place.
    ///
    /// # Errors
    /// `Unavailable` when another process has the folder open or it cannot be used, `Corrupt` when what is
    /// in it is damaged or not a store of this format, `NoSpace` when the disk is full.
    pub async fn open(options: Options) -> Result<Self> {
        let server = Server::open(options).await?;
        Ok(Self {
            metrics: server.replica.metrics().clone(),
            server: RwLock::new(Some(server)),
        })
    }

    /// Ends all watches, brings everything to disk and gives the folder free.
    pub async fn shutdown(&self) {
        let server = self.server.write().take();
        if let Some(server) = server {
            server.shutdown().await;
        }
    }

    fn server(&self) -> Result<Arc<Server>> {
        self.server
            .read()
            .clone()
            .ok_or_else(|| Error::Unavailable("the store is shut down".into()))
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.server()?.range(Caller::Trusted, request).await
    }

    async fn range_stream(&self, request: RangeRequest) -> Result<RangeStream> {
        self.server()?.range_stream(Caller::Trusted, request).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.server()?.txn(Caller::Trusted, txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<Watch> {
        self.server()?.watch(request)
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<()> {
        self.server()?.compact(revision, physical).await
    }

    async fn lease_grant(&self, id: LeaseId, ttl_seconds: i64) -> Result<(LeaseId, i64)> {
        self.server()?.lease_grant(id, ttl_seconds).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<()> {
        self.server()?.lease_revoke(Caller::Trusted, id).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64> {
        self.server()?.lease_keep_alive(id).await
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus> {
        self.server()?.lease_time_to_live(id, keys).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>> {
        self.server()?.leases().await
    }

    async fn status(&self) -> Result<Status> {
        Ok(self.server()?.status())
    }
}

#[cfg(test)]
mod tests;
