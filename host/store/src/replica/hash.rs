//! Hashes of what a replica has: from memory, of what can be read, to compare members often; and from disk, of
//! every row, which finds what is damaged.

use super::history::scan_records;
use super::{HashKv, Replica};
use crate::{Error, Result, Revision};

/// Keys visited in one hold of the state's lock.
const SLICE_KEYS: usize = 4_096;
/// How often it starts over because a compaction overtook it.
const ATTEMPTS_MAX: usize = 8;

impl Replica {
    /// The hash of all that can be read up to a revision; 0 is the newest. Nothing of files or of what
    /// compaction has yet to delete is in it.
    pub(crate) fn hash_kv(&self, revision: Revision) -> Result<HashKv> {
        for _ in 0..ATTEMPTS_MAX {
            let (at, compact_revision) = {
                let state = self.state.read();
                (state.read_revision(revision)?, state.compact_revision)
            };
            // A sum, so that it does not matter in which order keys come.
            let mut sum: u64 = 0;
            let mut from = Some(Box::default());
            while let Some(key) = from {
                let state = self.state.read();
                if state.compact_revision != compact_revision {
                    break;
                }
                from = state.index.visit_some(&key, SLICE_KEYS, |_, history| {
                    for item in history.reachable(compact_revision, at) {
                        sum = sum.wrapping_add(spread(item.hash));
                    }
                });
            }
            if self.state.read().compact_revision == compact_revision {
                return Ok(HashKv {
                    hash: crc32c::crc32c(&sum.to_be_bytes()),
                    compact_revision,
                    hash_revision: at,
                });
            }
        }
        Err(Error::Unavailable("compactions keep overtaking the hash".into()))
    }

    /// The hash of all records on disk. Blocks for as long as reading them takes.
    pub(crate) fn hash_all(&self) -> Result<u32> {
        let revision = self.state.read().revision;
        let mut hash = 0;
        scan_records(&*self.engine, 0, revision, &mut |rev, record| {
            hash = crc32c::crc32c_append(hash, &record.hash(rev).to_be_bytes());
            Ok(true)
        })?;
        Ok(hash)
    }
}

/// Makes a sum of checksums tell more than their sum of bits would.
fn spread(hash: u32) -> u64 {
    let mixed = (u64::from(hash) | 1 << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}
