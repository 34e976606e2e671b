//! What a snapshot file is, in the words of `etcdctl snapshot status`.

use std::path::Path;

use super::BackupError;
use super::file::SnapshotFile;
use super::schema::{KEY, Rev};
use crate::bolt::Visit;

/// A file in short: equal to what etcdctl 3.4 and 3.5 print. (3.6 counts live keys in `total_keys`, for
/// which it holds all keys in memory.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// CRC-32C of all buckets' names, keys and values.
    pub hash: u32,
    /// The newest revision of a record.
    pub revision: i64,
    /// Entries of all buckets.
    pub total_keys: u64,
    /// Bytes of the database, without the hash at the end.
    pub total_size: u64,
}

/// Reads a whole file, checks its pages, and says what it is. Blocks on the disk.
///
/// # Errors
/// When it cannot be read, is not whole, or has a revision that is none. The hash at the end is not looked at.
pub fn status(path: &Path) -> Result<Status, BackupError> {
    let file = SnapshotFile::open(path)?;
    let mut status = Status {
        total_size: file.database.size_bytes(),
        ..Status::default()
    };
    let mut is_key_bucket = false;
    file.database.walk(&mut |visit| {
        match visit {
            Visit::Bucket(name) => {
                is_key_bucket = name == KEY.as_bytes();
                status.hash = crc32c::crc32c_append(status.hash, name);
            }
            Visit::Entry { key, value } => {
                status.hash = crc32c::crc32c_append(status.hash, key);
                status.hash = crc32c::crc32c_append(status.hash, value);
                status.total_keys += 1;
                if is_key_bucket {
                    status.revision = Rev::decode(key)?.main;
                }
            }
        }
        Ok::<_, BackupError>(())
    })?;
    Ok(status)
}
