//! Compiled components on disk, keyed by the component's digest and the engine's version and settings.
//!
//! Compiled code is as trusted as the program itself, so the folder is ours alone (0700, our owner, checked
//! at each use) and each file begins with a checksum of the rest. Anything doubtful is compiled anew.

#![allow(unsafe_code)]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::{Error, Result, files};

/// Files kept; the oldest go first.
const FILES_MAX: usize = 256;
const CHECKSUM_BYTES: usize = 32;

/// The folder of compiled components.
#[derive(Debug, Clone)]
pub(crate) struct CompileCache {
    folder: PathBuf,
}

impl CompileCache {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            folder: root.join("compiled"),
        }
    }

    /// The compiled component, from the cache or made now. `digest` names `bytes`, which was checked.
    pub(crate) fn compile(&self, engine: &Engine, digest: &str, bytes: &[u8]) -> Result<Component> {
        let path = self.folder.join(file_name(engine, digest));
        if let Some(component) = self.load(engine, &path) {
            return Ok(component);
        }
        let component = Component::new(engine, bytes)
            .map_err(|error| Error::Container(format!("the component does not compile: {error:#}")))?;
        if let Err(error) = self.save(&path, &component) {
            tracing::warn!(%error, "a compiled component was not cached");
        }
        Ok(component)
    }

    fn load(&self, engine: &Engine, path: &Path) -> Option<Component> {
        if !self.is_ours() {
            return None;
        }
        let file = fs::read(path).ok()?;
        let (checksum, compiled) = file.split_at_checked(CHECKSUM_BYTES)?;
        if Sha256::digest(compiled).as_slice() != checksum {
            return None;
        }
        // SAFETY: `deserialize` trusts its bytes to come from `serialize`. They do: only this user can write
        // into the folder, and the checksum rules out a torn or rotten file. The engine's version and
        // settings are part of the name, and checked once more by wasmtime.
        unsafe { Component::deserialize(engine, compiled) }.ok()
    }

    fn is_ours(&self) -> bool {
        let ours = |metadata: fs::Metadata| {
            metadata.is_dir()
                && metadata.mode() & 0o077 == 0
                && metadata.uid() == nix::unistd::geteuid().as_raw()
        };
        fs::symlink_metadata(&self.folder).is_ok_and(ours)
    }

    fn save(&self, path: &Path, component: &Component) -> Result<()> {
        files::create_private_dir(&self.folder)?;
        let compiled = component
            .serialize()
            .map_err(|error| Error::Container(format!("serializing a component: {error:#}")))?;
        let mut file = Sha256::digest(&compiled).as_slice().to_vec();
        file.extend_from_slice(&compiled);
        files::write_atomically(path, &file, files::Survives::Process)?;
        self.evict().map_err(Error::io("tidying the compile cache"))
    }

    fn evict(&self) -> std::io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            entries.push((entry.metadata()?.modified()?, entry.path()));
        }
        entries.sort();
        let surplus = entries.len().saturating_sub(FILES_MAX);
        entries[..surplus]
            .iter()
            .try_for_each(|(_, path)| fs::remove_file(path))
    }
}

fn file_name(engine: &Engine, digest: &str) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!(
        "{}-{:016x}",
        digest.trim_start_matches("sha256:"),
        hasher.finish()
    )
}
