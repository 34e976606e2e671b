//! TLS connections to webhooks.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::resolve::{Target, endpoint};
use crate::registry::Registry;

/// Makes connections for one caller.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    target: Target,
    /// To find services; the registry keeps the callers, not they the registry.
    registry: Weak<Registry>,
}

impl Connector {
    /// `roots` are in PEM; none for the system's own.
    pub(super) fn new(roots: &[u8], target: Target, registry: Weak<Registry>) -> Result<Self, String> {
        let roots = if roots.is_empty() {
            system_roots()
        } else {
            read(roots)?
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            target,
            registry,
        })
    }

    async fn connect(self, uri: Uri) -> io::Result<Secured> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let address = match &self.target {
            Target::Host if host.contains(':') => format!("[{host}]:{}", uri.port_u16().unwrap_or(443)),
            Target::Host => format!("{host}:{}", uri.port_u16().unwrap_or(443)),
            Target::Service {
                namespace,
                name,
                port,
            } => {
                let registry = self.registry.upgrade();
                let registry = registry.ok_or_else(|| io::Error::other("the server is stopping"))?;
                endpoint(&registry, namespace, name, *port).map_err(io::Error::other)?
            }
        };
        let stream = TcpStream::connect(&address).await.map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                _ => error.to_string(),
            };
            io::Error::other(format!("dial tcp {address}: connect: {why}"))
        })?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let stream = self.tls.connect(name, stream).await?;
        Ok(Secured(TokioIo::new(stream)))
    }
}

fn read(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(pem) {
        let one = one.map_err(|error| format!("unable to load root certificates: {error}"))?;
        roots
            .add(one)
            .map_err(|error| format!("unable to load root certificates: {error}"))?;
    }
    if roots.is_empty() {
        return Err("unable to load root certificates: unable to parse bytes as PEM block".into());
    }
    Ok(roots)
}

fn system_roots() -> RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    };
    ROOTS.get_or_init(read).clone()
}

impl tower::Service<Uri> for Connector {
    type Response = Secured;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Secured>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// One connection.
pub(super) struct Secured(TokioIo<TlsStream<TcpStream>>);

impl Connection for Secured {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
