//! The server's outside: the TLS listener and the in-process service, both in front of one [`Server`].

mod connection;
mod local;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capstan_points::Seats;
use capstan_points::admission::Policy;
use capstan_store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use local::Local;

use crate::access::UserInfo;
use crate::admission;
use crate::aggregate;
use crate::config::Config;
use crate::custom;
use crate::fairness;
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
    /// Taken by `serve`.
    acceptor: Mutex<Option<connection::Acceptor>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Fills the caches and creates what every cluster has. In-process clients are answered when it returns,
    /// those that dial wait until [`ApiServer::serve`].
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
        let (keeper, ended) = (server.clone(), stop.clone());
        tokio::spawn(async move { ended.run_until_cancelled(custom::run(keeper)).await });
        let (keeper, ended) = (server.clone(), stop.clone());
        tokio::spawn(async move { ended.run_until_cancelled(aggregate::run(keeper)).await });
        let (keeper, ended) = (server.clone(), stop.clone());
        tokio::spawn(async move { ended.run_until_cancelled(aggregate::local::run(keeper)).await });
        let (keeper, ended) = (server.clone(), stop.clone());
        tokio::spawn(async move { ended.run_until_cancelled(fairness::keeper::run(keeper)).await });
        admission::load(&server);
        let (follower, ended) = (server.clone(), stop.clone());
        tokio::spawn(async move { ended.run_until_cancelled(admission::run(follower)).await });
        let connections = TaskTracker::new();
        let acceptor = connection::Acceptor {
            listener,
            tls: tokio_rustls::TlsAcceptor::from(tls),
            server: server.clone(),
            stop: stop.clone(),
            connections: connections.clone(),
        };
        let acceptor = Mutex::new(Some(acceptor));
        Ok(Self {
            server,
            address,
            stop,
            connections,
            acceptor,
        })
    }

    /// Accepts connections from now on and says that it is ready. To be called once the admission policies
    /// are in their seats, so that nobody slips in before them.
    pub fn serve(&self) {
        let acceptor = self
            .acceptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(acceptor) = acceptor {
            self.connections.spawn(acceptor.run());
        }
        self.server.set_ready();
    }

    /// A client's way in without a socket, as the given user.
    pub fn service(&self, user: UserInfo) -> Local {
        Local::new(self.server.clone(), user)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says that it is not ready, goes on serving for the delay that it was given, ends watches, lets running requests finish for a few seconds, and stops.
    pub async fn shutdown(self) {
        self.server.set_stopping();
        tokio::time::sleep(self.server.limits.shutdown_delay).await;
        self.stop.cancel();
        self.connections.close();
        if tokio::time::timeout(DRAIN_MAX, self.connections.wait())
            .await
            .is_err()
        {
            tracing::warn!("some requests did not end in time");
        }
        if let Some(audit) = &self.server.audit {
            audit.flush().await;
        }
    }
}
