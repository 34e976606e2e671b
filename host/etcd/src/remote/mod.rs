//! Any etcd v3.4 or newer as a [`Store`]: the client side of the wire.
//!
//! Calls go round the endpoints and past those that do not answer. A read is tried again wherever that may
//! help; a write only when it surely was not carried out, else it fails as [`Error::Unknown`]. Watches and
//! lease renewals share a few streams and outlive broken connections. Called by the API server through the
//! trait. What a member decides (users, members, maintenance) is not here.

mod compaction;
mod connections;
mod failure;
mod leases;
mod pages;
mod session;
mod version;
mod watch;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use capstan_store::{
    Error, KeyRange, KeyValue, LeaseId, LeaseStatus, Put, RangeRequest, RangeResponse, RangeStream, Result,
    Revision, Status, Store, Txn, TxnResponse, Watch, WatchRequest,
};

use crate::proto::etcdserverpb as pb;
use crate::tls::ClientTls;
use connections::{Connections, Effect};
use leases::KeepAlives;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use watch::Watches;

/// Endpoints of one store at most.
pub const ENDPOINTS_MAX: usize = 64;

/// Which etcd, and how to reach it.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// URLs of its members: `http://host:port` or `https://host:port`.
    pub endpoints: Vec<String>,
    /// For `https` endpoints.
    pub tls: ClientTls,
    /// User and password, where it asks for them.
    pub user: Option<(String, String)>,
    /// How long a connection may take to be made.
    pub dial_timeout: Duration,
    /// How often a silent connection with calls on it is asked for a sign of life; etcd allows no less than 5 s.
    pub keep_alive_interval: Duration,
    /// How long the sign may take.
    pub keep_alive_timeout: Duration,
    /// How long one attempt of a call may take.
    pub request_timeout: Duration,
}

impl RemoteOptions {
    /// The usual, for these endpoints.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            tls: ClientTls::default(),
            user: None,
            dial_timeout: Duration::from_secs(2),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// An etcd at the other end of the wire. Dropping it ends its watches.
#[derive(Debug)]
pub struct RemoteStore {
    connections: Arc<Connections>,
    watches: Watches,
    keep_alives: KeepAlives,
}

impl RemoteStore {
    /// Connects: returns when a member has answered.
    ///
    /// # Errors
    /// `Invalid` for endpoints that are none, unusable certificates, or an etcd that is too old;
    /// `Unavailable` when no endpoint answers.
    pub async fn connect(options: RemoteOptions) -> Result<Self> {
        let connections = Arc::new(Connections::new(options)?);
        connections.start().await?;
        Ok(Self {
            watches: Watches::new(&connections),
            keep_alives: KeepAlives::new(&connections),
            connections,
        })
    }

    async fn range_once(&self, message: pb::RangeRequest) -> Result<pb::RangeResponse> {
        let call = self.connections.call(Effect::Read, |link, headers| {
            let request = headers.on(message.clone());
            async move { unbounded!(KvClient::new(link)).range(request).await }
        });
        let answer = call.await?;
        self.connections.saw(answer.header.as_ref());
        Ok(answer)
    }

    /// Puts in what etcd leaves out of its errors.
    async fn complete(&self, error: Error, range: Option<(&KeyRange, Revision)>) -> Error {
        match (error, range) {
            (Error::Compacted { compact_revision: 0 }, Some((range, revision))) => Error::Compacted {
                compact_revision: compaction::revision(&self.watches, range, revision).await,
            },
            (Error::FutureRevision { revision: 0 }, _) => Error::FutureRevision {
                revision: self.connections.seen(),
            },
            (error, _) => error,
        }
    }
}

/// A client that takes answers of any length: how much is asked for is its caller's choice.
macro_rules! unbounded {
    ($client:expr) => {
        $client.max_decoding_message_size(usize::MAX)
    };
}
use unbounded;

#[async_trait]
impl Store for RemoteStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        let known = self.connections.seen();
        let answer = match self.range_once(wire::range(&request)).await {
            Ok(answer) => answer,
            Err(error) => {
                return Err(self
                    .complete(error, Some((&request.range, request.revision)))
                    .await);
            }
        };
        let answer = wire::range_answer(answer);
        if request.serializable && answer.revision < known {
            // This member lags behind what was read before: no read goes back in time.
            let mut newest = wire::range(&request);
            newest.serializable = false;
            return Ok(wire::range_answer(self.range_once(newest).await?));
        }
        Ok(answer)
    }

    async fn range_stream(&self, request: RangeRequest) -> Result<RangeStream> {
        pages::stream(self, request).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        let message = wire::txn(&txn);
        let effect = if wire::is_read_only(&txn) {
            Effect::Read
        } else {
            Effect::Write
        };
        let call = self.connections.call(effect, |link, headers| {
            let request = headers.on(message.clone());
            async move { unbounded!(KvClient::new(link)).txn(request).await }
        });
        let answer = match call.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.complete(error, wire::past_read(&txn)).await),
        };
        self.connections.saw(answer.header.as_ref());
        wire::txn_answer(answer)
    }

    async fn put(&self, put: Put) -> Result<(Revision, Option<KeyValue>)> {
        let message = wire::put(&put);
        let call = self.connections.call(Effect::Write, |link, headers| {
            let request = headers.on(message.clone());
            async move { unbounded!(KvClient::new(link)).put(request).await }
        });
        let answer = call.await?;
        self.connections.saw(answer.header.as_ref());
        Ok((
            wire::revision(answer.header.as_ref()),
            answer.prev_kv.map(wire::key_value),
        ))
    }

    async fn delete(&self, range: KeyRange, prev_kv: bool) -> Result<(Revision, i64, Vec<KeyValue>)> {
        let message = wire::delete(&range, prev_kv);
        let call = self.connections.call(Effect::Write, |link, headers| {
            let request = headers.on(message.clone());
            async move { unbounded!(KvClient::new(link)).delete_range(request).await }
        });
        let answer = call.await?;
        self.connections.saw(answer.header.as_ref());
        let previous = answer.prev_kvs.into_iter().map(wire::key_value).collect();
        Ok((wire::revision(answer.header.as_ref()), answer.deleted, previous))
    }

    async fn watch(&self, request: WatchRequest) -> Result<Watch> {
        self.watches.watch(request).await
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<()> {
        let effect = if physical {
            Effect::SlowWrite
        } else {
            Effect::Write
        };
        let call = self.connections.call(effect, |link, headers| {
            let request = headers.on(pb::CompactionRequest { revision, physical });
            async move { KvClient::new(link).compact(request).await }
        });
        match call.await {
            Ok(answer) => {
                self.connections.saw(answer.header.as_ref());
                Ok(())
            }
            Err(error) => {
                let probe = KeyRange::Key(compaction::NO_KEY);
                Err(self.complete(error, Some((&probe, revision))).await)
            }
        }
    }

    async fn lease_grant(&self, id: LeaseId, ttl_seconds: i64) -> Result<(LeaseId, i64)> {
        let call = self.connections.call(Effect::Write, |link, headers| {
            let request = headers.on(pb::LeaseGrantRequest { ttl: ttl_seconds, id });
            async move { LeaseClient::new(link).lease_grant(request).await }
        });
        let answer = call.await?;
        if answer.error.is_empty() {
            Ok((answer.id, answer.ttl))
        } else {
            Err(Error::Unknown(answer.error))
        }
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<()> {
        let call = self.connections.call(Effect::Write, |link, headers| {
            let request = headers.on(pb::LeaseRevokeRequest { id });
            async move { LeaseClient::new(link).lease_revoke(request).await }
        });
        self.connections.saw(call.await?.header.as_ref());
        Ok(())
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64> {
        self.keep_alives.renew(id).await
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus> {
        let call = self.connections.call(Effect::Read, |link, headers| {
            let request = headers.on(pb::LeaseTimeToLiveRequest { id, keys });
            async move {
                unbounded!(LeaseClient::new(link))
                    .lease_time_to_live(request)
                    .await
            }
        });
        let answer = call.await?;
        Ok(LeaseStatus {
            id,
            granted_ttl_seconds: answer.granted_ttl,
            remaining_ttl_seconds: answer.ttl,
            keys: answer.keys,
        })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>> {
        let call = self.connections.call(Effect::Read, |link, headers| {
            let request = headers.on(pb::LeaseLeasesRequest {});
            async move { unbounded!(LeaseClient::new(link)).lease_leases(request).await }
        });
        Ok(call.await?.leases.into_iter().map(|lease| lease.id).collect())
    }

    async fn status(&self) -> Result<Status> {
        let call = self.connections.call(Effect::Read, |link, headers| {
            let request = headers.on(pb::StatusRequest {});
            async move { MaintenanceClient::new(link).status(request).await }
        });
        let answer = call.await?;
        let header = answer.header.unwrap_or_default();
        self.connections.saw(Some(&header));
        Ok(Status {
            revision: header.revision,
            compact_revision: compaction::current(self).await?,
            raft_term: answer.raft_term,
            raft_index: answer.raft_index,
            db_size_bytes: u64::try_from(answer.db_size).unwrap_or(0),
            is_leader: answer.leader != 0 && answer.leader == header.member_id,
        })
    }
}
