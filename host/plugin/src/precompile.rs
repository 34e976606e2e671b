//! Compiles bundled components ahead of time, for a binary to embed. Called by the build, not by a cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::cache::{Cache, Precompiled, hex};
use crate::error::{HostError, LoadError};
use crate::source::Bundled;

/// Why components could not be compiled ahead of time.
#[derive(Debug, thiserror::Error)]
pub enum PrecompileError {
    /// The engine or the folder is unusable.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A component does not compile.
    #[error("{name}: {source}")]
    Compile {
        /// Which.
        name: String,
        /// Why not.
        #[source]
        source: LoadError,
    },
    /// The folder could not be read or cleaned.
    #[error("cannot tidy the folder: {0}")]
    Tidy(#[source] std::io::Error),
}

/// Leaves the compiled form of every component in the folder, and nothing else there.
///
/// # Errors
/// When a component does not compile, or the folder cannot be written.
pub fn precompile(folder: &Path, bundled: &Bundled) -> Result<(), PrecompileError> {
    let engine = crate::engine::open().map_err(|error| HostError::Engine(crate::cache::chain(&error)))?;
    let cache = Cache::open(folder, &engine, Precompiled::new())?;
    let mut wanted = BTreeSet::new();
    for (name, bytes) in bundled {
        let digest = format!("sha256:{}", hex(&Sha256::digest(bytes)));
        cache
            .compile(&engine, &digest, bytes)
            .map_err(|source| PrecompileError::Compile {
                name: name.clone(),
                source,
            })?;
        wanted.insert(cache.file_name(&digest));
    }
    for entry in fs::read_dir(folder).map_err(PrecompileError::Tidy)? {
        let entry = entry.map_err(PrecompileError::Tidy)?;
        let file = entry.path().with_extension("cwasm");
        let known = file
            .file_name()
            .is_some_and(|name| wanted.contains(&*name.to_string_lossy()));
        if !known {
            fs::remove_file(entry.path()).map_err(PrecompileError::Tidy)?;
        }
    }
    Ok(())
}
