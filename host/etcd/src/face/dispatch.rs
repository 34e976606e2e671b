//! Which service a request is for, and what goes for all of them.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use capstan_store::LocalStore;
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::auth::AuthService;
use super::caller::Host;
use super::cluster::ClusterService;
use super::kv::KvService;
use super::lease::LeaseService;
use super::maintenance::MaintenanceService;
use super::{FaceOptions, range, watch};
use crate::proto::etcdserverpb as pb;
use pb::auth_server::AuthServer;
use pb::cluster_server::ClusterServer;
use pb::kv_server::KvServer;
use pb::lease_server::LeaseServer;
use pb::maintenance_server::MaintenanceServer;

/// How tonic begins to say that a message is too large, percent-encoded.
const TOO_LARGE: &[u8] = b"Error, decoded message length too large";

/// A tower service of etcd's gRPC API; clones share everything.
#[derive(Debug, Clone)]
pub struct Face(Arc<Services>);

#[derive(Debug)]
struct Services {
    host: Arc<Host>,
    kv: KvServer<KvService>,
    lease: LeaseServer<LeaseService>,
    cluster: ClusterServer<ClusterService>,
    maintenance: MaintenanceServer<MaintenanceService>,
    auth: AuthServer<AuthService>,
}

impl Face {
    pub(super) fn new(store: Arc<LocalStore>, options: FaceOptions) -> Self {
        let bytes_max = options.message_bytes_max();
        let host = Arc::new(Host::new(store, options));
        Self(Arc::new(Services {
            kv: KvServer::new(KvService(host.clone())).max_decoding_message_size(bytes_max),
            lease: LeaseServer::new(LeaseService(host.clone())).max_decoding_message_size(bytes_max),
            cluster: ClusterServer::new(ClusterService(host.clone())).max_decoding_message_size(bytes_max),
            maintenance: MaintenanceServer::new(MaintenanceService(host.clone()))
                .max_decoding_message_size(bytes_max),
            auth: AuthServer::new(AuthService(host.clone())).max_decoding_message_size(bytes_max),
            host,
        }))
    }
}

impl<B> Service<Request<B>> for Face
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let services = self.0.clone();
        Box::pin(async move { Ok(services.answer(request).await) })
    }
}

impl Services {
    async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let path = request.uri().path();
        if let Err(status) = self.host.admit(path, request.headers()) {
            return status.into_http();
        }
        let Some((service, method)) = path.trim_start_matches('/').split_once('/') else {
            return Status::unimplemented(format!("malformed method name: {path:?}")).into_http();
        };
        let answer = match (service, method) {
            ("etcdserverpb.KV", "Range") => Ok(range::answer(&self.host, request).await),
            ("etcdserverpb.KV", _) => self.kv.clone().call(request).await,
            ("etcdserverpb.Watch", "Watch") => Ok(watch::answer(&self.host, request).await),
            ("etcdserverpb.Lease", _) => self.lease.clone().call(request).await,
            ("etcdserverpb.Cluster", _) => self.cluster.clone().call(request).await,
            ("etcdserverpb.Maintenance", _) => self.maintenance.clone().call(request).await,
            ("etcdserverpb.Auth", _) => self.auth.clone().call(request).await,
            (service, _) => Ok(Status::unimplemented(format!("unknown service {service}")).into_http()),
        };
        let mut response = match answer {
            Ok(response) => response,
            Err(never) => match never {},
        };
        name_too_large(&mut response, self.host.options.message_bytes_max());
        response
    }
}

/// A message over the bound is refused with the code and the words of etcd's gRPC library.
fn name_too_large(response: &mut Response<Body>, bytes_max: usize) {
    let headers = response.headers();
    let is_out_of_range = headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "11");
    if !is_out_of_range {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    if status.code() != Code::OutOfRange || !status.message().as_bytes().starts_with(TOO_LARGE) {
        return;
    }
    let found = status
        .message()
        .split_whitespace()
        .find_map(|word| word.parse::<usize>().ok());
    let text = format!(
        "grpc: received message larger than max ({} vs. {bytes_max})",
        found.unwrap_or(0)
    );
    if let Ok(text) = HeaderValue::from_str(&text) {
        let headers = response.headers_mut();
        headers.insert(Status::GRPC_STATUS, HeaderValue::from_static("8"));
        headers.insert(Status::GRPC_MESSAGE, text);
    }
}
