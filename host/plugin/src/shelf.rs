//! Components that took a seat, kept by digest, so that a return to one does not depend on its source still having it.
//!
//! The folder is the host's alone. What is read is checked against its digest. A component is judged by the cluster's
//! trust like any other, with the signature that lay beside it; those that are embedded in the binary are not kept.
//! Called by `source` and the host.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::cache::{hex, write};

/// Components that are kept; those used longest ago go first.
const COMPONENTS_MAX: usize = 64;
/// The signature beside a component.
const SIGNATURE: &str = "sigstore.json";

#[derive(Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// In the cache's folder; made when it is first needed.
    pub(crate) fn within(folder: &Path) -> Self {
        let folder = folder.join("components");
        Self { folder }
    }

    /// Keeps a component. One that cannot be kept costs a way back, no more.
    pub(crate) fn keep(&self, digest: &str, bytes: &[u8], bundle: Option<&str>) {
        let path = self.path(digest);
        let kept = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .and_then(|()| {
                if let Some(bundle) = bundle {
                    write(&path.with_extension(SIGNATURE), bundle.as_bytes())?;
                }
                if path.exists() {
                    // Used now: it goes last.
                    return fs::File::open(&path)?.set_modified(SystemTime::now());
                }
                self.make_room();
                write(&path, bytes)
            });
        if let Err(error) = kept {
            tracing::warn!(%error, path = %path.display(), "cannot keep a component");
        }
    }

    /// A component that was kept, with its signature.
    pub(crate) fn find(&self, digest: &str) -> Option<(Vec<u8>, Option<String>)> {
        let path = self.path(digest);
        let bytes = fs::read(&path).ok()?;
        let is_whole = digest.strip_prefix("sha256:") == Some(&hex(&Sha256::digest(&bytes)));
        is_whole.then(|| (bytes, fs::read_to_string(path.with_extension(SIGNATURE)).ok()))
    }

    fn path(&self, digest: &str) -> PathBuf {
        // A digest is hexadecimal by the object's schema; what is not leads nowhere.
        let name: String = digest.chars().filter(char::is_ascii_alphanumeric).collect();
        self.folder.join(name).with_extension("wasm")
    }

    fn make_room(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut components: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(Result::ok)
            .filter(|entry| {
                entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "wasm")
            })
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        components.sort_unstable();
        let over = components.len().saturating_sub(COMPONENTS_MAX - 1);
        for (_, path) in components.iter().take(over) {
            // Somebody else may have removed it first.
            let _ = fs::remove_file(path.with_extension(SIGNATURE));
            let _ = fs::remove_file(path);
        }
    }
}
