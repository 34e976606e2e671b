//! What all services share: the store, whose request it is, and the header of every answer.

use std::pin::Pin;
use std::sync::Arc;

use capstan_store::{AuthInfo, LocalStore, Refusal, Revision};
use http::{Extensions, HeaderMap};
use tokio::sync::Semaphore;
use tonic::{Request, Status};

use super::maintenance::SNAPSHOTS_MAX;
use super::{ClientIdentity, ELECTIONS_WITHOUT_LEADER_MAX, FaceOptions};
use crate::errors::{refused, status, status_of};
use crate::proto::etcdserverpb as pb;

const RANGE: &str = "/etcdserverpb.KV/Range";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";

/// The store as the services see it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) store: Arc<LocalStore>,
    pub(super) options: FaceOptions,
    cluster_id: u64,
    pub(super) member_id: u64,
    /// Of snapshots that are being sent.
    pub(super) snapshots: Arc<Semaphore>,
}

/// Ready when a stream is to end for want of a leader; none where it may go on without.
pub(super) type LeaderLost = Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// Whether the client asked to be told when there is no leader.
fn requires_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}

impl Host {
    pub(super) fn new(store: Arc<LocalStore>, options: FaceOptions) -> Self {
        let identity = store.identity();
        Self {
            store,
            options,
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
        }
    }

    pub(super) fn header(&self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.store.raft_glance().term,
        }
    }

    /// A header with the store's revision of now.
    pub(super) fn header_now(&self) -> pb::ResponseHeader {
        self.header(self.store.revision())
    }

    /// Refuses what no service is asked about: on a learner, and without a leader if the client wants one.
    /// A learner answers serializable reads, which `range` tells apart.
    pub(super) fn admit(&self, path: &str, headers: &HeaderMap) -> Result<(), Status> {
        let raft = self.store.raft_glance();
        if raft.is_learner && ![RANGE, STATUS, SNAPSHOT].contains(&path) {
            return Err(refused(Refusal::NotSupportedForLearner));
        }
        if raft.leader == 0 && requires_leader(headers) {
            return Err(refused(Refusal::NoLeader));
        }
        Ok(())
    }

    /// Returns when there has been no leader for so long that streams which asked for one are to end.
    async fn leader_lost(&self) {
        let patience = self.options.election * ELECTIONS_WITHOUT_LEADER_MAX;
        let mut raft = self.store.watch_raft();
        while raft.wait_for(|raft| raft.leader == 0).await.is_ok() {
            let back = tokio::time::timeout(patience, raft.wait_for(|raft| raft.leader != 0));
            if back.await.is_err() {
                return;
            }
        }
        // Shut down; what is running finds out by itself.
        std::future::pending().await
    }

    /// The same for a stream, if it asked.
    pub(super) fn leader_lost_for(self: &Arc<Self>, headers: &HeaderMap) -> LeaderLost {
        let host = self.clone();
        requires_leader(headers).then(|| Box::pin(async move { host.leader_lost().await }) as _)
    }

    /// Who asks: by token, or by certificate. No one where auth is off.
    pub(super) async fn caller<T>(&self, request: &Request<T>) -> Result<Option<AuthInfo>, Status> {
        self.caller_of(request.metadata().as_ref(), request.extensions())
            .await
    }

    pub(super) async fn caller_of(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Option<AuthInfo>, Status> {
        let state = self.store.auth_state();
        if !state.enabled {
            return Ok(None);
        }
        if let Some(token) = headers.get("token").or_else(|| headers.get("authorization")) {
            let token = token.to_str().map_err(|_| refused(Refusal::InvalidAuthToken))?;
            let token = token.strip_prefix("Bearer ").unwrap_or(token);
            return self.store.token_info(token).await.map(Some).map_err(status);
        }
        if !self.options.client_cert_auth || headers.contains_key("grpcgateway-accept") {
            return Ok(None);
        }
        let identity = extensions
            .get::<ClientIdentity>()
            .and_then(|identity| identity.0.as_deref());
        Ok(identity.map(|name| state.info(name)))
    }

    /// Refuses who is not an administrator.
    pub(super) async fn admin<T>(&self, request: &Request<T>) -> Result<Option<AuthInfo>, Status> {
        let caller = self.caller(request).await?;
        self.store
            .auth_state()
            .check_admin(caller.as_ref())
            .map_err(status_of)?;
        Ok(caller)
    }

    /// Refuses who has not said who they are.
    pub(super) async fn known<T>(&self, request: &Request<T>) -> Result<Option<AuthInfo>, Status> {
        let caller = self.caller(request).await?;
        if caller.is_none() && self.store.auth_state().enabled {
            return Err(refused(Refusal::UserEmpty));
        }
        Ok(caller)
    }
}
