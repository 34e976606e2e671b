//! Backups in etcd's own form, so that etcd's tools read ours and ours reads etcd's.
//!
//! A snapshot file is a bbolt database ([`crate::bolt`]) with etcd's buckets ([`schema`]), and the SHA-256 of
//! all that at its end. [`stream`] makes one of a running store, for `Maintenance.Snapshot`; [`status`] says
//! what `etcdctl snapshot status` of etcd 3.4 and 3.5 says; [`restore`] makes a new data folder of one, whether
//! it is ours or of an etcd 3.4 to 3.6, saved as a snapshot or taken out of a data folder.
//!
//! Invariants: memory is bounded by what is not a record (leases, users); nothing is written before all of a
//! file was read and found whole, and a restored folder appears whole or not at all.

mod contents;
mod file;
mod founder;
mod restore;
mod save;
mod schema;
mod status;

pub(crate) use founder::Founder;
pub use restore::{RestoreOptions, RestoreReport, check, restore};
pub use save::{SnapshotStream, stream};
pub use status::{Status, status};

use std::path::PathBuf;

use crate::bolt::BoltError;

/// Why a backup could not be read or restored. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file cannot be opened or read.
    #[error("reading the snapshot {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: std::io::Error,
    },
    /// Its pages are not those of a whole database.
    #[error("the snapshot is not whole: {0}")]
    Pages(#[from] BoltError),
    /// Its pages are whole, but what is in them is not an etcd's.
    #[error("the snapshot's bucket {bucket}: key \"{key}\": {what}")]
    Content {
        /// The bucket.
        bucket: String,
        /// The entry's key, its bytes escaped.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// It has no hash at its end.
    #[error(
        "snapshot missing hash but --skip-hash-check=false: the file was cut off, or it was taken out of a \
         data folder; only in the latter case use --skip-hash-check"
    )]
    HashMissing,
    /// The hash at its end is another one.
    #[error("expected sha256 {expected}, got {actual}: the snapshot is damaged")]
    HashMismatch {
        /// What is in the file.
        expected: String,
        /// What its bytes have.
        actual: String,
    },
    /// The flags contradict each other or the file.
    #[error("{0}")]
    Options(String),
    /// There is something where the data folder is to be.
    #[error("data-dir {} exists; choose another, or move it away", .0.display())]
    FolderExists(PathBuf),
    /// The data folder cannot be made.
    #[error("making {}: {source}", path.display())]
    Write {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: std::io::Error,
    },
    /// The store cannot be made of it.
    #[error(transparent)]
    Store(#[from] capstan_store::Error),
}

impl BackupError {
    /// The thread that worked on it is gone.
    fn ended(error: tokio::task::JoinError) -> Self {
        Self::Store(capstan_store::Error::Unavailable(error.to_string()))
    }

    fn content(bucket: &str, key: &[u8], what: impl Into<String>) -> Self {
        Self::Content {
            bucket: bucket.into(),
            key: key.escape_ascii().to_string(),
            what: what.into(),
        }
    }
}
