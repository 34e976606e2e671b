//! Connections to pods, services and extension servers: plain or TLS, one request each, upgrades too.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use capstan_tls::AnyCertificate;
use http::header::{HeaderMap, HeaderName};
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::body::Body;

/// Time to reach the other side, and to shake hands.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// Headers that speak of one connection alone.
const HOP_HEADERS: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Sends a request to an address by plain HTTP/1.1.
pub(crate) async fn dial(address: SocketAddr, request: Request<Body>) -> std::io::Result<Response<Body>> {
    let stream = connect(address).await?;
    send(stream, request).await
}

/// Sends it by HTTP/1.1 over TLS.
pub(crate) async fn dial_tls(
    address: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
    request: Request<Body>,
) -> std::io::Result<Response<Body>> {
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    let stream = connect(address).await?;
    let shaken = TlsConnector::from(config).connect(name, stream);
    let stream = tokio::time::timeout(DIAL_MAX, shaken)
        .await
        .map_err(|_| timed_out("TLS handshake timeout".into()))??;
    send(stream, request).await
}

fn timed_out(message: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, message)
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let named = |what: &str| format!("dial tcp {address}: {what}");
    match tokio::time::timeout(DIAL_MAX, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(std::io::Error::new(
            error.kind(),
            named("connect: connection refused"),
        )),
        Ok(Err(error)) => Err(std::io::Error::new(error.kind(), named(&error.to_string()))),
        Err(_) => Err(timed_out(named("i/o timeout"))),
    }
}

async fn send<T>(stream: T, request: Request<Body>) -> std::io::Result<Response<Body>>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "proxied connection ended");
        }
    });
    let response = sender
        .send_request(request)
        .await
        .map_err(std::io::Error::other)?;
    Ok(response.map(Body::wrap))
}

/// Removes what speaks of one connection alone; the two headers of an upgrade stay where there is one.
pub(crate) fn strip_hop(headers: &mut HeaderMap, upgrades: bool) {
    let listed: Vec<HeaderName> = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in listed.iter().map(HeaderName::as_str).chain(HOP_HEADERS) {
        if !(upgrades && matches!(name, "connection" | "upgrade")) {
            headers.remove(name);
        }
    }
}

/// TLS that trusts whoever answers: for pods and services, whose certificates nobody here can know, and for
/// extension servers that ask for it.
pub(crate) static TRUSTING: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = AnyCertificate::new(provider.clone());
    Arc::new(
        config(provider)
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth(),
    )
});

/// A client's configuration with the provider's versions, which it always has.
pub(crate) fn config(
    provider: Arc<CryptoProvider>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for both versions of TLS")
}
