//! Compiled components on disk, so that a restart costs a fraction of a millisecond for each plugin.
//!
//! A file's name holds the component's digest and the engine's version and settings, so that a stale file
//! is never found. A checksum lies beside it: a damaged file is compiled anew. Files are mapped, not read, so
//! that code which never runs costs no memory. The folder is the host's alone (0700): loading compiled code
//! trusts it. Called by `revision`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::{HostError, LoadError};

/// Files that are kept, two for each component; the longest unused go first.
const FILES_MAX: usize = 512;

#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    engine_key: u64,
    precompiled: Precompiled,
}

/// Files of a cache that are known beforehand, by name: they spare a fresh cluster the compiler. They are as
/// trusted as the binary that they are embedded in.
pub type Precompiled = BTreeMap<String, Cow<'static, [u8]>>;

impl Cache {
    pub(crate) fn open(folder: &Path, engine: &Engine, precompiled: Precompiled) -> Result<Self, HostError> {
        let failed = |error| HostError::Cache {
            path: folder.to_owned(),
            error,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self {
            folder: folder.to_owned(),
            engine_key: hasher.finish(),
            precompiled,
        })
    }

    /// The compiled component of these bytes. A cache that cannot be written costs time only.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        digest: &str,
        bytes: &[u8],
    ) -> Result<Component, LoadError> {
        let name = self.file_name(digest);
        let path = self.folder.join(&name);
        if let Some(component) = load(engine, &path) {
            return Ok(component);
        }
        let compiled = match self.precompiled.get(&name) {
            Some(compiled) => Cow::Borrowed(&**compiled),
            None => Cow::Owned(
                engine
                    .precompile_component(bytes)
                    .map_err(|error| LoadError::Compile(chain(&error)))?,
            ),
        };
        match self.store(&path, &compiled) {
            Ok(()) => {
                if let Some(component) = load(engine, &path) {
                    return Ok(component);
                }
            }
            Err(error) => tracing::warn!(%error, path = %path.display(), "cannot keep a compiled plugin"),
        }
        deserialize(engine, &compiled).map_err(|error| LoadError::Compile(chain(&error)))
    }

    /// The name of a component's file: its digest, and the engine's version and settings.
    pub(crate) fn file_name(&self, digest: &str) -> String {
        format!("{}-{:016x}.cwasm", digest.replace(':', "-"), self.engine_key)
    }

    fn store(&self, path: &Path, compiled: &[u8]) -> std::io::Result<()> {
        self.evict();
        write(
            &path.with_extension("sha256"),
            hex(&Sha256::digest(compiled)).as_bytes(),
        )?;
        write(path, compiled)
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

/// Writes a whole file or none.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension(format!("{:016x}.draft", fastrand::u64(..)));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let renamed = file.write_all(bytes).and_then(|()| fs::rename(&draft, path));
    if renamed.is_err() {
        // What is left of the draft is evicted later if it cannot be removed now.
        let _ = fs::remove_file(&draft);
    }
    renamed
}

/// The component of a file that is there and whole.
fn load(engine: &Engine, path: &Path) -> Option<Component> {
    let checksum = fs::read(path.with_extension("sha256")).ok()?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut fs::File::open(path).ok()?, &mut Hashing(&mut hasher)).ok()?;
    if hex(&hasher.finalize()).as_bytes() != checksum {
        tracing::warn!(path = %path.display(), "a compiled plugin is damaged; compiling it again");
        return None;
    }
    // Used now: evicted last.
    let _ = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    deserialize_file(engine, path).ok()
}

struct Hashing<'a>(&'a mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[allow(unsafe_code)]
fn deserialize_file(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: this program wrote the file into a folder that only its own user can write, its checksum was
    // verified, and files there are replaced by renaming, never written in place; wasmtime checks version
    // and settings itself.
    unsafe { Component::deserialize_file(engine, path) }
}

#[allow(unsafe_code)]
fn deserialize(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes were compiled by this engine a moment ago and never left this process.
    unsafe { Component::deserialize(engine, compiled) }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &wasmtime::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_compile_comes_from_disk_and_damage_is_noticed() {
        let engine = crate::engine::open().expect("engine");
        let folder = tempfile::tempdir().expect("folder");
        let cache = Cache::open(&folder.path().join("cache"), &engine, Precompiled::new()).expect("cache");
        let bytes = b"\0asm\x0d\0\x01\0";
        cache.compile(&engine, "sha256:aa", bytes).expect("compiles");
        let mut files = fs::read_dir(&cache.folder)
            .expect("dir")
            .map(|entry| entry.expect("entry").path());
        let file = files
            .find(|path| path.extension().is_some_and(|e| e == "cwasm"))
            .expect("a file");
        assert_eq!(
            fs::metadata(&cache.folder).expect("meta").permissions().mode() & 0o777,
            0o700
        );
        // Bytes that do not compile show that the file is used.
        cache
            .compile(&engine, "sha256:aa", b"nonsense")
            .expect("from the cache");
        let mut damaged = fs::read(&file).expect("bytes");
        damaged[100] ^= 1;
        write(&file, &damaged).expect("write");
        cache
            .compile(&engine, "sha256:aa", b"nonsense")
            .expect_err("the damaged file is not used");
        cache.compile(&engine, "sha256:aa", bytes).expect("compiled anew");
    }
}
