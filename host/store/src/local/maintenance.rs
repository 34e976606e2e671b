//! The part of a [`LocalStore`] for its keepers: alarms and quota, hashes, sizes, images for backups, and
//! making a store of one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::folder::{self, Folder};
use super::server::{Server, unexpected};
use super::{LocalStore, Options};
use crate::replica::{Command, ImageReader, Outcome, RestoreSource};
use crate::{Alarm, AlarmKind, Error, Refusal, Result, Revision};

/// The quota by default (etcd's).
pub const QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;

/// Which history is forgotten without being asked to. The leader does it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None.
    #[default]
    Off,
    /// What is older than this.
    Periodic(Duration),
    /// All but so many revisions.
    Revision(i64),
}

/// A hash of all that can be read at a revision; equal on all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HashKv {
    pub hash: u32,
    /// Hashes are equal only where this is too.
    pub compact_revision: Revision,
    /// The revision that was hashed.
    pub hash_revision: Revision,
}

/// What a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Of the state on disk, without the log.
    pub db_size_bytes: u64,
    /// Of keys, values and their history; the quota is about this, as it falls when history is forgotten.
    pub db_size_in_use_bytes: u64,
    /// The quota; 0 is none.
    pub quota_bytes: u64,
}

/// A member's bounds.
#[derive(Debug)]
pub(super) struct Limits {
    quota_bytes: u64,
    request_bytes_max: usize,
    pub(super) txn_ops_max: usize,
    pub(super) bcrypt_cost: u32,
    pub(super) token_ttl: Duration,
    pub(super) auto_compaction: AutoCompaction,
    /// This member's alarm is because its disk was full.
    is_disk_full: AtomicBool,
}

impl Limits {
    pub(super) fn of(options: &Options) -> Self {
        let quota = match options.quota_bytes {
            0 => QUOTA_BYTES,
            quota => quota,
        };
        Self {
            quota_bytes: u64::try_from(quota).unwrap_or(0),
            request_bytes_max: options.request_bytes_max,
            txn_ops_max: options.txn_ops_max,
            bcrypt_cost: options.bcrypt_cost,
            token_ttl: options.token_ttl,
            auto_compaction: options.auto_compaction,
            is_disk_full: AtomicBool::new(false),
        }
    }
}

impl LocalStore {
    /// Brings everything to disk and waits until what compaction left is gone. sled gives freed space to later
    /// writes by itself and never back to the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn defragment(&self) -> Result<()> {
        let since = Instant::now();
        self.server()?.replica.upkeep().deleted().await?;
        self.metrics.defragment.observe(since.elapsed().as_secs_f64());
        Ok(())
    }

    /// A hash of everything that this member has on disk of keys and values; reads all of it, and so finds
    /// what is damaged.
    ///
    /// # Errors
    /// `Corrupt` where something is.
    pub async fn hash(&self) -> Result<u32> {
        let replica = self.server()?.replica.clone();
        let hashing = tokio::task::spawn_blocking(move || replica.hash_all());
        hashing
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }

    /// A hash of what can be read at a revision, 0 being the newest; from memory, so that members can be
    /// compared often.
    ///
    /// # Errors
    /// `Compacted`, `FutureRevision`.
    pub async fn hash_kv(&self, revision: Revision) -> Result<HashKv> {
        let replica = self.server()?.replica.clone();
        let hashing = tokio::task::spawn_blocking(move || replica.hash_kv(revision));
        hashing
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }

    /// The whole state as it is now. While the reader lives no history is deleted from disk.
    ///
    /// # Errors
    /// `Unavailable` after a shutdown.
    pub fn image(&self) -> Result<ImageReader> {
        let server = self.server()?;
        Ok(ImageReader::new(server.replica.image()))
    }

    /// The alarms that are raised, of all members.
    ///
    /// # Errors
    /// As a linearizable read's.
    pub async fn alarms(&self) -> Result<Vec<Alarm>> {
        let server = self.server()?;
        server.consensus.read_barrier().await?;
        Ok(server.replica.look(|state| state.alarms.iter().collect()))
    }

    /// Raises an alarm; one that is raised stays so.
    ///
    /// # Errors
    /// As a write's.
    pub async fn alarm_activate(&self, alarm: Alarm) -> Result<()> {
        self.server()?.set_alarm(alarm, true).await
    }

    /// Disarms an alarm; one that is not raised stays so.
    ///
    /// # Errors
    /// As a write's.
    pub async fn alarm_disarm(&self, alarm: Alarm) -> Result<()> {
        self.server()?.set_alarm(alarm, false).await
    }

    /// What the store takes. Zeros after a shutdown.
    pub fn sizes(&self) -> Sizes {
        self.server().map(|server| server.sizes()).unwrap_or_default()
    }

    /// Whether a member was ever started on this folder: from then on it says who that is.
    ///
    /// # Errors
    /// When the folder cannot be read or is damaged.
    pub fn is_started(dir: &Path) -> Result<bool> {
        Ok(folder::read_member(dir)?.is_some())
    }

    /// Makes a store in the options' folder, which must not have one, out of a backup. The first start makes
    /// it a member of the options' cluster; give every member of a new cluster the same backup.
    ///
    /// # Errors
    /// `Unavailable` when the folder cannot be used or holds a store, `Corrupt` and others from the source.
    pub async fn restore(dir: impl Into<PathBuf>, source: impl RestoreSource) -> Result<()> {
        let dir = dir.into();
        let restoring = tokio::task::spawn_blocking(move || {
            let folder = Folder::create(&dir)?;
            crate::replica::restore(&*folder.state, source)
        });
        restoring
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }
}

impl Server {
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            db_size_bytes: self.replica.size_bytes(),
            db_size_in_use_bytes: self.replica.look(|state| state.index.size_bytes()),
            quota_bytes: self.limits.quota_bytes,
        }
    }

    async fn set_alarm(&self, alarm: Alarm, is_raised: bool) -> Result<()> {
        let command = Command::Alarm { alarm, is_raised };
        match self.consensus.propose(command.encode()?).await? {
            Outcome::Done(answer) => answer,
            Outcome::Txn(answer) => Err(unexpected(&answer)),
        }
    }

    /// Asks whether a command may be proposed: its size, the quota, the disk, alarms, permissions.
    pub(super) async fn admit(&self, command: &Command, bytes: usize) -> Result<()> {
        if bytes > self.limits.request_bytes_max {
            return Err(Refusal::RequestTooLarge.into());
        }
        if command.grows() {
            self.check_room(bytes).await?;
        } else {
            self.space.admit(bytes, false)?;
        }
        self.replica.look(|state| command.admit(state))
    }

    /// What every write that grows the store looks at, looked at without one.
    pub(super) async fn guard(&self) {
        if let Err(error) = self.check_room(0).await {
            tracing::debug!(%error, "no room");
        }
    }

    /// Whether quota and disk have room; raises this member's alarm where not. The alarm of a full disk is
    /// disarmed again by the member that raised it, as far as it remembers; that of the quota by people alone.
    async fn check_room(&self, bytes: usize) -> Result<()> {
        let own = Alarm {
            member_id: self.identity.member_id,
            kind: AlarmKind::NoSpace,
        };
        let (in_use, is_raised) = self.replica.look(|state| {
            let is_raised = state.alarms.iter().any(|alarm| alarm == own);
            (state.index.size_bytes(), is_raised)
        });
        let quota = self.limits.quota_bytes;
        let refused = if quota > 0 && in_use + bytes as u64 > quota {
            Some(Error::from(Refusal::NoSpace))
        } else {
            let refused = self.space.admit(bytes, true).err();
            if refused.is_some() {
                self.limits.is_disk_full.store(true, Ordering::Release);
            }
            refused
        };
        let Some(refused) = refused else {
            if self.limits.is_disk_full.swap(false, Ordering::AcqRel) && is_raised {
                self.set_alarm(own, false).await?;
            }
            return Ok(());
        };
        if !is_raised && let Err(error) = self.set_alarm(own, true).await {
            tracing::warn!(%error, "raising the NOSPACE alarm");
        }
        Err(refused)
    }
}
