//! Images from a tar, gzipped or not: an OCI layout, or what `docker save` writes (docker-archive).
//!
//! The tar is unpacked beside the store and removed afterwards, whatever comes of it.

use std::fs::File;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::layout::{self, read_document};
use super::load::{encode, refuse};
use super::{ImageStore, StoredImage, unpack};
use capstan_registry::reference;

use crate::{Error, Result, files};

/// An entry of a docker-archive's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Puts the images of a tar into the store; returns the first.
pub(crate) fn load(store: &ImageStore, path: &Path, name: Option<&str>) -> Result<StoredImage> {
    let folder = store.blobs.incoming();
    let loaded = unpack_and_load(store, path, &folder, name);
    files::remove(&folder)?;
    loaded
}

fn unpack_and_load(
    store: &ImageStore,
    path: &Path,
    folder: &Path,
    name: Option<&str>,
) -> Result<StoredImage> {
    files::create_private_dir(folder)?;
    let file = File::open(path).map_err(Error::io(format!("opening {}", path.display())))?;
    unpack::extract(file, folder).map_err(|error| {
        refuse(
            path,
            format!("{error}; it should be a .wasm component, an OCI layout, or a tar from `docker save`"),
        )
    })?;
    if folder.join("manifest.json").exists() {
        load_docker(store, path, folder, name)
    } else if folder.join("index.json").exists() {
        layout::load_folder(store, folder, name)
    } else {
        Err(refuse(
            path,
            "neither index.json (OCI layout) nor manifest.json (docker-archive) is in it",
        ))
    }
}

fn load_docker(store: &ImageStore, path: &Path, folder: &Path, name: Option<&str>) -> Result<StoredImage> {
    let bytes = read_document(folder, "manifest.json").map_err(|error| refuse(path, error))?;
    let images: Vec<DockerImage> =
        serde_json::from_slice(&bytes).map_err(|error| refuse(path, format!("manifest.json: {error}")))?;
    if name.is_some() && images.len() > 1 {
        return Err(refuse(
            path,
            "it holds more than one image, so one name does not fit; leave the name out",
        ));
    }
    let mut first = None;
    for image in &images {
        let manifest = docker_manifest(store, path, folder, image)?;
        let own = image.repo_tags.iter().flatten().cloned();
        let names: Vec<String> = name.map_or_else(|| own.collect(), |name| vec![name.to_owned()]);
        if names.is_empty() {
            return Err(refuse(
                path,
                "the image in it bears no name; give one with --name NAME:TAG",
            ));
        }
        for name in &names {
            let canonical = reference::canonical(&super::parse(name)?);
            let loaded = store.add(&manifest, Some(&canonical), None)?;
            first.get_or_insert(loaded);
        }
    }
    first.ok_or_else(|| refuse(path, "the archive holds no image"))
}

/// The OCI manifest of a docker-archive's image, whose blobs it stores.
fn docker_manifest(store: &ImageStore, path: &Path, folder: &Path, image: &DockerImage) -> Result<Vec<u8>> {
    let config = read_document(folder, &image.config).map_err(|error| refuse(path, error))?;
    let config_digest = store.blobs.put(&config)?;
    let mut layers = Vec::new();
    for layer in &image.layers {
        let resolved = unpack::resolve_in(folder, Path::new(layer)).map_err(|error| refuse(path, error))?;
        let mut file =
            File::open(resolved).map_err(|error| refuse(path, format!("layer {layer}: {error}")))?;
        let (digest, size) = store.blobs.put_from(&mut file)?;
        layers.push(
            json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size }),
        );
    }
    encode(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest,
            "size": config.len(),
        },
        "layers": layers,
    }))
}
