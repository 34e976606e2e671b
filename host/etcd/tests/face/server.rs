//! A member with its face on a loopback port, and clients of it.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use capstan_etcd::face::{self, ClientIdentity, FaceOptions};
use capstan_etcd::proto::etcdserverpb as pb;
use capstan_store::{LocalStore, Options};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt;

use pb::auth_client::AuthClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The least that hashing a password may cost.
const BCRYPT_COST: u32 = 4;

pub(crate) struct Server {
    pub(crate) store: Arc<LocalStore>,
    pub(crate) channel: Channel,
    listening: JoinHandle<()>,
    dir: Option<tempfile::TempDir>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(FaceOptions::default(), None).await
    }

    /// Every connection comes with this name on its certificate.
    pub(crate) async fn start_with(options: FaceOptions, certified: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut store = Options::new(dir.path().join("data"));
        store.bcrypt_cost = BCRYPT_COST;
        let store = Arc::new(LocalStore::open(store).await.expect("a store"));
        let mut server = Self::of(store, options, certified).await;
        server.dir = Some(dir);
        server
    }

    /// The face of a store that is there.
    pub(crate) async fn of(store: Arc<LocalStore>, options: FaceOptions, certified: Option<&str>) -> Self {
        let identity = ClientIdentity(certified.map(str::to_owned));
        let service = face::service(store.clone(), options).map_request(
            move |mut request: http::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(identity.clone());
                request
            },
        );
        let service = TowerToHyperService::new(service);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let mut connection = auto::Builder::new(TokioExecutor::new()).http2_only();
                    face::tune(&mut connection);
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        Self {
            store,
            channel: endpoint.connect().await.expect("a connection"),
            listening,
            dir: None,
        }
    }

    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub(crate) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    pub(crate) fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    /// Writes a key; returns the revision.
    pub(crate) async fn put(&self, key: &'static str, value: impl Into<bytes::Bytes>) -> i64 {
        let put = self.kv().put(put(key, value)).await.expect("a put");
        put.into_inner().header.expect("a header").revision
    }
}

pub(crate) fn put(key: &'static str, value: impl Into<bytes::Bytes>) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

pub(crate) fn get(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        ..Default::default()
    }
}

/// `get` up to `end`; `"\0"` is without end.
pub(crate) fn list(key: &'static str, end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest {
        range_end: end.into(),
        ..get(key)
    }
}

/// The request with a token.
pub(crate) fn by<T>(token: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let token = token.parse().expect("a token is text");
    request.metadata_mut().insert("token", token);
    request
}
