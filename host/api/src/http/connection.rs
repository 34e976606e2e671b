//! Connections: accept, TLS, HTTP/1.1 and HTTP/2, the client's certificate, graceful end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::certificate;
use crate::audit::Peer;
use crate::body::Body;
use crate::server::Server;

/// Connections open at once.
const CONNECTIONS_MAX: usize = 16_384;
/// Time for the TLS handshake, and for the head of a request.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
const HEADERS_MAX: Duration = Duration::from_secs(30);
/// Streams of one HTTP/2 connection, as in the original.
const STREAMS_MAX: u32 = 1000;
/// Idle HTTP/2 connections are pinged so often.
const PING_PERIOD: Duration = Duration::from_secs(30);
/// Pause after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Acceptor {
    pub listener: TcpListener,
    pub tls: TlsAcceptor,
    pub server: Arc<Server>,
    pub stop: CancellationToken,
    pub connections: TaskTracker,
}

impl Acceptor {
    pub(super) async fn run(self) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Some(Ok(permit)) = self.stop.run_until_cancelled(room.clone().acquire_owned()).await else {
                return;
            };
            let accepted = match self.stop.run_until_cancelled(self.listener.accept()).await {
                None => return,
                Some(accepted) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (tls, server, stop) = (self.tls.clone(), self.server.clone(), self.stop.clone());
                    self.connections.spawn(async move {
                        serve(stream, peer.ip(), tls, server, stop).await;
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

async fn serve(
    stream: TcpStream,
    peer: std::net::IpAddr,
    tls: TlsAcceptor,
    server: Arc<Server>,
    stop: CancellationToken,
) {
    // A socket that cannot be set up fails at its first read.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            server.metrics.tls_errors.fetch_add(1, Ordering::Relaxed);
            return tracing::debug!(%error, "TLS handshake failed");
        }
        Err(_) => {
            server.metrics.tls_errors.fetch_add(1, Ordering::Relaxed);
            return tracing::debug!("TLS handshake timed out");
        }
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let user = certificate
        .and_then(|certificate| certificate::user(certificate))
        .map(Arc::new);
    let service = service_fn(move |request: ::http::Request<hyper::body::Incoming>| {
        let (server, user) = (server.clone(), user.clone());
        let mut request = request.map(Body::wrap);
        request.extensions_mut().insert(Peer(peer));
        async move { Ok::<_, Infallible>(server.answer_from_wire(user, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .adaptive_window(true)
        .keep_alive_interval(PING_PERIOD);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error, "connection ended");
    }
}
