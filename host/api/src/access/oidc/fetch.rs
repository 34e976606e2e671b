//! GET of a JSON document over HTTPS.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes of a document at most.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;

pub(super) struct Fetcher(TlsConnector);

impl Fetcher {
    /// Trusts the authorities in PEM; those of the machine where there are none.
    pub(super) fn new(ca_pem: Option<&str>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca_pem {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|error| format!("the authorities: {error}"))?;
                    roots
                        .add(certificate)
                        .map_err(|error| format!("the authorities: {error}"))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(super) async fn get(&self, url: &str) -> Result<Value, String> {
        self.try_get(url)
            .await
            .map_err(|why| format!("cannot get {url}: {why}"))
    }

    async fn try_get(&self, url: &str) -> Result<Value, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let uri: http::Uri = url.parse().map_err(|error| said(&error))?;
        let host = match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(host)) => host.trim_matches(['[', ']']).to_owned(),
            _ => return Err("it is no https URL".to_owned()),
        };
        let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443)))
            .await
            .map_err(|error| said(&error))?;
        let name = ServerName::try_from(host).map_err(|error| said(&error))?;
        let stream = self.0.connect(name, stream).await.map_err(|error| said(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| said(&error))?;
        // Ends with the sender.
        tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(path)
            .header(http::header::HOST, authority)
            .header(http::header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|error| said(&error))?;
        let response = sender.send_request(request).await.map_err(|error| said(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("the answer is {}", response.status()));
        }
        let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX)
            .collect()
            .await;
        let bytes = body.map_err(|error| said(&error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| said(&error))
    }
}
