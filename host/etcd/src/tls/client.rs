//! What a client needs for TLS.

use std::path::PathBuf;
use std::sync::Arc;

use capstan_tls::AnyCertificate;
use rustls::ClientConfig;
use rustls::crypto::ring;

use super::TlsError;
use super::files::{certificates, key, roots};

/// A client's TLS: which authority it trusts and who it says that it is.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    /// PEM file of the authorities that may sign the server; without one, those that the system trusts.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's own certificate, with its key.
    pub cert: Option<PathBuf>,
    /// PEM file of the certificate's key.
    pub key: Option<PathBuf>,
    /// The name that the server's certificate must have, where it is not the host's.
    pub server_name: Option<String>,
    /// Trust any server; for certificates that members made for themselves.
    pub trust_any: bool,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit the others.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Config(error.to_string()))?;
        let builder = if self.trust_any {
            builder
                .dangerous()
                .with_custom_certificate_verifier(AnyCertificate::new(provider))
        } else {
            builder.with_root_certificates(roots(self.ca.as_deref())?)
        };
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(private)) => builder
                .with_client_auth_cert(certificates(cert)?, key(private)?)
                .map_err(|error| TlsError::Config(error.to_string()))?,
            (None, None) => builder.with_no_client_auth(),
            _ => {
                let told = "a certificate needs its key, and a key its certificate".into();
                return Err(TlsError::Config(told));
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}
