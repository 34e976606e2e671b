//! Images from files: an OCI layout (folder or tar), a docker-archive, or a bare component.
//!
//! What a file is, is seen from its content. A bare component needs a name; the others may bring their own.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use oci_spec::image::ImageManifest;

use super::{COMPONENT_BYTES_MAX, ImageStore, StoredImage, archive, layout};
use capstan_registry::reference;

use crate::{Error, Result};

/// First bytes of any Wasm, and those of a component after it (layer 1, version 13).
const WASM_MAGIC: &[u8] = b"\0asm";
const COMPONENT_VERSION: &[u8] = &[0x0d, 0, 1, 0];

/// Puts what is at `path` into the store.
pub(crate) fn load(store: &ImageStore, path: &Path, name: Option<&str>) -> Result<StoredImage> {
    let name = name
        .map(super::parse)
        .transpose()?
        .map(|name| reference::canonical(&name));
    if let Some(pinned) = name.as_deref().filter(|name| name.contains('@')) {
        return Err(refuse(
            path,
            format!("the name {pinned} has a digest; a loaded image is named by a tag"),
        ));
    }
    if path.is_dir() {
        return layout::load_folder(store, path, name.as_deref());
    }
    let mut start = [0; 8];
    let mut file = File::open(path).map_err(Error::io(format!("opening {}", path.display())))?;
    let count = file
        .read(&mut start)
        .map_err(Error::io(format!("reading {}", path.display())))?;
    if start[..count].starts_with(WASM_MAGIC) {
        let name =
            name.ok_or_else(|| refuse(path, "a Wasm file brings no name; give one with --name NAME:TAG"))?;
        return load_component(store, path, &start[..count], &name);
    }
    archive::load(store, path, name.as_deref())
}

fn load_component(store: &ImageStore, path: &Path, start: &[u8], name: &str) -> Result<StoredImage> {
    check_component(start).map_err(|message| refuse(path, message))?;
    let failed = || format!("reading {}", path.display());
    let size_bytes = path.metadata().map_err(Error::io(failed()))?.len();
    if size_bytes > COMPONENT_BYTES_MAX {
        return Err(refuse(
            path,
            format!("{size_bytes} bytes; a component may have {COMPONENT_BYTES_MAX}"),
        ));
    }
    let component = std::fs::read(path).map_err(Error::io(failed()))?;
    store.add_component(&component, name)
}

/// Whether bytes start like a component; if not, what to do about it.
pub(crate) fn check_component(start: &[u8]) -> Result<(), String> {
    if !start.starts_with(WASM_MAGIC) {
        return Err("not a Wasm file".into());
    }
    if start.get(4..8) != Some(COMPONENT_VERSION) {
        return Err(
            "a core Wasm module, not a component; build for wasm32-wasip2, or wrap the module with \
                    `wasm-tools component new` and the WASI adapter"
                .into(),
        );
    }
    Ok(())
}

/// Reads an image manifest.
pub(crate) fn parse_manifest(bytes: &[u8]) -> Result<ImageManifest> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::image(
            "ErrImagePull",
            format!("the image's manifest is damaged: {error}"),
        )
    })
}

pub(crate) fn encode(value: &serde_json::Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(std::io::Error::other)
        .map_err(Error::io("encoding an image document"))
}

/// A file that cannot be loaded, and why.
pub(crate) fn refuse(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::image(
        "ErrImagePull",
        format!("{} cannot be loaded: {why}", path.display()),
    )
}
