//! The image store: a table of images over content-addressed blobs, under the runtime's root folder.
//!
//! Images come from files ([`load`]), from registries ([`pull`]), or are built in. The table is written whole
//! after each change; a blob that no image owns is removed with the last image that owned it. File systems of
//! images are unpacked at first use. Called by [`crate::Embedded`] alone.

mod archive;
mod blobs;
mod handle;
mod layout;
mod load;
mod pull;
mod record;
mod unpack;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::blobs::{Blobs, hex_of};
pub use self::handle::Images;
pub(crate) use self::record::{StoredImage, Workload};
pub(crate) use self::unpack::resolve_in;
use crate::task::Process;
pub(crate) use capstan_registry::digest_of;
use capstan_registry::{DOCUMENT_BYTES_MAX, Reference, reference};

use crate::{AuthConfig, Error, Image, Result, files};

/// A larger component is refused.
const COMPONENT_BYTES_MAX: u64 = 256 << 20;
/// More images than this are refused.
const IMAGES_MAX: usize = 10_000;

/// A reference as users write it, and what to do about one that is none.
pub(crate) fn parse(text: &str) -> Result<Reference> {
    reference::parse(text).map_err(|error| {
        let hint = match text.contains("://") || text.starts_with('/') {
            true => "an image in a file is put into the store by `capstan image load FILE --name NAME:TAG`",
            false => "a reference looks like registry/name:tag",
        };
        Error::image("InvalidImageName", format!("{error}; {hint}"))
    })
}

type Table = BTreeMap<String, StoredImage>;

/// All images in a folder. Several nodes and the command line may share it: the table is read anew when it
/// changed on disk, and changed under a lock.
#[derive(Debug)]
pub(crate) struct ImageStore {
    root: PathBuf,
    blobs: Blobs,
    table: Mutex<Seen>,
    /// Names that are built in: they need no registry.
    bundled: Vec<String>,
    /// One unpacks at a time.
    unpacking: tokio::sync::Mutex<()>,
}

/// The table as last read or written.
#[derive(Debug, Default)]
struct Seen {
    /// Tells one version of the file from another: its inode and times.
    stamp: Option<(u64, i64, i64)>,
    /// By digest of their manifests.
    table: Table,
}

impl ImageStore {
    /// Opens the store and adds what is built in.
    pub(crate) fn open(root: &Path, bundled: &[(String, Cow<'static, [u8]>)]) -> Result<Self> {
        files::create_private_dir(root)?;
        let blobs = Blobs::open(root)?;
        let mut store = Self {
            root: root.to_owned(),
            blobs,
            table: Mutex::default(),
            bundled: vec![],
            unpacking: Default::default(),
        };
        store.tidy()?;
        drop(store.current()?);
        for (name, component) in bundled {
            let canonical = reference::canonical(&parse(name)?);
            let _using = store.using_blobs()?;
            store.add_component(component, &canonical)?;
            store.bundled.push(canonical);
        }
        Ok(store)
    }

    /// All images.
    pub(crate) fn list(&self) -> Result<Vec<Image>> {
        Ok(self.current()?.table.values().map(StoredImage::to_cri).collect())
    }

    /// The image of that name, digest reference or id.
    pub(crate) fn find(&self, name: &str) -> Result<Option<StoredImage>> {
        let is_id = name.starts_with("sha256:");
        let canonical = if is_id {
            String::new()
        } else {
            reference::canonical(&parse(name)?)
        };
        let is_it = |image: &&StoredImage| {
            let mut names = image.tags.iter().chain(&image.repo_digests);
            if is_id {
                image.id == name || image.digest == name
            } else {
                names.any(|own| *own == canonical)
            }
        };
        Ok(self.current()?.table.values().find(is_it).cloned())
    }

    /// Puts an image from a file or folder into the store.
    pub(crate) fn load(&self, path: &Path, name: Option<&str>) -> Result<StoredImage> {
        let _using = self.using_blobs()?;
        load::load(self, path, name)
    }

    /// Fetches an image from its registry; returns it.
    pub(crate) async fn pull(&self, name: &str, auth: Option<AuthConfig>) -> Result<StoredImage> {
        let reference = parse(name)?;
        let canonical = reference::canonical(&reference);
        if self.bundled.contains(&canonical)
            && let Some(image) = self.find(&canonical)?
        {
            return Ok(image);
        }
        let _using = self.using_blobs()?;
        pull::pull(self, &reference, auth).await
    }

    /// Removes an image with all its names; one that is not here is fine.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let Some(image) = self.find(name)? else {
            return Ok(());
        };
        self.change(|table| {
            table.remove(&image.digest);
        })?;
        files::remove(&self.rootfs_path(&image.digest)?)?;
        self.tidy()
    }

    /// Removes blobs that no image owns and what was left half done, unless somebody is just adding images;
    /// then the next one to remove an image does it.
    fn tidy(&self) -> Result<()> {
        let lock = self.lock_file("blobs.lock")?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        self.blobs.clear_incoming()?;
        unpack::clear_parts(&self.root.join("rootfs")).map_err(Error::io("tidying unpacked images"))?;
        let table = self.current()?.table.clone();
        self.blobs
            .retain(|digest| table.values().any(|image| image.owns(digest)))
    }

    /// Held while blobs come in that no image owns yet.
    fn using_blobs(&self) -> Result<File> {
        let lock = self.lock_file("blobs.lock")?;
        lock.lock_shared().map_err(Error::io("locking the image store"))?;
        Ok(lock)
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.root.join(name);
        let opened = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path);
        opened.map_err(Error::io(format!("opening {}", path.display())))
    }

    /// A component's bytes.
    pub(crate) async fn component(&self, digest: &str) -> Result<Vec<u8>> {
        let (blobs, digest) = (self.blobs.clone(), digest.to_owned());
        handle::apart("reading the component", move || {
            blobs.read(&digest, COMPONENT_BYTES_MAX)
        })
        .await
    }

    /// The folder with the image's files, unpacked at first use. Nobody writes into it.
    pub(crate) async fn rootfs(self: &Arc<Self>, image: &StoredImage) -> Result<PathBuf> {
        let path = self.rootfs_path(&image.digest)?;
        files::create_private_dir(&self.root.join("rootfs"))?;
        let _one = self.unpacking.lock().await;
        if path.exists() {
            return Ok(path);
        }
        let (blobs, layers, target) = (self.blobs.clone(), image.layers.clone(), path.clone());
        let unpacked = tokio::task::spawn_blocking(move || unpack::unpack(&blobs, &layers, &target)).await;
        unpacked.map_err(|error| Error::Container(format!("unpacking the image failed: {error}")))??;
        Ok(path)
    }

    fn rootfs_path(&self, digest: &str) -> Result<PathBuf> {
        Ok(self.root.join("rootfs").join(hex_of(digest)?))
    }

    /// Makes an image of a bare component, in the layout that registries know.
    fn add_component(&self, component: &[u8], name: &str) -> Result<StoredImage> {
        let (config, manifest) = capstan_registry::documents(component);
        self.blobs.put(component)?;
        self.blobs.put(&config)?;
        self.add(&manifest, Some(name), None)
    }

    /// Adds the image of a manifest whose blobs are all here, under a name if one is given.
    /// `repository` is where a registry has it.
    fn add(&self, manifest: &[u8], tag: Option<&str>, repository: Option<&str>) -> Result<StoredImage> {
        let parsed = load::parse_manifest(manifest)?;
        let digest = self.blobs.put(manifest)?;
        let config = self
            .blobs
            .read(parsed.config().digest().as_ref(), DOCUMENT_BYTES_MAX)?;
        let mut image = StoredImage::new(digest.clone(), &parsed, &config)?;
        if let Some(missing) = image.layers.iter().find(|(layer, _)| !self.blobs.contains(layer)) {
            return Err(Error::image(
                "ErrImagePull",
                format!("layer {} of the image is missing", missing.0),
            ));
        }
        let tag_repository = tag
            .map(parse)
            .transpose()?
            .map(|reference| reference::repository(&reference));
        self.change(|table| {
            if let Some(present) = table.get(&digest) {
                image.tags.clone_from(&present.tags);
                image.repo_digests.clone_from(&present.repo_digests);
            }
            for repository in [repository.map(str::to_owned), tag_repository]
                .into_iter()
                .flatten()
            {
                add_once(&mut image.repo_digests, format!("{repository}@{digest}"));
            }
            if let Some(tag) = tag {
                // A name means one image: the newest that bears it.
                table
                    .values_mut()
                    .for_each(|other| other.tags.retain(|present| present != tag));
                add_once(&mut image.tags, tag.to_owned());
            }
            table.insert(digest.clone(), image.clone());
        })?;
        Ok(image)
    }

    fn change(&self, change: impl FnOnce(&mut Table)) -> Result<()> {
        let lock = self.lock_file("images.lock")?;
        lock.lock().map_err(Error::io("locking the image store"))?;
        let mut seen = self.current()?;
        let mut table = seen.table.clone();
        change(&mut table);
        if table.len() > IMAGES_MAX {
            return Err(Error::image(
                "ErrImagePull",
                format!("the store holds {IMAGES_MAX} images; remove some"),
            ));
        }
        if table != seen.table {
            let path = self.table_path();
            files::write_json(&path, &table, files::Survives::Power)?;
            *seen = Seen {
                stamp: stamp_of(&path),
                table,
            };
        }
        Ok(())
    }

    /// The table as it is on disk.
    fn current(&self) -> Result<MutexGuard<'_, Seen>> {
        let mut seen = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.table_path();
        // Taken before the file is read: at worst it is read once more.
        let stamp = stamp_of(&path);
        if stamp != seen.stamp {
            *seen = Seen {
                stamp,
                table: files::read_json(&path)?.unwrap_or_default(),
            };
        }
        Ok(seen)
    }

    fn table_path(&self) -> PathBuf {
        self.root.join("images.json")
    }
}

fn stamp_of(path: &Path) -> Option<(u64, i64, i64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

fn add_once(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The component that a process names by its first word, in an image's files, and its digest.
pub(crate) async fn component_in(rootfs: PathBuf, process: &Process) -> Result<(String, Vec<u8>)> {
    let program = process.args.first().cloned().unwrap_or_default();
    let working_dir = PathBuf::from(&process.working_dir);
    handle::apart("reading the component", move || {
        let failed = |why: &dyn std::fmt::Display| {
            Error::Container(format!("the image's program \"{program}\": {why}"))
        };
        let path = resolve_in(&rootfs, &working_dir.join(&program)).map_err(|error| failed(&error))?;
        let size_bytes = path.metadata().map_err(|error| failed(&error))?.len();
        if size_bytes > COMPONENT_BYTES_MAX {
            return Err(failed(&format!(
                "it has {size_bytes} bytes, more than {COMPONENT_BYTES_MAX}"
            )));
        }
        let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
        load::check_component(&bytes).map_err(|why| failed(&why))?;
        Ok((digest_of(&bytes), bytes))
    })
    .await
}
