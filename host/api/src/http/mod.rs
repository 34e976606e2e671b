//! The server's outside: the TLS listener and the in-process service, both in front of one [`Server`].

mod connection;
mod local;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use capstan_points::Seats;
use capstan_points::admission::Policy;
use capstan_store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use local::Local;

use crate::access::UserInfo;
use crate::config::Config;
use crate::server::Server;
use crate::{Error, Result, bootstrap};

/// How long running requests may go on after shutdown has begun.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A running API server.
pub struct ApiServer {
    server: Arc<Server>,
    address: SocketAddr,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Fills the caches, creates what every cluster has, and listens. Ready when it returns.
    pub async fn start(store: Arc<dyn Store>, admission: Seats<dyn Policy>, config: Config) -> Result<Self> {
        let stop = CancellationToken::new();
        let unusable = |source| Error::Listen {
            address: "the given socket".into(),
            source,
        };
        config.listen.set_nonblocking(true).map_err(unusable)?;
        let listener = config.listen.try_clone().map_err(unusable)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        let tls = config.tls.clone();
        let server = Server::start(store, admission, config, stop.clone()).await?;
        bootstrap::run(&server, address).await?;
        server.set_ready();
        let connections = TaskTracker::new();
        let accept = connection::Acceptor {
            listener,
            tls: tokio_rustls::TlsAcceptor::from(tls),
            server: server.clone(),
            stop: stop.clone(),
            connections: connections.clone(),
        };
        connections.spawn(accept.run());
        Ok(Self {
            server,
            address,
            stop,
            connections,
        })
    }

    /// A client's way in without a socket, as the given user.
    pub fn service(&self, user: UserInfo) -> Local {
        Local::new(self.server.clone(), user)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends watches, lets running requests finish for a few seconds, and stops.
    pub async fn shutdown(self) {
        self.server.set_stopping();
        self.stop.cancel();
        self.connections.close();
        if tokio::time::timeout(DRAIN_MAX, self.connections.wait())
            .await
            .is_err()
        {
            tracing::warn!("some requests did not end in time");
        }
    }
}
