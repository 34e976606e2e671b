//! A snapshot file that is open: its database, and the hash at its end.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::BackupError;
use crate::bolt::Reader;

/// Bytes of the hash at the end.
pub(super) const HASH_BYTES: u64 = 32;
/// Pages are a multiple of it, so what is left tells whether there is a hash.
const ALIGNMENT: u64 = 512;
/// Bytes read at once to be hashed.
const HASHING_BYTES: usize = 64 * 1024;

/// An open file.
pub(super) struct SnapshotFile {
    path: PathBuf,
    file: File,
    length: u64,
    pub(super) database: Reader<File>,
}

impl SnapshotFile {
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let failed = |source: io::Error| BackupError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is not a file")));
        }
        let length = metadata.len();
        let data_length = length - if has_hash(length) { HASH_BYTES } else { 0 };
        let database = Reader::open(file.try_clone().map_err(failed)?, data_length)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            database,
        })
    }

    /// Checks the hash at the end, which must be there.
    pub(super) fn check_hash(&self) -> Result<(), BackupError> {
        if !has_hash(self.length) {
            return Err(BackupError::HashMissing);
        }
        let (actual, expected) = self.hashes().map_err(|source| BackupError::Read {
            path: self.path.clone(),
            source,
        })?;
        if actual == expected {
            return Ok(());
        }
        Err(BackupError::HashMismatch {
            expected: hex(&expected),
            actual: hex(&actual),
        })
    }

    fn hashes(&self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut file = &self.file;
        file.rewind()?;
        let mut data = file.take(self.length - HASH_BYTES);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; HASHING_BYTES];
        loop {
            match data.read(&mut buffer)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        let mut expected = vec![0; HASH_BYTES as usize];
        file.read_exact(&mut expected)?;
        Ok((hash.finalize().to_vec(), expected))
    }
}

fn has_hash(length: u64) -> bool {
    length % ALIGNMENT == HASH_BYTES
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
