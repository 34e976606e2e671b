//! Images from registries, by the distribution protocol.
//!
//! Registries on this machine speak HTTP, all others HTTPS. Blobs that are already here are not fetched
//! again; every blob is checked against its digest before the image appears.

use std::path::Path;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_spec::image::{Descriptor, ImageIndex};
use tokio::sync::Semaphore;

use super::load::parse_manifest;
use super::{DOCUMENT_BYTES_MAX, ImageStore, StoredImage, digest_of, layout, reference};
use crate::{AuthConfig, Error, Result, files};

/// Pulls at once; more wait.
const PULLS_MAX: usize = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

static PULLS: Semaphore = Semaphore::const_new(PULLS_MAX);

/// Fetches an image into the store.
pub(crate) async fn pull(
    store: &ImageStore,
    reference: &Reference,
    auth: Option<AuthConfig>,
) -> Result<StoredImage> {
    let _one = PULLS
        .acquire()
        .await
        .map_err(|_| Error::Precondition("the image store is closed".into()))?;
    let name = reference::canonical(reference);
    let failed = |error: &dyn std::fmt::Display| {
        Error::image(
            "ErrImagePull",
            format!("failed to pull image \"{name}\": {error}"),
        )
    };
    let client = client(reference.registry());
    let auth = auth.map_or(RegistryAuth::Anonymous, |auth| {
        RegistryAuth::Basic(auth.username, auth.password)
    });
    let manifest = fetch_manifest(&client, reference, &auth)
        .await
        .map_err(|error| failed(&error))?;
    let parsed = parse_manifest(&manifest)?;
    for descriptor in std::iter::once(parsed.config()).chain(parsed.layers()) {
        if !store.blobs.contains(descriptor.digest().as_ref()) {
            fetch_blob(store, &client, reference, descriptor)
                .await
                .map_err(|error| failed(&error))?;
        }
    }
    let tag = reference.digest().is_none().then_some(name.as_str());
    store.add(&manifest, tag, Some(&reference::repository(reference)))
}

fn client(registry: &str) -> Client {
    // Already installed is fine: one provider serves the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let protocol = if reference::is_local(registry) {
        ClientProtocol::Http
    } else {
        ClientProtocol::Https
    };
    Client::new(ClientConfig {
        protocol,
        read_timeout: Some(READ_TIMEOUT),
        connect_timeout: Some(CONNECT_TIMEOUT),
        user_agent: concat!("capstan/", env!("CARGO_PKG_VERSION")),
        ..Default::default()
    })
}

/// The manifest of the image for this machine.
async fn fetch_manifest(
    client: &Client,
    reference: &Reference,
    auth: &RegistryAuth,
) -> Result<Vec<u8>, String> {
    let document = fetch_document(client, reference, auth).await?;
    if !layout::is_index(&document) {
        return Ok(document);
    }
    let index: ImageIndex =
        serde_json::from_slice(&document).map_err(|error| format!("damaged index: {error}"))?;
    let chosen = layout::choose(index.manifests()).ok_or("the registry has no image for this machine")?;
    let pinned = reference.clone_with_digest(chosen.digest().to_string());
    fetch_document(client, &pinned, auth).await
}

async fn fetch_document(
    client: &Client,
    reference: &Reference,
    auth: &RegistryAuth,
) -> Result<Vec<u8>, String> {
    let fetched = client.pull_manifest_raw(reference, auth, &MANIFEST_TYPES).await;
    let (document, _) = fetched.map_err(|error| with_causes(&error))?;
    if document.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(format!(
            "the manifest has {} bytes, more than {DOCUMENT_BYTES_MAX}",
            document.len()
        ));
    }
    let found = digest_of(&document);
    match reference.digest() {
        Some(wanted) if wanted != found => Err(format!("the registry answered {wanted} with {found}")),
        _ => Ok(document.to_vec()),
    }
}

async fn fetch_blob(
    store: &ImageStore,
    client: &Client,
    reference: &Reference,
    descriptor: &Descriptor,
) -> Result<(), String> {
    let part = store.blobs.incoming();
    let fetched = fetch_into(client, reference, descriptor, &part).await;
    let kept = match fetched {
        Ok(()) => store
            .blobs
            .adopt(&part, descriptor.digest().as_ref())
            .map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    if kept.is_err() {
        files::remove(&part).map_err(|error| error.to_string())?;
    }
    kept
}

async fn fetch_into(
    client: &Client,
    reference: &Reference,
    descriptor: &Descriptor,
    part: &Path,
) -> Result<(), String> {
    let digest = descriptor.digest().to_string();
    super::hex_of(&digest).map_err(|error| error.to_string())?;
    let file = tokio::fs::File::create_new(part)
        .await
        .map_err(|error| error.to_string())?;
    let layer = oci_client::manifest::OciDescriptor {
        digest,
        size: i64::try_from(descriptor.size()).map_err(|_| "a layer's size is out of range")?,
        media_type: descriptor.media_type().to_string(),
        ..Default::default()
    };
    client
        .pull_blob(reference, &layer, file)
        .await
        .map_err(|error| with_causes(&error))
}

/// An error with all that it was caused by; an HTTP client's own text says little.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
