//! The data folder: one process at a time, and nothing but a whole store of a known format is opened.
//!
//! `LOCK` is locked while open. `FORMAT` says what is here; while a folder is being made it is called
//! `FORMAT.new`, so that an interrupted making is told apart from a folder that lost its `FORMAT`. `MEMBER` says
//! which member of which cluster this is.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::cluster::REMOVED;
use crate::engine::{
    LogEngine, LogEngineKind, Metered, PlainLog, SledLog, SledState, StateEngine, WriteBehind, pair,
};
use crate::metrics::StoreMetrics;
use crate::{Error, Result};

const FORMAT: &str = "capstan-store 3\n";
/// What `MEMBER` says of one that was removed.
const GONE: &str = "removed";

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
        Self::open(dir, LogEngineKind::default(), &StoreMetrics::new())
    }

    /// Opens or makes a folder with this kind of log. Blocks on the disk.
    pub(super) fn open(dir: &Path, kind: LogEngineKind, metrics: &Arc<StoreMetrics>) -> Result<Self> {
        let doing = |what: &str, error: &io::Error| {
            crate::engine::io_error(&format!("{what} {}", dir.display()), error)
        };
        fs::create_dir_all(dir).map_err(|error| doing("making the data folder", &error))?;
        let lock = lock(dir)?;
        let is_new = check_format(dir, kind)?;
        let (log, state) = open_engines(dir, kind)?;
        if is_new {
            finish_format(dir).map_err(|error| doing("writing FORMAT in", &error))?;
        }
        let log = Arc::new(Metered::<dyn LogEngine>::new(log, metrics.clone()));
        let state = Arc::new(Metered::<dyn StateEngine>::new(Arc::new(state), metrics.clone()));
        let (log, state) = pair(log, Arc::new(WriteBehind::start(state)?))?;
        Ok(Self { log, state, lock })
    }
}

/// The ids of the cluster and of the member that the folder is of; none before its first start.
pub(super) fn read_member(dir: &Path) -> Result<Option<(u64, u64)>> {
    let path = dir.join("MEMBER");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(crate::engine::io_error(
                &format!("reading {}", path.display()),
                &error,
            ));
        }
    };
    let mut words = text.split_whitespace();
    let mut id = || u64::from_str_radix(words.next()?, 16).ok();
    match (id(), id(), words.next()) {
        (Some(cluster), Some(member), None) => Ok(Some((cluster, member))),
        (Some(_), Some(_), Some(GONE)) => Err(Error::Invalid(REMOVED.into())),
        _ => Err(Error::Corrupt(format!("{} is damaged", path.display()))),
    }
}

/// Writes them, once for ever.
pub(super) fn write_member(dir: &Path, cluster_id: u64, member_id: u64) -> Result<()> {
    write_identity(dir, &format!("{cluster_id:016x} {member_id:016x}\n"))
}

/// The member was removed: the folder is opened no more.
pub(super) fn write_removed(dir: &Path, cluster_id: u64, member_id: u64) -> Result<()> {
    write_identity(dir, &format!("{cluster_id:016x} {member_id:016x} {GONE}\n"))
}

fn write_identity(dir: &Path, text: &str) -> Result<()> {
    let write = || -> io::Result<()> {
        let new = dir.join("MEMBER.new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, dir.join("MEMBER"))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| crate::engine::io_error("writing MEMBER", &error))
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
fn check_format(dir: &Path, kind: LogEngineKind) -> Result<bool> {
    let corrupt = |what: String| Error::Corrupt(format!("the data folder {}: {what}", dir.display()));
    let data = [
        ("log", has_log(dir, kind)),
        ("state", dir.join("state").join("db").exists()),
    ];
    match fs::read_to_string(dir.join("FORMAT")) {
        Ok(found) if found == format(kind) => {
            let missing = data.iter().find(|(_, is_there)| !is_there);
            missing.map_or(Ok(false), |(part, _)| {
                Err(corrupt(format!("the {part} is missing")))
            })
        }
        Ok(found) if LogEngineKind::ALL.iter().any(|other| found == format(*other)) => {
            let other = LogEngineKind::ALL
                .into_iter()
                .find(|other| found == format(*other));
            let (dir, other) = (dir.display(), other.unwrap_or(kind));
            Err(Error::Invalid(format!(
                "the data folder {dir} has a log of kind {other}, and kind {kind} was asked for; ask for {other}"
            )))
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
            if !is_being_made && data.iter().any(|(_, is_there)| *is_there) {
                return Err(corrupt("FORMAT is missing though there is data".into()));
            }
            begin_format(dir, kind).map_err(|error| crate::engine::io_error("writing FORMAT.new", &error))?;
            Ok(true)
        }
        Err(error) => Err(corrupt(format!("FORMAT cannot be read: {error}"))),
    }
}

fn begin_format(dir: &Path, kind: LogEngineKind) -> io::Result<()> {
    let mut file = File::create(dir.join("FORMAT.new"))?;
    file.write_all(format(kind).as_bytes())?;
    file.sync_all()
}

fn finish_format(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join("FORMAT.new"), dir.join("FORMAT"))?;
    File::open(dir)?.sync_all()
}

/// What `FORMAT` says of a folder.
fn format(kind: LogEngineKind) -> String {
    match kind {
        LogEngineKind::Sled => FORMAT.to_owned(),
        LogEngineKind::Plain => format!("{FORMAT}log {kind}\n"),
    }
}

fn has_log(dir: &Path, kind: LogEngineKind) -> bool {
    match kind {
        LogEngineKind::Sled => dir.join("log").join("db").exists(),
        LogEngineKind::Plain => PlainLog::is_in(&dir.join("log")),
    }
}

/// Both at once: opening waits for the disk.
fn open_engines(dir: &Path, kind: LogEngineKind) -> Result<(Arc<dyn LogEngine>, SledState)> {
    std::thread::scope(|scope| {
        let log = scope.spawn(|| open_log(&dir.join("log"), kind));
        let state = SledState::open(&dir.join("state"));
        let log = log
            .join()
            .unwrap_or_else(|_| Err(Error::Corrupt("opening the log failed".into())));
        Ok((log?, state?))
    })
}

fn open_log(dir: &Path, kind: LogEngineKind) -> Result<Arc<dyn LogEngine>> {
    Ok(match kind {
        LogEngineKind::Sled => Arc::new(SledLog::open(dir)?),
        LogEngineKind::Plain => Arc::new(PlainLog::open(dir)?),
    })
}
