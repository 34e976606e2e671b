//! Leases: grant, revoke, renew, look.

use std::pin::Pin;
use std::sync::Arc;

use capstan_store::{Access, AuthInfo, Error, LeaseId, Refusal, Store};
use futures::stream::{self, Stream};
use tonic::{Request, Response, Status, Streaming};

use super::caller::{Host, LeaderLost};
use crate::errors::{refused, status, status_of};
use crate::proto::etcdserverpb as pb;
use pb::lease_server::Lease;

#[derive(Debug)]
pub(super) struct LeaseService(pub(super) Arc<Host>);

type Renewals = Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        self.0.known(&request).await?;
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        let (id, ttl) = self.0.store.lease_grant(id, ttl).await.map_err(status)?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: Some(self.0.header_now()),
            id,
            ttl,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let caller = self.0.known(&request).await?;
        let revoked = self.0.store.lease_revoke_as(caller, request.get_ref().id).await;
        revoked.map_err(status)?;
        let header = Some(self.0.header_now());
        Ok(Response::new(pb::LeaseRevokeResponse { header }))
    }

    type LeaseKeepAliveStream = Renewals;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Renewals>, Status> {
        let (metadata, extensions, requests) = request.into_parts();
        let leader_lost = self.0.leader_lost_for(metadata.as_ref());
        let renewing = Renewing {
            host: self.0.clone(),
            client: Request::from_parts(metadata, extensions, ()),
            requests,
            leader_lost,
        };
        let answers = stream::try_unfold(renewing, |mut renewing| async move {
            let answer = renewing.next().await?;
            Ok(answer.map(|answer| (answer, renewing)))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let caller = self.0.known(&request).await?;
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let lease = self.0.store.lease_time_to_live_as(caller, id, keys).await;
        let lease = lease.map_err(status)?;
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            header: Some(self.0.header_now()),
            id,
            ttl: lease.remaining_ttl_seconds,
            granted_ttl: lease.granted_ttl_seconds,
            keys: lease.keys,
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let caller = self.0.known(&request).await?;
        let leases = self.0.store.leases().await.map_err(status)?;
        if self.0.store.auth_state().enabled {
            for id in &leases {
                self.0.check_lease(caller.as_ref(), *id, Access::Read).await?;
            }
        }
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: Some(self.0.header_now()),
            leases: leases.into_iter().map(|id| pb::LeaseStatus { id }).collect(),
        }))
    }
}

/// A stream of renewals, answered one after the other.
struct Renewing {
    host: Arc<Host>,
    client: Request<()>,
    requests: Streaming<pb::LeaseKeepAliveRequest>,
    leader_lost: LeaderLost,
}

impl Renewing {
    async fn next(&mut self) -> Result<Option<pb::LeaseKeepAliveResponse>, Status> {
        let request = match &mut self.leader_lost {
            None => self.requests.message().await?,
            Some(leader_lost) => tokio::select! {
                request = self.requests.message() => request?,
                () = leader_lost => return Err(refused(Refusal::NoLeader)),
            },
        };
        match request {
            Some(request) => self.renew(request.id).await.map(Some),
            None => Ok(None),
        }
    }

    async fn renew(&mut self, id: LeaseId) -> Result<pb::LeaseKeepAliveResponse, Status> {
        // Of before the renewal: a client must not see a lease renewed at a revision that ended it.
        let header = Some(self.host.header_now());
        if self.host.store.auth_state().enabled {
            let caller = self.host.known(&self.client).await?;
            self.host.check_lease(caller.as_ref(), id, Access::Write).await?;
        }
        let ttl = match self.host.store.lease_keep_alive(id).await {
            Ok(ttl) => ttl,
            Err(Error::LeaseNotFound) => 0,
            Err(error) => return Err(status(error)),
        };
        Ok(pb::LeaseKeepAliveResponse { header, id, ttl })
    }
}

impl Host {
    /// Refuses who may not read or write every key of a lease.
    async fn check_lease(
        &self,
        caller: Option<&AuthInfo>,
        id: LeaseId,
        access: Access,
    ) -> Result<(), Status> {
        let state = self.store.auth_state();
        if state.check_admin(caller).is_ok() {
            return Ok(());
        }
        let lease = self.store.lease_time_to_live(id, true).await.map_err(status)?;
        state.check_keys(caller, access, lease.keys).map_err(status_of)
    }
}
