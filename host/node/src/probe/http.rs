//! One HTTP or HTTPS GET with a bound, as probes and the metrics adapter need it.
//!
//! A certificate is not checked, as with the original's probes: the question is whether something answers.
//! Redirects are not followed. The body is read up to the caller's bound and no further.

use std::sync::Arc;

use bytes::Bytes;
use capstan_tls::AnyCertificate;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::ask::dial_failure;

/// What to get.
#[derive(Debug, Clone)]
pub(crate) struct Get {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With its query; begins with `/`.
    pub(crate) path: String,
    pub(crate) tls: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) body_bytes_max: usize,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Asks once; the caller bounds the time. The error is one line for a human.
pub(crate) async fn get(get: &Get) -> Result<Answer, String> {
    let stream = TcpStream::connect((get.host.as_str(), get.port))
        .await
        .map_err(|error| format!("dial tcp {}:{}: {}", get.host, get.port, dial_failure(&error)))?;
    if !get.tls {
        return send(get, stream).await;
    }
    let name = ServerName::try_from(get.host.clone()).map_err(|error| error.to_string())?;
    let stream = tokio_rustls::TlsConnector::from(blind_tls()?)
        .connect(name, stream)
        .await
        .map_err(|error| format!("TLS: {error}"))?;
    send(get, stream).await
}

async fn send<S>(get: &Get, stream: S) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("HTTP: {error}"))?;
    let connection = tokio::spawn(connection);
    let mut request = http::Request::get(get.path.as_str())
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("path {:?}: {error}", get.path))?;
    *request.headers_mut() = get.headers.clone();
    if !request.headers().contains_key(http::header::HOST) {
        let host = if get.host.contains(':') {
            format!("[{}]", get.host)
        } else {
            get.host.clone()
        };
        let host = format!("{host}:{}", get.port)
            .parse()
            .map_err(|_| format!("host {:?} is no header", get.host))?;
        request.headers_mut().insert(http::header::HOST, host);
    }
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| format!("HTTP: {error}"))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, get.body_bytes_max).collect().await;
    connection.abort();
    let body = body
        .map_err(|error| format!("reading the body: {error}"))?
        .to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

fn blind_tls() -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(AnyCertificate::new(provider))
        .with_no_client_auth();
    Ok(Arc::new(config))
}
