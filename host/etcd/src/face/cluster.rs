//! Members: add, remove, update, list, promote. As in etcd their headers have no revision.

use std::sync::Arc;

use capstan_store::{Member, Refusal};
use tonic::{Request, Response, Status};

use super::caller::Host;
use crate::convert;
use crate::errors::{refused, status};
use crate::proto::etcdserverpb as pb;
use pb::cluster_server::Cluster;

#[derive(Debug)]
pub(super) struct ClusterService(pub(super) Arc<Host>);

impl ClusterService {
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(self.0.header(0))
    }
}

fn members(members: Vec<Member>) -> Vec<pb::Member> {
    members.into_iter().map(convert::member).collect()
}

/// The URLs if etcd would take them: `http` or `https` with host and port, or a unix socket.
fn peer_urls(mut urls: Vec<String>) -> Result<Vec<String>, Status> {
    for url in &mut urls {
        *url = url.trim().to_owned();
        if !is_peer_url(url) {
            return Err(refused(Refusal::MemberBadUrls));
        }
    }
    if urls.is_empty() {
        return Err(refused(Refusal::MemberBadUrls));
    }
    Ok(urls)
}

fn is_peer_url(url: &str) -> bool {
    match url.split_once("://") {
        Some(("unix" | "unixs", _)) => true,
        Some(("http" | "https", host)) => {
            let Some((name, port)) = host.rsplit_once(':') else {
                return false;
            };
            let is_bracketed = name.starts_with('[') && name.ends_with(']');
            (is_bracketed || !name.contains(':')) && port.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        // As etcd: sorted where they make an id.
        let mut urls = peer_urls(request.get_ref().peer_urls.clone())?;
        urls.sort_unstable();
        self.0.admin(&request).await?;
        let added = self.0.store.member_add(urls, request.get_ref().is_learner).await;
        let (member, all) = added.map_err(status)?;
        Ok(Response::new(pb::MemberAddResponse {
            header: self.header(),
            member: Some(convert::member(member)),
            members: members(all),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.0.admin(&request).await?;
        let all = self
            .0
            .store
            .member_remove(request.get_ref().id)
            .await
            .map_err(status)?;
        Ok(Response::new(pb::MemberRemoveResponse {
            header: self.header(),
            members: members(all),
        }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.0.admin(&request).await?;
        let pb::MemberUpdateRequest { id, peer_urls: urls } = request.into_inner();
        let all = self
            .0
            .store
            .member_update(id, peer_urls(urls)?)
            .await
            .map_err(status)?;
        Ok(Response::new(pb::MemberUpdateResponse {
            header: self.header(),
            members: members(all),
        }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let all = self
            .0
            .store
            .members(request.get_ref().linearizable)
            .await
            .map_err(status)?;
        self.0.known(&request).await?;
        Ok(Response::new(pb::MemberListResponse {
            header: self.header(),
            members: members(all),
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.0.admin(&request).await?;
        let all = self
            .0
            .store
            .member_promote(request.get_ref().id)
            .await
            .map_err(status)?;
        Ok(Response::new(pb::MemberPromoteResponse {
            header: self.header(),
            members: members(all),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::is_peer_url;

    #[test]
    fn peer_urls_are_as_etcd_takes_them() {
        for url in [
            "http://a:1",
            "https://10.0.0.1:2380",
            "http://[::1]:2380",
            "unix://x",
            "http://a:",
        ] {
            assert!(is_peer_url(url), "{url}");
        }
        for url in [
            "",
            "a:1",
            "http://a",
            "ftp://a:1",
            "http://a:1/path",
            "http://::1:2380",
            "http://a:b",
        ] {
            assert!(!is_peer_url(url), "{url}");
        }
    }
}
