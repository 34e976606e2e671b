//! Small durable files: written whole or not at all.
//!
//! A reader sees the old bytes or the new ones, never a mixture, also when the process is killed in between.
//! Called for records and tables; large content goes through the blob store.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Makes a folder that only this user may enter, with its parents.
pub(crate) fn create_private_dir(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(Error::io(format!("creating the folder {}", path.display())))
}

/// Whether a write must survive the loss of power, or only of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survives {
    Process,
    Power,
}

/// Replaces the file at `path`.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], survives: Survives) -> Result<()> {
    let part = path.with_extension(format!("part-{}", uuid::Uuid::new_v4().simple()));
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(bytes)?;
        if survives == Survives::Power {
            file.sync_data()?;
        }
        fs::rename(&part, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&part);
        Error::io(format!("writing {}", path.display()))(error)
    })
}

/// Replaces the file at `path` by a value's JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize, survives: Survives) -> Result<()> {
    let bytes = serde_json::to_vec(value)
        .map_err(std::io::Error::other)
        .map_err(Error::io(format!("encoding {}", path.display())))?;
    write_atomically(path, &bytes, survives)
}

/// The value in a JSON file; `None` where there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("reading {}", path.display()))(error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(std::io::Error::other)
        .map_err(Error::io(format!("{} is damaged", path.display())))
}

/// Removes a file or a whole folder; what is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
