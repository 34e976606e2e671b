//! Images from an OCI layout folder: `index.json` and `blobs/sha256/*`.
//!
//! An index may name images itself (`io.containerd.image.name`, or a full `org.opencontainers.image.ref.name`).
//! Of an image for several platforms, the one for this machine is taken, else the Wasm one.

use std::fs::File;
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex};

use super::load::{parse_manifest, refuse};
use super::{DOCUMENT_BYTES_MAX, ImageStore, StoredImage, unpack};
use capstan_registry::reference;

use crate::{Error, Result};

/// Indexes within indexes deeper than this are refused.
const NESTING_MAX: usize = 4;
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Puts all images of a layout that have a name into the store; returns the first.
pub(crate) fn load_folder(store: &ImageStore, folder: &Path, name: Option<&str>) -> Result<StoredImage> {
    let bytes = read_document(folder, "index.json").map_err(|error| {
        refuse(
            folder,
            format!("{error}; a folder is loaded as an OCI layout, which has an index.json"),
        )
    })?;
    let index: ImageIndex =
        serde_json::from_slice(&bytes).map_err(|error| refuse(folder, format!("index.json: {error}")))?;
    if name.is_some() && index.manifests().len() > 1 {
        return Err(refuse(
            folder,
            "it holds more than one image, so one name does not fit; leave the name out",
        ));
    }
    let mut first = None;
    for descriptor in index.manifests() {
        let named = match name {
            Some(name) => name.to_owned(),
            None => own_name(descriptor).ok_or_else(|| {
                refuse(
                    folder,
                    "the image in it bears no name; give one with --name NAME:TAG",
                )
            })?,
        };
        let manifest = image_manifest(folder, descriptor, NESTING_MAX)?;
        let image = load_manifest(store, folder, &manifest, &named)?;
        first.get_or_insert(image);
    }
    first.ok_or_else(|| refuse(folder, "the layout holds no image"))
}

fn own_name(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations().as_ref()?;
    let named = |key: &&str| annotations.get(*key).filter(|name| name.contains([':', '/']));
    let name = NAME_ANNOTATIONS.iter().find_map(named)?;
    super::parse(name).ok().map(|name| reference::canonical(&name))
}

/// The manifest that a descriptor means: itself, or the fitting one of an index.
fn image_manifest(folder: &Path, descriptor: &Descriptor, nesting: usize) -> Result<Vec<u8>> {
    let bytes = read_blob(folder, descriptor.digest().as_ref())?;
    if !is_index(&bytes) {
        return Ok(bytes);
    }
    let index: ImageIndex = serde_json::from_slice(&bytes)
        .map_err(|error| refuse(folder, format!("its index is damaged: {error}")))?;
    let chosen =
        choose(index.manifests()).ok_or_else(|| refuse(folder, "it has no image for this machine"))?;
    match nesting.checked_sub(1) {
        Some(nesting) => image_manifest(folder, chosen, nesting),
        None => Err(refuse(folder, "its indexes are nested too deeply")),
    }
}

/// Whether a document lists manifests instead of being one.
pub(crate) fn is_index(document: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(document).is_ok_and(|value| value.get("manifests").is_some())
}

/// The entry for this machine, else one for Wasm, else the only one.
pub(crate) fn choose(entries: &[Descriptor]) -> Option<&Descriptor> {
    let native = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = |entry: &Descriptor| {
        entry
            .platform()
            .as_ref()
            .map(|platform| (platform.os().to_string(), platform.architecture().to_string()))
    };
    let is = |entry: &&Descriptor, os: Option<&str>, architecture: &str| {
        platform(entry).is_some_and(|(its_os, its)| its == architecture && os.is_none_or(|os| os == its_os))
    };
    entries
        .iter()
        .find(|entry| is(entry, Some("linux"), native))
        .or_else(|| entries.iter().find(|entry| is(entry, None, "wasm")))
        .or_else(|| match entries {
            [only] if platform(only).is_none() => Some(only),
            _ => None,
        })
}

fn load_manifest(store: &ImageStore, folder: &Path, manifest: &[u8], name: &str) -> Result<StoredImage> {
    let parsed = parse_manifest(manifest)?;
    for descriptor in std::iter::once(parsed.config()).chain(parsed.layers()) {
        let digest = descriptor.digest().to_string();
        if store.blobs.contains(&digest) {
            continue;
        }
        let path = blob_path(folder, &digest)?;
        let mut file = File::open(&path).map_err(Error::io(format!("opening {}", path.display())))?;
        let (found, _) = store.blobs.put_from(&mut file)?;
        if found != digest {
            return Err(refuse(
                folder,
                format!("blob {digest} has the content of {found}; the layout is damaged"),
            ));
        }
    }
    store.add(manifest, Some(name), None)
}

fn read_blob(folder: &Path, digest: &str) -> Result<Vec<u8>> {
    let path = blob_path(folder, digest)?;
    let inside = path.strip_prefix(folder).unwrap_or(&path).to_owned();
    read_document(folder, &inside.to_string_lossy()).map_err(|error| refuse(folder, error))
}

fn blob_path(folder: &Path, digest: &str) -> Result<std::path::PathBuf> {
    Ok(folder.join("blobs/sha256").join(super::hex_of(digest)?))
}

/// Reads a small file of a folder that came from elsewhere: its links lead nowhere outside.
pub(crate) fn read_document(folder: &Path, name: &str) -> std::io::Result<Vec<u8>> {
    let path = unpack::resolve_in(folder, Path::new(name))?;
    let size_bytes = path
        .metadata()
        .map_err(|error| std::io::Error::other(format!("{name}: {error}")))?
        .len();
    if size_bytes > DOCUMENT_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "{name} has {size_bytes} bytes, more than {DOCUMENT_BYTES_MAX}"
        )));
    }
    std::fs::read(path)
}
