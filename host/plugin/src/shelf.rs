//! Components that took a seat or came from a registry, kept by digest: a return to one does not depend on its source
//! still having it, and a restart needs no registry.
//!
//! The folder is the host's alone. What is read is checked against its digest. A component is judged by the cluster's
//! trust like any other, with the signatures that lay beside it; those that are embedded in the binary are not kept. What
//! a reference meant last lies there too, as the manifest. Called by `source`, `artifact` and the host.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use capstan_registry::{Signature, digest_of};

use crate::cache::write;

/// Components that are kept, and meanings of references; those used longest ago go first.
const KEPT_MAX: usize = 64;
const COMPONENT: &str = "wasm";
/// The signatures beside a component.
const SIGNATURES: &str = "signatures.json";
const MEANING: &str = "manifest.json";

#[derive(Debug, Clone)]
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
    pub(crate) fn keep(&self, digest: &str, bytes: &[u8], signatures: &[Signature]) {
        if !signatures.is_empty() {
            match serde_json::to_vec(signatures) {
                Ok(text) => self.put(&self.path(digest, SIGNATURES), &text),
                Err(error) => tracing::warn!(%error, digest, "cannot keep signatures"),
            }
        }
        let path = self.path(digest, COMPONENT);
        match path.exists() {
            true => touch(&path),
            false => {
                self.make_room(COMPONENT);
                self.put(&path, bytes);
            }
        }
    }

    /// A component that was kept, with its signatures.
    pub(crate) fn find(&self, digest: &str) -> Option<(Vec<u8>, Vec<Signature>)> {
        let bytes = fs::read(self.path(digest, COMPONENT)).ok()?;
        let signatures = fs::read(self.path(digest, SIGNATURES)).unwrap_or_default();
        (digest_of(&bytes) == digest)
            .then(|| (bytes, serde_json::from_slice(&signatures).unwrap_or_default()))
    }

    /// Keeps the manifest that a reference means.
    pub(crate) fn keep_meaning(&self, reference: &str, manifest: &[u8]) {
        let path = self.path(&digest_of(reference.as_bytes()), MEANING);
        if fs::read(&path).is_ok_and(|kept| kept == manifest) {
            return touch(&path);
        }
        self.make_room(MEANING);
        self.put(&path, manifest);
    }

    /// The manifest that a reference meant last.
    pub(crate) fn meaning(&self, reference: &str) -> Option<Vec<u8>> {
        fs::read(self.path(&digest_of(reference.as_bytes()), MEANING)).ok()
    }

    fn put(&self, path: &Path, bytes: &[u8]) {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder);
        if let Err(error) = made.and_then(|()| write(path, bytes)) {
            tracing::warn!(%error, path = %path.display(), "cannot keep a component");
        }
    }

    fn path(&self, digest: &str, kind: &str) -> PathBuf {
        // A digest is hexadecimal by the object's schema; what is not leads nowhere.
        let name: String = digest.chars().filter(char::is_ascii_alphanumeric).collect();
        self.folder.join(format!("{name}.{kind}"))
    }

    fn make_room(&self, kind: &str) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let ending = format!(".{kind}");
        let mut kept: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(&ending))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        kept.sort_unstable();
        for (_, path) in kept.iter().take(kept.len().saturating_sub(KEPT_MAX - 1)) {
            // Somebody else may have removed it first.
            let _ = fs::remove_file(path.with_extension(SIGNATURES));
            let _ = fs::remove_file(path);
        }
    }
}

/// Used now: it goes last.
fn touch(path: &Path) {
    let touched = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(%error, path = %path.display(), "cannot note that a component was used");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::within(folder.path());
        let digest = digest_of(b"component");
        assert_eq!(shelf.find(&digest), None);
        let signatures = vec![Signature::Bundle("{}".into())];
        shelf.keep(&digest, b"component", &signatures);
        // Kept again without any, its signatures stay.
        shelf.keep(&digest, b"component", &[]);
        assert_eq!(shelf.find(&digest), Some((b"component".to_vec(), signatures)));
        fs::write(shelf.path(&digest, COMPONENT), b"changed").expect("a file");
        assert_eq!(shelf.find(&digest), None);
        shelf.keep_meaning("registry.example/x:1", b"{}");
        assert_eq!(shelf.meaning("registry.example/x:1").as_deref(), Some(&b"{}"[..]));
        assert_eq!(shelf.meaning("registry.example/x:2"), None);
    }
}
