//! The data folder: one process at a time, and nothing but a whole store of a known format is opened.
//!
//! `LOCK` is locked while open. `FORMAT` says what is here; while a folder is being made it is called
//! `FORMAT.new`, so that an interrupted making is told apart from a folder that lost its `FORMAT`.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::{LogEngine, SledLog, SledState, StateEngine};
use crate::{Error, Result};

const FORMAT: &str = "capstan-store 1\n";

/// An open data folder.
pub(super) struct Folder {
    pub(super) log: Arc<dyn LogEngine>,
    pub(super) state: Arc<dyn StateEngine>,
    pub(super) lock: FolderLock,
}

/// Keeps other processes out while it lives.
#[derive(Debug)]
pub(super) struct FolderLock(#[allow(dead_code)] File);

impl Folder {
    /// Makes a folder where there is no store yet. Blocks on the disk.
    pub(super) fn create(dir: &Path) -> Result<Self> {
        if dir.join("FORMAT").exists() || dir.join("FORMAT.new").exists() {
            return Err(Error::Unavailable(format!(
                "the data folder {} has a store already; choose another, or move it away",
                dir.display()
            )));
        }
        Self::open(dir)
    }

    /// Opens or makes a folder. Blocks on the disk.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let doing = |what: &str, error: &io::Error| {
            crate::engine::io_error(&format!("{what} {}", dir.display()), error)
        };
        fs::create_dir_all(dir).map_err(|error| doing("making the data folder", &error))?;
        let lock = lock(dir)?;
        let is_new = check_format(dir)?;
        let (log, state) = open_engines(dir)?;
        if is_new {
            finish_format(dir).map_err(|error| doing("writing FORMAT in", &error))?;
        }
        Ok(Self {
            log: Arc::new(log),
            state: Arc::new(state),
            lock,
        })
    }
}

fn lock(dir: &Path) -> Result<FolderLock> {
    let path = dir.join("LOCK");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file =
        file.map_err(|error| crate::engine::io_error(&format!("opening {}", path.display()), &error))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Unavailable(format!(
            "the data folder {} is in use by another process; stop it, or choose another folder",
            dir.display()
        ))),
        Err(TryLockError::Error(error)) => {
            Err(Error::Unavailable(format!("locking {}: {error}", path.display())))
        }
    }
}

/// Whether the folder is new. Refuses one that is not a whole store of this format.
fn check_format(dir: &Path) -> Result<bool> {
    let corrupt = |what: String| Error::Corrupt(format!("the data folder {}: {what}", dir.display()));
    let data: [PathBuf; 2] = ["log", "state"].map(|name| dir.join(name).join("db"));
    match fs::read_to_string(dir.join("FORMAT")) {
        Ok(format) if format == FORMAT => {
            let missing = data.iter().find(|path| !path.exists());
            missing.map_or(Ok(false), |path| {
                Err(corrupt(format!("{} is missing", path.display())))
            })
        }
        Ok(format) => {
            let format = format.trim_end().escape_debug();
            Err(corrupt(format!(
                "FORMAT says \"{format}\", this program reads \"{}\"",
                FORMAT.trim_end()
            )))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_being_made = dir.join("FORMAT.new").exists();
            if !is_being_made && data.iter().any(|path| path.exists()) {
                return Err(corrupt("FORMAT is missing though there is data".into()));
            }
            begin_format(dir).map_err(|error| crate::engine::io_error("writing FORMAT.new", &error))?;
            Ok(true)
        }
        Err(error) => Err(corrupt(format!("FORMAT cannot be read: {error}"))),
    }
}

fn begin_format(dir: &Path) -> io::Result<()> {
    let mut file = File::create(dir.join("FORMAT.new"))?;
    file.write_all(FORMAT.as_bytes())?;
    file.sync_all()
}

fn finish_format(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join("FORMAT.new"), dir.join("FORMAT"))?;
    File::open(dir)?.sync_all()
}

/// Both at once: opening waits for the disk.
fn open_engines(dir: &Path) -> Result<(SledLog, SledState)> {
    std::thread::scope(|scope| {
        let log = scope.spawn(|| SledLog::open(&dir.join("log")));
        let state = SledState::open(&dir.join("state"));
        let log = log
            .join()
            .unwrap_or_else(|_| Err(Error::Corrupt("opening the log failed".into())));
        Ok((log?, state?))
    })
}
