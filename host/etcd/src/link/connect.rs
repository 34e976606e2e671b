//! Makes the connection: TCP, TLS where the address says so, HTTP/2.

use std::net::IpAddr;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Address, LinkOptions, Sender, describe};

/// Bytes of one answer that may be under way unread.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes of all answers together.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// A frame may be so large.
const FRAME_BYTES_MAX: u32 = 64 * 1024;

pub(super) async fn connect(address: &Address, options: &LinkOptions) -> Result<Sender, String> {
    let made = tokio::time::timeout(options.dial_timeout, establish(address, options));
    made.await
        .unwrap_or_else(|_| Err(format!("no connection within {:?}", options.dial_timeout)))
}

async fn establish(address: &Address, options: &LinkOptions) -> Result<Sender, String> {
    let stream = TcpStream::connect((address.host(), address.port()))
        .await
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    if !address.is_https() {
        return handshake(stream, options).await;
    }
    let config = options.tls.config().map_err(|error| error.to_string())?;
    let name = match options.tls.server_name.as_deref() {
        Some(name) => server_name(name),
        None => server_name(address.host()),
    }?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    handshake(stream.map_err(|error| describe(&error))?, options).await
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(ip.into()));
    }
    ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())
}

async fn handshake<S>(stream: S, options: &LinkOptions) -> Result<Sender, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // No adaptive window: its pings look like a flood to etcd's server. No pings while idle, for the same reason.
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| describe(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = describe(&error), "a connection ended");
        }
    });
    Ok(sender)
}
