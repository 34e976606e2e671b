use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Layout of the folder; a folder of another layout is refused rather than guessed at.
const LAYOUT: &str = "capstan 1\n";

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process runs on it.
    #[error("{} is in use by process {pid}: stop that one first, or choose another folder with --data-dir", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
        /// Who holds it, as far as it said.
        pid: String,
    },
    /// It is not one of ours.
    #[error(
        "{} is not a Capstan data folder: it holds other files. Choose an empty or new folder with --data-dir",
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// It was made by another version.
    #[error("{} has the layout {found:?}, this version knows only {LAYOUT:?}", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What its marker says.
        found: String,
    },
    /// The file system failed us.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file at fault.
        path: PathBuf,
        /// How.
        #[source]
        source: io::Error,
    },
}

/// A locked data folder. The lock goes with the value, and with the process however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl DataDir {
    /// Opens the folder, making it when there is none.
    ///
    /// # Errors
    /// When another process has it, it belongs to something else, or the file system says no.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| DataDirError::Io { path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io(path))?;
        let path = path.canonicalize().map_err(io(path))?;
        let marker = path.join("LAYOUT");
        match fs::read_to_string(&marker) {
            Ok(found) if found == LAYOUT => {}
            Ok(found) => return Err(DataDirError::Layout { path, found }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut entries = fs::read_dir(&path).map_err(io(&path))?;
                if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lock")) {
                    return Err(DataDirError::Foreign { path });
                }
            }
            Err(source) => return Err(DataDirError::Io { path: marker, source }),
        }
        let lock = lock(&path)?;
        fs::write(&marker, LAYOUT).map_err(io(&marker))?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder below it, made when there is none.
    ///
    /// # Errors
    /// When the file system says no.
    pub fn folder(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| DataDirError::Io {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }
}

fn lock(path: &Path) -> Result<Flock<File>, DataDirError> {
    let file = path.join("lock");
    let failed = |source| DataDirError::Io {
        path: file.clone(),
        source,
    };
    let handle = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file);
    match Flock::lock(handle.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0).map_err(failed)?;
            lock.seek(io::SeekFrom::Start(0)).map_err(failed)?;
            write!(lock, "{}", std::process::id()).map_err(failed)?;
            Ok(lock)
        }
        Err((mut held, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            held.read_to_string(&mut pid).map_err(failed)?;
            Err(DataDirError::Busy {
                path: path.to_path_buf(),
                pid,
            })
        }
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        let error = DataDir::open(folder.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("in use by process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        DataDir::open(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_with_other_files_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "x").unwrap();
        assert!(matches!(
            DataDir::open(folder.path()),
            Err(DataDirError::Foreign { .. })
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
