//! What was fetched from registries, on disk: a restart needs no registry, and a pinned component is fetched once.
//!
//! Components lie under their digest and are compared with it when they are read; what a reference meant last, with the
//! signatures that lay beside it, lies under the reference's digest. Bounded; what was not read for longest goes first.
//! Called by `artifact`.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use capstan_registry::{Signature, digest_of};
use serde::{Deserialize, Serialize};

/// Files that are kept: a component and a meaning for each plugin, twice over.
const FILES_MAX: usize = 1024;

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Downloads {
    folder: PathBuf,
}

/// What a reference meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meaning {
    /// The manifest's text.
    pub(crate) manifest: String,
    pub(crate) signatures: Vec<Signature>,
}

impl Downloads {
    /// The folder is made when there is something to keep.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn component(&self, digest: &str) -> Option<Vec<u8>> {
        let path = self.path(digest, "wasm");
        let bytes = fs::read(&path).ok()?;
        touch(&path);
        (digest_of(&bytes) == digest).then_some(bytes)
    }

    pub(crate) fn keep_component(&self, digest: &str, component: &[u8]) {
        self.keep(&self.path(digest, "wasm"), component);
    }

    pub(crate) fn meaning(&self, reference: &str) -> Option<Meaning> {
        let path = self.of_reference(reference);
        let text = fs::read(&path).ok()?;
        touch(&path);
        serde_json::from_slice(&text).ok()
    }

    pub(crate) fn keep_meaning(&self, reference: &str, meaning: &Meaning) {
        match serde_json::to_vec(meaning) {
            Ok(text) => self.keep(&self.of_reference(reference), &text),
            Err(error) => tracing::warn!(%error, reference, "cannot keep what a reference means"),
        }
    }

    fn of_reference(&self, reference: &str) -> PathBuf {
        self.path(&digest_of(reference.as_bytes()), "json")
    }

    fn path(&self, digest: &str, kind: &str) -> PathBuf {
        // A digest is a name of a file only where it is nothing else.
        let name = digest.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        self.folder.join(name).with_extension(kind)
    }

    /// Without it the registry is asked again: that costs time only.
    fn keep(&self, path: &Path, bytes: &[u8]) {
        let draft = path.with_extension("draft");
        let kept = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .and_then(|()| {
                self.evict();
                fs::write(&draft, bytes)
            })
            .and_then(|()| fs::rename(&draft, path));
        if let Err(error) = kept {
            tracing::warn!(%error, path = %path.display(), "cannot keep what was fetched from a registry");
        }
    }

    fn evict(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort_unstable();
        for (_, path) in files.iter().take(files.len().saturating_sub(FILES_MAX - 1)) {
            // Somebody else may have removed it first.
            let _ = fs::remove_file(path);
        }
    }
}

/// What is read stays.
fn touch(path: &Path) {
    let touched = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(%error, path = %path.display(), "cannot note that a download was read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let downloads = Downloads::new(folder.path().join("registry"));
        let digest = digest_of(b"component");
        assert_eq!(downloads.component(&digest), None);
        downloads.keep_component(&digest, b"component");
        assert_eq!(downloads.component(&digest).as_deref(), Some(&b"component"[..]));
        fs::write(downloads.path(&digest, "wasm"), b"changed").expect("a file");
        assert_eq!(downloads.component(&digest), None);
        let meaning = Meaning {
            manifest: "{}".into(),
            signatures: vec![Signature::Bundle("{}".into())],
        };
        downloads.keep_meaning("registry.example/x:1", &meaning);
        assert_eq!(downloads.meaning("registry.example/x:1"), Some(meaning));
        assert_eq!(downloads.meaning("registry.example/x:2"), None);
    }
}
