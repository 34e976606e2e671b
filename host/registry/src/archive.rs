//! A component with its signatures in one file, for where no registry is: an OCI layout as a tar.
//!
//! `index.json` lists the component's manifest, by its name, and each signature's. Reading is bounded and checks every
//! blob against its digest; nothing is unpacked to disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use oci_client::manifest::{OciDescriptor, OciImageIndex, OciImageManifest};
use serde_json::{Value, json};

use crate::component::{Artifact, INDEX, MANIFEST, Package, check, descriptor, parse};
use crate::signatures::{Kind, bundle_package};
use crate::{Digested, Error, Signature, digest_of, reference};

const NAME: &str = "org.opencontainers.image.ref.name";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// Files of an archive that are looked at.
const FILES_MAX: usize = 64;
/// Bytes of all of them.
const ARCHIVE_BYTES_MAX: u64 = 64 << 20;

/// What an archive holds.
#[derive(Debug, Clone)]
pub struct Archived {
    /// Where the component came from, or what it is called.
    pub name: String,
    /// Its manifest.
    pub manifest: Digested,
    /// The component.
    pub component: Vec<u8>,
    /// Signatures of it.
    pub signatures: Vec<Signature>,
}

/// Writes a component, its name and the bundles over it.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, name: &str, package: &Package, bundles: &[String]) -> Result<(), Error> {
    let failed = |source| Error::Archive {
        path: path.to_owned(),
        source,
    };
    let signatures: Vec<Package> = bundles
        .iter()
        .map(|bundle| bundle_package(&package.manifest, bundle))
        .collect();
    let mut entry = descriptor(MANIFEST, &package.manifest);
    entry["annotations"] = json!({ NAME: name });
    let entries: Vec<Value> = std::iter::once(entry)
        .chain(signatures.iter().map(|one| descriptor(MANIFEST, &one.manifest)))
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let mut files = BTreeMap::new();
    for package in std::iter::once(package).chain(&signatures) {
        for blob in package.blobs.iter().chain([&package.manifest]) {
            files.insert(blob_path(&digest_of(blob)), blob.clone());
        }
    }
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    files.insert("oci-layout".to_owned(), LAYOUT.to_vec());
    tar(path, &files).map_err(failed)
}

fn tar(path: &Path, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let mut tar = tar::Builder::new(File::create(path)?);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes.as_slice())?;
    }
    tar.into_inner()?.flush()
}

/// Whether a file is a tar, by its magic.
pub fn is_archive(path: &Path) -> bool {
    const MAGIC_AT: usize = 257;
    let mut start = [0; MAGIC_AT + 5];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| start.ends_with(b"ustar"))
}

/// Reads what `write` wrote, or another tool's layout of one component.
///
/// # Errors
/// When it cannot be read, is damaged or too large, or holds no component.
pub fn read(path: &Path) -> Result<Archived, Error> {
    let files = untar(path).map_err(|source| Error::Archive {
        path: path.to_owned(),
        source,
    })?;
    let layout = Layout(files);
    let index: OciImageIndex = parse("index.json", layout.file("index.json")?)?;
    let mut component = None;
    let mut signatures = Vec::new();
    for entry in &index.manifests {
        let bytes = layout.blob(&entry.digest)?.to_vec();
        let manifest = Digested {
            digest: entry.digest.clone(),
            bytes,
        };
        let named = entry.annotations.as_ref().and_then(|a| a.get(NAME));
        let pinned = reference::parse("component")?.clone_with_digest(manifest.digest.clone());
        match Artifact::of(pinned, manifest.clone()) {
            Ok(artifact) if component.is_none() => {
                component = Some((artifact, named.cloned().unwrap_or_default()));
            }
            _ => signatures.push(manifest),
        }
    }
    let (artifact, name) =
        component.ok_or_else(|| Error::NoComponent("none of its manifests has one".into()))?;
    let component = layout.blob(artifact.component_digest())?.to_vec();
    check(&component)?;
    Ok(Archived {
        signatures: layout.signatures(&signatures, &artifact)?,
        name,
        manifest: artifact.manifest,
        component,
    })
}

/// An archive's files by path.
struct Layout(BTreeMap<String, Vec<u8>>);

impl Layout {
    fn file(&self, name: &str) -> Result<&[u8], Error> {
        let found = self.0.get(name).map(Vec::as_slice);
        found.ok_or_else(|| Error::Damaged {
            what: "the archive",
            message: format!("{name} is missing"),
        })
    }

    fn blob(&self, digest: &str) -> Result<&[u8], Error> {
        let bytes = self.file(&blob_path(digest))?;
        let found = digest_of(bytes);
        match found == digest {
            true => Ok(bytes),
            false => Err(Error::OtherDigest {
                wanted: digest.to_owned(),
                found,
            }),
        }
    }

    fn signatures(&self, manifests: &[Digested], artifact: &Artifact) -> Result<Vec<Signature>, Error> {
        let mut found = Vec::new();
        for manifest in manifests {
            let parsed: OciImageManifest = parse("a signature's manifest", &manifest.bytes)?;
            let kinds = parsed.layers.iter().filter_map(|layer: &OciDescriptor| {
                let kind = Kind::of(layer)?;
                Some((kind, &layer.digest))
            });
            for (kind, digest) in kinds {
                found.extend(kind.read(self.blob(digest)?.to_vec(), &artifact.manifest.bytes));
            }
        }
        Ok(found)
    }
}

fn untar(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(File::open(path)?);
    let mut left = ARCHIVE_BYTES_MAX;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let size = entry.size();
        if size > left || files.len() >= FILES_MAX {
            let most = format!("more than {FILES_MAX} files or {ARCHIVE_BYTES_MAX} bytes");
            return Err(io::Error::other(most));
        }
        left -= size;
        let name = entry
            .path()?
            .to_string_lossy()
            .trim_start_matches("./")
            .to_owned();
        let mut bytes = Vec::new();
        entry.by_ref().take(size).read_to_end(&mut bytes)?;
        files.insert(name, bytes);
    }
    Ok(files)
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::About;

    #[test]
    fn an_archive_gives_back_what_it_was_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plugin.tar");
        let package = Package::of(b"\0asm a component".to_vec(), &About::default());
        let bundles = ["{\"a\":1}".to_owned(), "{\"b\":2}".to_owned()];
        write(&path, "registry.example/x:1", &package, &bundles).expect("written");
        assert!(is_archive(&path));
        let read = read(&path).expect("read");
        assert_eq!(read.name, "registry.example/x:1");
        assert_eq!(read.component, b"\0asm a component");
        assert_eq!(read.manifest.digest, package.digest());
        let bundles: Vec<Signature> = bundles.into_iter().map(Signature::Bundle).collect();
        assert_eq!(read.signatures, bundles);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plugin.tar");
        let package = Package::of(b"\0asm a component".to_vec(), &About::default());
        write(&path, "x", &package, &[]).expect("written");
        let mut bytes = std::fs::read(&path).expect("a file");
        let at = bytes
            .windows(11)
            .position(|w| w == b"a component")
            .expect("it is in there");
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("a file");
        assert!(matches!(read(&path), Err(Error::OtherDigest { .. })));
        std::fs::write(&path, b"no tar").expect("a file");
        assert!(!is_archive(&path) && read(&path).is_err());
    }
}
