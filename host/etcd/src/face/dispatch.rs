//! Which service a request is for, and what goes for all of them.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use capstan_store::LocalStore;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tower::Service;

use super::auth::AuthService;
use super::caller::Host;
use super::cluster::ClusterService;
use super::kv::KvService;
use super::lease::LeaseService;
use super::maintenance::MaintenanceService;
use super::unary::{self, Again, Asked};
use super::{FaceOptions, range, watch};
use crate::proto::etcdserverpb as pb;
use pb::auth_server::AuthServer;
use pb::cluster_server::ClusterServer;
use pb::kv_server::{Kv, KvServer};
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
    kv: Arc<KvService>,
    kv_by_tonic: KvServer<KvService>,
    lease: LeaseServer<LeaseService>,
    cluster: ClusterServer<ClusterService>,
    maintenance: MaintenanceServer<MaintenanceService>,
    auth: AuthServer<AuthService>,
}

impl Face {
    pub(super) fn new(store: Arc<LocalStore>, options: FaceOptions) -> Self {
        let bytes_max = options.message_bytes_max();
        let host = Arc::new(Host::new(store, options));
        let kv = Arc::new(KvService(host.clone()));
        Self(Arc::new(Services {
            kv_by_tonic: KvServer::from_arc(kv.clone()).max_decoding_message_size(bytes_max),
            kv,
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
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Unpin + Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let services = self.0.clone();
        let path = request.uri().path();
        if let Err(status) = services.host.admit(path, request.headers()) {
            return Box::pin(std::future::ready(Ok(status.into_http())));
        }
        // Each of a box of its own, as large as that one needs.
        match path {
            "/etcdserverpb.KV/Range" => {
                Box::pin(async move { Ok(range::answer(&services.host, request).await) })
            }
            "/etcdserverpb.KV/Put" => {
                Box::pin(async move { Ok(services.write(request, |kv, request| kv.put(request)).await) })
            }
            "/etcdserverpb.KV/Txn" => {
                Box::pin(async move { Ok(services.write(request, |kv, request| kv.txn(request)).await) })
            }
            "/etcdserverpb.Watch/Watch" => {
                Box::pin(async move { Ok(watch::answer(&services.host, request).await) })
            }
            _ => Box::pin(async move { Ok(services.answer(request).await) }),
        }
    }
}

/// Carries out a method of the KV service.
type Method<M, R> =
    for<'a> fn(&'a KvService, tonic::Request<M>) -> BoxFuture<'a, Result<tonic::Response<R>, Status>>;

impl Services {
    async fn write<B, M, R>(&self, request: Request<B>, method: Method<M, R>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Unpin + Send,
        M: prost::Message + Default,
        R: prost::Message,
    {
        let (parts, body) = request.into_parts();
        let bytes_max = self.host.options.message_bytes_max();
        let asked = if parts.headers.contains_key("grpc-encoding") {
            Asked::Other(Again::new(body))
        } else {
            unary::read(body, bytes_max).await
        };
        match asked {
            Asked::Plain(message) => {
                let metadata = MetadataMap::from_headers(parts.headers);
                let request = tonic::Request::from_parts(metadata, parts.extensions, message);
                unary::reply(method(&self.kv, request).await)
            }
            Asked::Other(body) => {
                let answer = self.kv_by_tonic.clone().call(Request::from_parts(parts, body));
                self.checked(answer.await)
            }
        }
    }

    async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Unpin + Send,
    {
        let path = request.uri().path();
        let Some((service, method)) = path.trim_start_matches('/').split_once('/') else {
            return Status::unimplemented(format!("malformed method name: {path:?}")).into_http();
        };
        let answer = match (service, method) {
            ("etcdserverpb.KV", _) => self.kv_by_tonic.clone().call(request.map(Again::new)).await,
            ("etcdserverpb.Lease", _) => self.lease.clone().call(request).await,
            ("etcdserverpb.Cluster", _) => self.cluster.clone().call(request).await,
            ("etcdserverpb.Maintenance", _) => self.maintenance.clone().call(request).await,
            ("etcdserverpb.Auth", _) => self.auth.clone().call(request).await,
            (service, _) => Ok(Status::unimplemented(format!("unknown service {service}")).into_http()),
        };
        self.checked(answer)
    }

    fn checked(&self, answer: Result<Response<Body>, Infallible>) -> Response<Body> {
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
