//! A member as a process has it: the store, what listens for clients, peers and monitors, and their end.
//!
//! Sockets are bound before the store opens, so that a busy port changes nothing on disk; peers are answered
//! before clients. [`Clients`] alone is the face of a store that somebody else owns. Called by the binary and
//! the example; flags and discovery are not here.

mod front;
mod keep;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use capstan_store::LocalStore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::face::{self, FaceOptions};
use crate::link::{Address, AddressError};
use crate::listen::{Admission, Listener};
use crate::peers::{self, GrpcPeers};
use crate::tls::{Certificates, ClientTls, ServerTls, TlsError};
use front::{ClientFront, MonitorFront, PeerFront};
pub use keep::keep;

/// How long calls may go on after the store has stopped.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Why a member does not run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A URL cannot be listened on.
    #[error("listen {url}: {source}")]
    Listen {
        /// The URL.
        url: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A URL is none.
    #[error(transparent)]
    Url(#[from] AddressError),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An https URL without certificates.
    #[error("TLS key/cert ({flags}) must be provided for {whom} url {url} with HTTPS scheme")]
    NoCertificate {
        /// Which flags give them.
        flags: &'static str,
        /// Whose URL it is.
        whom: &'static str,
        /// The URL.
        url: String,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] capstan_store::Error),
}

/// What clients reach the store by.
#[derive(Debug, Clone, Default)]
pub struct ClientListeners {
    /// URLs to listen on.
    pub urls: Vec<String>,
    /// For those that are https.
    pub tls: Option<ServerTls>,
    /// URLs that answer monitors only: health and metrics, never gRPC.
    pub metrics_urls: Vec<String>,
}

/// What peers reach the member by, and it them.
#[derive(Debug, Clone, Default)]
pub struct PeerListeners {
    /// URLs to listen on.
    pub urls: Vec<String>,
    /// For those that are https.
    pub tls: Option<ServerTls>,
    /// Who this member is to its peers.
    pub client: ClientTls,
    /// The only common name that a peer's certificate may have.
    pub allowed_common_name: Option<String>,
}

/// A whole member.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to open the store; its transport is put in here.
    pub store: capstan_store::Options,
    /// For clients and monitors.
    pub clients: ClientListeners,
    /// For peers.
    pub peers: PeerListeners,
    /// How the gRPC face behaves.
    pub face: FaceOptions,
}

/// A running member.
#[derive(Debug)]
pub struct Process {
    store: Arc<LocalStore>,
    clients: Clients,
    peers: Running,
}

impl Process {
    /// Opens the member and serves it.
    ///
    /// # Errors
    /// When a URL, a certificate or the data folder cannot be used.
    pub async fn start(mut config: Config) -> Result<Self, ProcessError> {
        let clients = BoundClients::bind(&config.clients)?;
        let peers = bind_peers(&config.peers)?;
        let transport = GrpcPeers::new(config.peers.client.clone());
        config.store.cluster.transport = Some(Arc::new(transport));
        let store = Arc::new(LocalStore::open(config.store).await?);
        let peers = Running::start(peers, PeerFront::new(peers::service(store.peers())));
        Ok(Self {
            clients: clients.serve(&store, config.face),
            peers,
            store,
        })
    }

    /// The store.
    pub fn store(&self) -> &Arc<LocalStore> {
        &self.store
    }

    /// Where clients are answered.
    pub fn client_addresses(&self) -> &[SocketAddr] {
        self.clients.addresses()
    }

    /// Takes no more connections, hands the leadership over, ends watches, brings everything to disk, and lets
    /// calls end.
    pub async fn stop(self) {
        self.clients.running.stop.cancel();
        self.store.shutdown().await;
        self.clients.stop().await;
        self.peers.stop().await;
    }
}

/// The face of a store for clients and monitors, on sockets of its own.
#[derive(Debug)]
pub struct Clients {
    running: Running,
    monitors: Running,
}

impl Clients {
    /// Serves a store that the caller goes on owning.
    ///
    /// # Errors
    /// When a URL or a certificate cannot be used.
    pub fn serve(
        store: &Arc<LocalStore>,
        listeners: &ClientListeners,
        face: FaceOptions,
    ) -> Result<Self, ProcessError> {
        Ok(BoundClients::bind(listeners)?.serve(store, face))
    }

    /// Where clients are answered.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.running.addresses
    }

    /// Lets calls end for a while, then ends them. Watches end with the store.
    pub async fn stop(self) {
        self.running.stop().await;
        self.monitors.stop().await;
    }
}

struct BoundClients {
    clients: Vec<Listener>,
    monitors: Vec<Listener>,
}

impl BoundClients {
    fn bind(listeners: &ClientListeners) -> Result<Self, ProcessError> {
        let flags = ("--cert-file, --key-file", "client");
        let certificates = open_certificates(listeners.tls.clone())?;
        let admission = Admission::default();
        Ok(Self {
            clients: bind(&listeners.urls, certificates.as_ref(), &admission, flags)?,
            monitors: bind(&listeners.metrics_urls, certificates.as_ref(), &admission, flags)?,
        })
    }

    fn serve(self, store: &Arc<LocalStore>, face: FaceOptions) -> Clients {
        let monitor = MonitorFront::new(store.clone());
        let front = ClientFront::new(face::service(store.clone(), face), monitor.clone());
        Clients {
            running: Running::start(self.clients, front),
            monitors: Running::start(self.monitors, monitor),
        }
    }
}

fn bind_peers(listeners: &PeerListeners) -> Result<Vec<Listener>, ProcessError> {
    let certificates = open_certificates(listeners.tls.clone())?;
    let admission = Admission {
        common_name: listeners.allowed_common_name.clone(),
    };
    let flags = ("--peer-cert-file, --peer-key-file", "peer");
    bind(&listeners.urls, certificates.as_ref(), &admission, flags)
}

fn open_certificates(files: Option<ServerTls>) -> Result<Option<Arc<Certificates>>, TlsError> {
    files
        .map(|files| Certificates::open(files).map(Arc::new))
        .transpose()
}

fn bind(
    urls: &[String],
    certificates: Option<&Arc<Certificates>>,
    admission: &Admission,
    (flags, whom): (&'static str, &'static str),
) -> Result<Vec<Listener>, ProcessError> {
    let mut listeners = Vec::new();
    for url in urls {
        let address = Address::parse(url)?;
        if address.is_https() && certificates.is_none() {
            let url = url.clone();
            return Err(ProcessError::NoCertificate { flags, whom, url });
        }
        let listener = Listener::bind(&address, certificates.cloned(), admission.clone());
        listeners.push(listener.map_err(|source| ProcessError::Listen {
            url: url.clone(),
            source,
        })?);
    }
    Ok(listeners)
}

/// Listeners at work.
#[derive(Debug)]
struct Running {
    addresses: Vec<SocketAddr>,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Running {
    fn start<S>(listeners: Vec<Listener>, service: S) -> Self
    where
        S: front::Front,
        S::Future: Send + 'static,
    {
        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        let addresses = listeners.iter().filter_map(|one| one.address().ok()).collect();
        for listener in listeners {
            let serving = listener.serve(service.clone(), connections.clone(), stop.clone());
            connections.spawn(serving);
        }
        Self {
            addresses,
            stop,
            connections,
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.connections.close();
        let drained = tokio::time::timeout(DRAIN_MAX, self.connections.wait());
        if drained.await.is_err() {
            tracing::warn!("some calls did not end in time");
        }
    }
}
