//! Images from registries, by the distribution protocol.
//!
//! Blobs that are already here are not fetched again; every blob is checked against its digest before the image
//! appears. Speaking to the registry is `capstan-registry`'s.

use std::path::Path;

use capstan_registry::{Login, Reference, Registry, reference};
use oci_spec::image::{Descriptor, ImageIndex};
use tokio::sync::Semaphore;

use super::load::parse_manifest;
use super::{ImageStore, StoredImage, layout};
use crate::{AuthConfig, Error, files};

/// Pulls at once; more wait.
const PULLS_MAX: usize = 3;

static PULLS: Semaphore = Semaphore::const_new(PULLS_MAX);

/// Fetches an image into the store.
pub(crate) async fn pull(
    store: &ImageStore,
    reference: &Reference,
    auth: Option<AuthConfig>,
) -> crate::Result<StoredImage> {
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
    let login = auth.map(|AuthConfig { username, password }| Login { username, password });
    let registry = Registry::new(reference.registry(), login);
    let manifest = fetch_manifest(&registry, reference)
        .await
        .map_err(|error| failed(&error))?;
    let parsed = parse_manifest(&manifest)?;
    for descriptor in std::iter::once(parsed.config()).chain(parsed.layers()) {
        if !store.blobs.contains(descriptor.digest().as_ref()) {
            fetch_blob(store, &registry, reference, descriptor)
                .await
                .map_err(|error| failed(&error))?;
        }
    }
    let tag = reference.digest().is_none().then_some(name.as_str());
    store.add(&manifest, tag, Some(&reference::repository(reference)))
}

/// The manifest of the image for this machine.
async fn fetch_manifest(registry: &Registry, reference: &Reference) -> Result<Vec<u8>, String> {
    let fetch = async |reference: &Reference| {
        let fetched = registry.document(reference).await;
        fetched
            .map(|document| document.bytes)
            .map_err(|error| error.to_string())
    };
    let document = fetch(reference).await?;
    if !layout::is_index(&document) {
        return Ok(document);
    }
    let index: ImageIndex =
        serde_json::from_slice(&document).map_err(|error| format!("damaged index: {error}"))?;
    let chosen = layout::choose(index.manifests()).ok_or("the registry has no image for this machine")?;
    fetch(&reference.clone_with_digest(chosen.digest().to_string())).await
}

async fn fetch_blob(
    store: &ImageStore,
    registry: &Registry,
    reference: &Reference,
    descriptor: &Descriptor,
) -> Result<(), String> {
    let part = store.blobs.incoming();
    let fetched = fetch_into(registry, reference, descriptor, &part).await;
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
    registry: &Registry,
    reference: &Reference,
    descriptor: &Descriptor,
    part: &Path,
) -> Result<(), String> {
    let digest = descriptor.digest().to_string();
    super::hex_of(&digest).map_err(|error| error.to_string())?;
    let file = tokio::fs::File::create_new(part)
        .await
        .map_err(|error| error.to_string())?;
    let fetched = registry.blob(reference, &digest, descriptor.size(), file).await;
    fetched.map_err(|error| error.to_string())
}
