//! A new data folder out of a snapshot file.
//!
//! First all of the file is read and checked; then the store is made in a folder beside the one asked for,
//! which it becomes by a rename when it is whole and on disk. So a restore that fails, or a machine that does,
//! leaves nothing under the name.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capstan_store::{Alarm, AuthState, Error, ImageRecord, LeaseId, LocalStore, RestoreSource};

use super::BackupError;
use super::contents::{self, Contents};
use super::file::SnapshotFile;
use super::founder::Founder;

/// How long a database may take to be closed after it was written.
const CLOSING_WAIT: Duration = Duration::from_secs(5);
const CLOSING_POLL: Duration = Duration::from_millis(5);

/// How to restore; etcd's flags of `snapshot restore`.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The folder to make; it must not exist, or be empty.
    pub data_dir: PathBuf,
    /// This member's name, one of the initial cluster's.
    pub name: String,
    /// All members of the new cluster, as name and peer URLs.
    pub initial_cluster: Vec<(String, Vec<String>)>,
    /// Tells the new cluster from others with the same URLs.
    pub token: String,
    /// This member's peer URLs, those that the initial cluster has for it.
    pub peer_urls: Vec<String>,
    /// Take a file without a hash, and do not check one: for files out of a data folder.
    pub skip_hash_check: bool,
    /// Raise the revision by so much, so that no client sees it go back; together with `mark_compacted`.
    pub bump_revision: u64,
    /// Forget all history, so that watches of clients that know the old store are told to start anew.
    pub mark_compacted: bool,
}

impl RestoreOptions {
    /// etcd's defaults: one member named `default`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let defaults = capstan_store::ClusterOptions::default();
        Self {
            data_dir: data_dir.into(),
            initial_cluster: vec![(defaults.name.clone(), defaults.peer_urls.clone())],
            name: defaults.name,
            token: defaults.token,
            peer_urls: defaults.peer_urls,
            skip_hash_check: false,
            bump_revision: 0,
            mark_compacted: false,
        }
    }

    /// As etcd checks them before it begins.
    fn check(&self) -> Result<(), BackupError> {
        let wrong = |what: String| Err(BackupError::Options(what));
        let mut urls = BTreeSet::new();
        if let Some(twice) = self
            .initial_cluster
            .iter()
            .flat_map(|(_, urls)| urls)
            .find(|url| !urls.insert(*url))
        {
            return wrong(format!("initial cluster has duplicate url {twice}"));
        }
        let own = self.initial_cluster.iter().filter(|(name, _)| *name == self.name);
        let own: BTreeSet<&String> = own.flat_map(|(_, urls)| urls).collect();
        if own.is_empty() {
            return wrong(format!(
                "couldn't find local name \"{}\" in the initial cluster configuration",
                self.name
            ));
        }
        if own != self.peer_urls.iter().collect() {
            return wrong(format!(
                "--initial-cluster has {} for {}, --initial-advertise-peer-urls has {}",
                own.into_iter().cloned().collect::<Vec<_>>().join(","),
                self.name,
                self.peer_urls.join(",")
            ));
        }
        if (self.bump_revision > 0) != self.mark_compacted {
            return wrong("--mark-compacted required if --revision-bump, and the other way round".into());
        }
        Ok(())
    }
}

/// What a restore did. Its text says so in lines for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// The folder that was made.
    pub data_dir: PathBuf,
    /// Whether the options said who the members are; the first start is held to it.
    pub is_bound: bool,
    /// By how much the revision was raised, with all history before forgotten; 0 is not at all.
    pub bumped_by: u64,
    /// Whether the hash at the file's end was checked.
    pub is_hash_checked: bool,
    /// What the file says of the version that wrote it; not before 3.5.
    pub source_version: Option<String>,
    /// Names of the members of the cluster that was saved; they are not carried over.
    pub source_members: Vec<String>,
    /// The revision that the store begins with, and the oldest that can be read.
    pub revision: i64,
    /// The oldest that can be read; 0 where nothing was ever compacted.
    pub compact_revision: i64,
    /// Records: each change of a key that the file still has.
    pub records: u64,
    /// Leases; each starts with the whole time that it was granted.
    pub leases: usize,
    /// Users.
    pub users: usize,
    /// Roles.
    pub roles: usize,
    /// Whether requests need a user.
    pub is_auth_enabled: bool,
    /// Alarms that are still raised.
    pub alarms: usize,
    /// The members that the new cluster begins with.
    pub initial_cluster: Vec<(String, Vec<String>)>,
}

impl fmt::Display for RestoreReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self
            .source_version
            .as_deref()
            .unwrap_or("before 3.5, or not written");
        writeln!(out, "restored {}", self.data_dir.display())?;
        let hash = if self.is_hash_checked {
            "checked"
        } else {
            "not checked"
        };
        writeln!(out, "  from       a store of version {version}, its hash {hash}")?;
        writeln!(
            out,
            "  revision   {} (readable from {})",
            self.revision,
            self.compact_revision.max(1)
        )?;
        if self.bumped_by > 0 {
            writeln!(
                out,
                "  raised by  {}, and all history is forgotten",
                self.bumped_by
            )?;
        }
        writeln!(out, "  records    {}", self.records)?;
        writeln!(
            out,
            "  leases     {}, each with its whole time again",
            self.leases
        )?;
        let auth = if self.is_auth_enabled { "on" } else { "off" };
        writeln!(
            out,
            "  auth       {auth}, {} users, {} roles",
            self.users, self.roles
        )?;
        if self.alarms > 0 {
            writeln!(out, "  alarms     {} still raised: see `alarm list`", self.alarms)?;
        }
        writeln!(
            out,
            "  reset      ids of the cluster and its members, the log and its term"
        )?;
        if !self.source_members.is_empty() {
            writeln!(
                out,
                "  forgotten  the old members {}",
                self.source_members.join(", ")
            )?;
        }
        for (name, urls) in &self.initial_cluster {
            writeln!(out, "  member     {name} at {}", urls.join(","))?;
        }
        let next = if self.is_bound {
            "start it with the same flags of the cluster, or without any"
        } else {
            "the flags of its first start say who the members are"
        };
        writeln!(out, "  next       {next}")
    }
}

/// Makes a data folder of a snapshot file: of ours, or of an etcd 3.4 to 3.6.
///
/// # Errors
/// For options that contradict each other, a folder that exists, and a file that is not whole; nothing was
/// changed then. Of the disk and of the store while the folder is made; it is taken away again.
pub async fn restore(file: &Path, options: RestoreOptions) -> Result<RestoreReport, BackupError> {
    options.check()?;
    check_absent(&options.data_dir)?;
    let (path, skip_hash_check) = (file.to_owned(), options.skip_hash_check);
    let reading = tokio::task::spawn_blocking(move || read(&path, skip_hash_check));
    let (file, mut contents, is_hash_checked) = reading.await.map_err(BackupError::ended)??;
    bump(&mut contents, &options)?;
    let report = report(&contents, &options, is_hash_checked);
    let made = Made::beside(&options.data_dir)?;
    made.fill(file, contents).await?;
    if let Some(founder) = Founder::of(&options) {
        founder
            .write(made.0.path())
            .map_err(|source| made.failed(source))?;
    }
    made.become_folder(&options.data_dir)?;
    Ok(report)
}

/// Reads and checks all of a file, as a restore does, and makes nothing of it. Blocks on the disk.
///
/// # Errors
/// As [`restore`]'s for the file.
pub fn check(path: &Path, skip_hash_check: bool) -> Result<(), BackupError> {
    read(path, skip_hash_check).map(|_| ())
}

fn read(path: &Path, skip_hash_check: bool) -> Result<(SnapshotFile, Contents, bool), BackupError> {
    let file = SnapshotFile::open(path)?;
    if !skip_hash_check {
        file.check_hash()?;
    }
    let contents = Contents::read(&file)?;
    Ok((file, contents, !skip_hash_check))
}

fn check_absent(dir: &Path) -> Result<(), BackupError> {
    let is_absent = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_absent {
        Ok(())
    } else {
        Err(BackupError::FolderExists(dir.to_owned()))
    }
}

fn bump(contents: &mut Contents, options: &RestoreOptions) -> Result<(), BackupError> {
    if options.mark_compacted {
        let bumped = i64::try_from(options.bump_revision)
            .ok()
            .and_then(|bump| contents.revision.checked_add(bump));
        let too_much = || BackupError::Options("--revision-bump: no revision is so high".into());
        contents.revision = bumped.ok_or_else(too_much)?;
        contents.compact_revision = contents.revision;
    }
    Ok(())
}

fn report(contents: &Contents, options: &RestoreOptions, is_hash_checked: bool) -> RestoreReport {
    let auth = contents.auth();
    let version = contents
        .storage_version
        .as_ref()
        .or(contents.cluster_version.as_ref());
    RestoreReport {
        data_dir: options.data_dir.clone(),
        is_bound: Founder::of(options).is_some(),
        bumped_by: options.bump_revision,
        is_hash_checked,
        source_version: version.cloned(),
        source_members: contents
            .members
            .iter()
            .map(|member| member.name.clone())
            .collect(),
        revision: contents.revision,
        compact_revision: contents.compact_revision,
        records: contents.records,
        leases: contents.leases.len(),
        users: auth.users.len(),
        roles: auth.roles.len(),
        is_auth_enabled: auth.enabled,
        alarms: contents.alarms.len(),
        initial_cluster: options.initial_cluster.clone(),
    }
}

/// A folder beside the one that is to be; gone when it is dropped.
struct Made(tempfile::TempDir);

impl Made {
    fn beside(dir: &Path) -> Result<Self, BackupError> {
        let make = || {
            fs::create_dir_all(parent(dir))?;
            tempfile::Builder::new()
                .prefix(".restoring-")
                .tempdir_in(parent(dir))
        };
        make().map(Self).map_err(|source| BackupError::Write {
            path: dir.to_owned(),
            source,
        })
    }

    async fn fill(&self, file: SnapshotFile, contents: Contents) -> Result<(), BackupError> {
        let dir = self.0.path().to_owned();
        LocalStore::restore(dir.clone(), Source { file, contents }).await?;
        // sled goes on closing for a moment after it was dropped.
        let closing = tokio::task::spawn_blocking(move || wait_until_closed(&dir));
        let closed = closing.await.map_err(BackupError::ended)?;
        closed.map_err(|source| self.failed(source))
    }

    fn become_folder(self, dir: &Path) -> Result<(), BackupError> {
        let rename = || {
            fs::rename(self.0.path(), dir)?;
            File::open(parent(dir))?.sync_all()
        };
        rename().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> BackupError {
        BackupError::Write {
            path: self.0.path().to_owned(),
            source,
        }
    }
}

fn parent(dir: &Path) -> &Path {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// A database is closed when its lock is free.
fn wait_until_closed(dir: &Path) -> io::Result<()> {
    let started = Instant::now();
    for name in ["log", "state"] {
        let path = dir.join(name).join("db");
        while path.exists() && File::open(&path)?.try_lock().is_err() {
            if started.elapsed() > CLOSING_WAIT {
                return Err(io::Error::other(format!(
                    "{} is not being closed",
                    path.display()
                )));
            }
            std::thread::sleep(CLOSING_POLL);
        }
    }
    Ok(())
}

/// A checked file as the store takes it.
struct Source {
    file: SnapshotFile,
    contents: Contents,
}

impl RestoreSource for Source {
    fn revision(&self) -> i64 {
        self.contents.revision
    }

    fn compact_revision(&self) -> i64 {
        self.contents.compact_revision
    }

    fn leases(&self) -> Vec<(LeaseId, i64)> {
        self.contents.leases.clone()
    }

    fn auth(&self) -> AuthState {
        self.contents.auth()
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.contents.alarms.clone()
    }

    fn records(
        &mut self,
        take: &mut dyn FnMut(ImageRecord) -> capstan_store::Result<()>,
    ) -> capstan_store::Result<()> {
        let visited = contents::records(&self.file, &mut |record| Ok(take(record)?));
        visited.map_err(|error| match error {
            BackupError::Store(error) => error,
            error => Error::Corrupt(error.to_string()),
        })
    }
}
