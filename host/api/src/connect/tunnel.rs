//! Upgraded connections: the client's and the backend's become one, bytes both ways, until either ends. WebSocket
//! frames go to the client one by one.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CONNECTION, HeaderMap, UPGRADE};
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::frames;
use crate::body::Body;
use crate::server::Server;

/// Bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The connection behind an answer of 101 that did not come over the wire, among the answer's extensions.
#[derive(Clone)]
pub struct Tunnel(Arc<Mutex<Option<Box<dyn Duplex>>>>);

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnel")
    }
}

impl Tunnel {
    /// Around a connection in this process.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    fn take(&self) -> Option<Box<dyn Duplex>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Whether a client asks for another protocol.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        let value = value.as_bytes();
        value
            .split(|byte| *byte == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    })
}

/// Passes a backend's answer on; where it agrees to an upgrade, joins both connections.
pub(crate) fn join(server: &Server, client: OnUpgrade, mut answer: Response<Body>) -> Response<Body> {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return answer;
    }
    let tunnel = answer.extensions_mut().remove::<Tunnel>();
    let upgrade = hyper::upgrade::on(&mut answer);
    let named = answer.headers().get(UPGRADE);
    let framed = named.is_some_and(|named| named.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let stop = server.stop.clone();
    tokio::spawn(async move {
        let backend: Box<dyn Duplex> = match tunnel.and_then(|tunnel| tunnel.take()) {
            Some(stream) => stream,
            None => match upgrade.await {
                Ok(upgraded) => Box::new(TokioIo::new(upgraded)),
                Err(error) => return tracing::debug!(%error, "a backend's upgrade failed"),
            },
        };
        match client.await {
            Ok(client) => drop(
                stop.run_until_cancelled(splice(TokioIo::new(client), backend, framed))
                    .await,
            ),
            Err(error) => tracing::debug!(%error, "a client's upgrade failed"),
        }
    });
    answer.map(|_| Body::empty())
}

/// Copies until one side has ended: then the other has nothing to wait for.
async fn splice(client: impl Duplex, backend: impl Duplex, framed: bool) {
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut backend_read, mut backend_write) = tokio::io::split(backend);
    let answered = async {
        match framed {
            true => frames::copy(&mut backend_read, &mut client_write).await,
            false => tokio::io::copy(&mut backend_read, &mut client_write)
                .await
                .map(drop),
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut client_read, &mut backend_write) => {}
        _ = answered => {}
    }
    let _ = client_write.shutdown().await;
    let _ = backend_write.shutdown().await;
}
