//! Listeners: URLs to bind, TLS where they say https, HTTP/1.1 and HTTP/2 on the same port, a graceful end.
//!
//! Who the client is by its certificate goes with each request as a [`ClientIdentity`]. Called by a member's
//! process; what is answered is the given service's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::Service;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::UrlAuthority;
use crate::face::{self, ClientIdentity};
use crate::link::Address;
use crate::tls::Certificates;

/// Connections of one listener.
const CONNECTIONS_MAX: usize = 16_384;
/// Time for the TLS handshake, and for the head of a request.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
const HEAD_MAX: Duration = Duration::from_secs(30);
/// Silent HTTP/2 connections are asked for a sign of life so often, and given up after so long.
const PING_PERIOD: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4_096;

/// Whom a listener lets in by their certificates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admission {
    /// Only this common name.
    pub(crate) common_name: Option<String>,
}

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    certificates: Option<Arc<Certificates>>,
    admission: Admission,
}

impl Listener {
    /// Binds a URL's address.
    pub(crate) fn bind(
        url: &Address,
        certificates: Option<Arc<Certificates>>,
        admission: Admission,
    ) -> std::io::Result<Self> {
        use std::net::ToSocketAddrs;
        let addresses: Vec<SocketAddr> = (url.host(), url.port()).to_socket_addrs()?.collect();
        // "localhost" is IPv4 to most clients: that first.
        let address = addresses.iter().find(|one| one.is_ipv4()).or(addresses.first());
        let address = address.copied().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        let socket = if address.is_ipv4() {
            tokio::net::TcpSocket::new_v4()
        } else {
            tokio::net::TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self {
            socket: socket.listen(BACKLOG)?,
            certificates: certificates.filter(|_| url.is_https()),
            admission,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until stopped; connections end gracefully then.
    pub(crate) async fn serve<S>(self, service: S, connections: TaskTracker, stop: CancellationToken)
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Some(Ok(permit)) = stop.run_until_cancelled(room.clone().acquire_owned()).await else {
                return;
            };
            let Some(accepted) = stop.run_until_cancelled(self.socket.accept()).await else {
                return;
            };
            match accepted {
                Ok((stream, _)) => {
                    let config = self.certificates.as_ref().map(|one| one.config());
                    let acceptor = config.map(TlsAcceptor::from);
                    let (service, stop) = (service.clone(), stop.clone());
                    let admission = self.admission.clone();
                    connections.spawn(async move {
                        greet(stream, acceptor, admission, service, stop).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn greet<S>(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    admission: Admission,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    // A socket that cannot be set up fails at its first read.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else {
        return converse(stream, ClientIdentity::default(), service, stop).await;
    };
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake timed out"),
    };
    let shown = stream.get_ref().1.peer_certificates();
    let name = shown
        .and_then(|chain| chain.first())
        .and_then(|first| common_name(first));
    if admission.common_name.is_some() && admission.common_name != name {
        return tracing::warn!(
            ?name,
            "a peer's certificate has another common name than is allowed"
        );
    }
    converse(stream, ClientIdentity(name), service, stop).await;
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// The service of one connection. Calls are begun at once: those that answer here are always ready.
struct Conversation<S> {
    service: S,
    identity: ClientIdentity,
}

impl<S> hyper::service::Service<Request<Incoming>> for Conversation<S>
where
    S: Service<Request<Incoming>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        if self.identity.0.is_some() {
            request.extensions_mut().insert(self.identity.clone());
        }
        self.service.clone().call(request)
    }
}

async fn converse<T, S>(stream: T, identity: ClientIdentity, service: S, stop: CancellationToken)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    face::tune(&mut builder);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_PERIOD)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = builder.serve_connection(
        TokioIo::new(UrlAuthority::new(stream)),
        Conversation { service, identity },
    );
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended");
    }
}
