//! One registry, one login: documents and blobs by digest, both ways.

use std::time::Duration;

use http::HeaderValue;
use oci_client::Client;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{OciDescriptor, OciImageIndex};
use oci_client::secrets::RegistryAuth;
use oci_spec::distribution::Reference;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWrite;

use crate::{Error, Login, reference};

/// Bytes of a manifest, an index or a configuration.
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// `sha256:<hex>` of some bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut name = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// Bytes and the digest that they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digested {
    /// `sha256:…`.
    pub digest: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A client of the registry that a reference names.
pub struct Registry {
    client: Client,
    auth: RegistryAuth,
}

impl Registry {
    /// Opens no connection yet.
    pub fn new(registry: &str, login: Option<Login>) -> Self {
        // Already installed is fine: one provider serves the process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let protocol = if reference::is_local(registry) {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        };
        let client = Client::new(ClientConfig {
            protocol,
            read_timeout: Some(READ_TIMEOUT),
            connect_timeout: Some(CONNECT_TIMEOUT),
            user_agent: concat!("capstan/", env!("CARGO_PKG_VERSION")),
            ..Default::default()
        });
        let auth = login.map_or(RegistryAuth::Anonymous, |login| {
            RegistryAuth::Basic(login.username, login.password)
        });
        Self { client, auth }
    }

    /// The manifest or index that a reference means.
    ///
    /// # Errors
    /// The registry's answer, a document that is too large, or one of another digest than asked for.
    pub async fn document(&self, reference: &Reference) -> Result<Digested, Error> {
        let fetched = self
            .client
            .pull_manifest_raw(reference, &self.auth, &MANIFEST_TYPES);
        let (document, _) = fetched.await.map_err(|error| answer(&error))?;
        if document.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(Error::DocumentTooLarge { size: document.len() });
        }
        let digest = digest_of(&document);
        match reference.digest() {
            Some(wanted) if wanted != digest => Err(Error::OtherDigest {
                wanted: wanted.to_owned(),
                found: digest,
            }),
            _ => Ok(Digested {
                digest,
                bytes: document.to_vec(),
            }),
        }
    }

    /// Streams a blob into `out`; its content is compared with its digest.
    ///
    /// # Errors
    /// The registry's answer, or another content.
    pub async fn blob(
        &self,
        reference: &Reference,
        digest: &str,
        size_bytes: u64,
        out: impl AsyncWrite,
    ) -> Result<(), Error> {
        let layer = OciDescriptor {
            digest: digest.to_owned(),
            size: i64::try_from(size_bytes).map_err(|_| Error::Damaged {
                what: "the manifest",
                message: "a layer's size is out of range".into(),
            })?,
            ..Default::default()
        };
        self.login(reference).await;
        let pulled = self.client.pull_blob(reference, &layer, out);
        pulled.await.map_err(|error| answer(&error))
    }

    /// A small blob whole.
    ///
    /// # Errors
    /// As of `blob`; and one of more than `max` bytes.
    pub async fn small_blob(
        &self,
        reference: &Reference,
        descriptor: &OciDescriptor,
        max: u64,
    ) -> Result<Vec<u8>, Error> {
        let size = u64::try_from(descriptor.size).unwrap_or(u64::MAX);
        if size > max {
            return Err(Error::ComponentTooLarge { size, max });
        }
        let mut out = Bounded {
            bytes: Vec::with_capacity(usize::try_from(size).unwrap_or_default()),
            max,
        };
        self.blob(reference, &descriptor.digest, size, &mut out).await?;
        Ok(out.bytes)
    }

    /// Sends a blob, unless it is there already; returns its digest.
    ///
    /// # Errors
    /// The registry's answer.
    pub async fn push_blob(&self, reference: &Reference, bytes: Vec<u8>) -> Result<String, Error> {
        let digest = digest_of(&bytes);
        self.login(reference).await;
        if self.client.blob_exists(reference, &digest).await.unwrap_or(false) {
            return Ok(digest);
        }
        let pushed = self.client.push_blob(reference, bytes, &digest).await;
        pushed.map(|_| digest).map_err(|error| answer(&error))
    }

    /// Sends a manifest or index under the reference's tag or digest.
    ///
    /// # Errors
    /// The registry's answer.
    pub async fn push_document(
        &self,
        reference: &Reference,
        document: Vec<u8>,
        media_type: &'static str,
    ) -> Result<String, Error> {
        let digest = digest_of(&document);
        self.login(reference).await;
        let kind = HeaderValue::from_static(media_type);
        let pushed = self.client.push_manifest_raw(reference, document, kind).await;
        pushed.map(|_| digest).map_err(|error| answer(&error))
    }

    /// What refers to a manifest, by the referrers API or its fallback tag.
    ///
    /// # Errors
    /// The registry's answer.
    pub async fn referrers(&self, pinned: &Reference) -> Result<OciImageIndex, Error> {
        self.login(pinned).await;
        let found = self.client.pull_referrers(pinned, None).await;
        found.map_err(|error| answer(&error))
    }

    async fn login(&self, reference: &Reference) {
        let registry = reference.resolve_registry();
        self.client.store_auth_if_needed(registry, &self.auth).await;
    }
}

/// Memory that takes no more than it should, whatever the registry sends.
struct Bounded {
    bytes: Vec<u8>,
    max: u64,
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        part: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        if (self.bytes.len() + part.len()) as u64 > self.max {
            let message = format!("more than {} bytes", self.max);
            return std::task::Poll::Ready(Err(std::io::Error::other(message)));
        }
        self.bytes.extend_from_slice(part);
        std::task::Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// An error with all that it was caused by; an HTTP client's own text says little.
fn answer(error: &OciDistributionError) -> Error {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    let is_missing = match error {
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => true,
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.iter().any(|error| {
            matches!(
                error.code,
                OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
            )
        }),
        _ => false,
    };
    match is_missing {
        true => Error::Missing(text),
        false => Error::Answer(text),
    }
}
