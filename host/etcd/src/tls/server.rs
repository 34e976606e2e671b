//! What a listener needs for TLS, read again when its files change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;

use super::TlsError;
use super::files::{certificates, key, roots};

/// The files of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// PEM file of the certificate and those between it and its authority.
    pub cert: PathBuf,
    /// PEM file of the certificate's key.
    pub key: PathBuf,
    /// PEM file of the authorities that may sign clients; with it, every client must show a certificate.
    pub client_ca: Option<PathBuf>,
}

impl ServerTls {
    /// Reads the files.
    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let wrong = |error: &dyn std::error::Error| TlsError::Config(error.to_string());
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&error))?;
        let builder = match &self.client_ca {
            Some(ca) => {
                let roots = Arc::new(roots(Some(ca))?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| wrong(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(certificates(&self.cert)?, key(&self.key)?)
            .map_err(|error| TlsError::File {
                path: self.cert.clone(),
                reason: error.to_string(),
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// When each file was changed, and how long it is.
    fn stamp(&self) -> Stamp {
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        let stamp = |path: &PathBuf| {
            let data = std::fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        };
        files.map(|path| path.and_then(stamp))
    }
}

type Stamp = [Option<(SystemTime, u64)>; 3];

/// A listener's TLS as its files are now.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: ServerTls,
    current: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Certificates {
    /// Reads the files for the first time.
    pub(crate) fn open(files: ServerTls) -> Result<Self, TlsError> {
        let current = Mutex::new((files.stamp(), files.config()?));
        Ok(Self { files, current })
    }

    /// What to accept the next connection with. Files that make no sense leave what there was.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let stamp = self.files.stamp();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != stamp {
            current.0 = stamp;
            match self.files.config() {
                Ok(config) => {
                    tracing::info!(cert = %self.files.cert.display(), "read the certificate again");
                    current.1 = config;
                }
                Err(error) => {
                    tracing::warn!(%error, "a certificate was changed and cannot be read; the old one stays");
                }
            }
        }
        current.1.clone()
    }
}
