//! Whether a state that is read from disk is whole: an engine leaves out what it finds damaged, and says nothing.
//!
//! Of the records a sum is kept, that grows with each one written and is reduced by each one deleted; of all other
//! rows, a few in number, what they must be. Content is the engine's: each of its rows has a checksum.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Mark, rows};
use crate::engine::StateEngine;
use crate::mvcc::Rev;
use crate::{Error, LeaseId, Result, Revision};

/// A sum over records, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum(pub(super) u64);

impl Sum {
    pub(super) fn add(&mut self, rev: Rev) {
        self.0 = self
            .0
            .wrapping_add(spread((rev.main as u64).rotate_left(20) ^ u64::from(rev.sub)));
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

/// Numbers that are near become such that are not, so that sums differ (splitmix64).
fn spread(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What the rows beside the records must be. Written as a whole with any of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rest {
    /// A sum over leases.
    leases: u64,
    compact_revision: Revision,
    /// Checksums; 0 where there is no such row.
    auth: u32,
    alarms: u32,
    membership: u32,
    is_checkpointed: bool,
}

impl Rest {
    const BYTES: usize = 8 + 8 + 3 * 4 + 1;

    pub(super) fn grant(&mut self, id: LeaseId) {
        self.leases = self.leases.wrapping_add(spread(id as u64));
    }

    pub(super) fn revoke(&mut self, id: LeaseId) {
        self.leases = self.leases.wrapping_sub(spread(id as u64));
    }

    pub(super) fn compacted(&mut self, revision: Revision) {
        self.compact_revision = revision;
    }

    pub(super) fn auth(&mut self, row: &[u8]) {
        self.auth = crc32c::crc32c(row);
    }

    pub(super) fn alarms(&mut self, row: &[u8]) {
        self.alarms = crc32c::crc32c(row);
    }

    /// A mark was written. Says whether that is known here.
    pub(super) fn mark(&mut self, mark: Mark, value: &[u8]) -> bool {
        match mark {
            Mark::Applied => return false,
            Mark::Membership => self.membership = crc32c::crc32c(value),
            Mark::Checkpoint => self.is_checkpointed = true,
        }
        true
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut row = BytesMut::with_capacity(Self::BYTES);
        row.put_u64(self.leases);
        row.put_i64(self.compact_revision);
        row.put_u32(self.auth);
        row.put_u32(self.alarms);
        row.put_u32(self.membership);
        row.put_u8(u8::from(self.is_checkpointed));
        row.freeze()
    }

    pub(super) fn decode(mut row: &[u8]) -> Option<Self> {
        let this = Self {
            leases: row.try_get_u64().ok()?,
            compact_revision: row.try_get_i64().ok()?,
            auth: row.try_get_u32().ok()?,
            alarms: row.try_get_u32().ok()?,
            membership: row.try_get_u32().ok()?,
            is_checkpointed: row.try_get_u8().ok()? != 0,
        };
        row.is_empty().then_some(this)
    }

    /// What the rows of an engine are; an error where they are not what they must be.
    pub(super) fn read(engine: &dyn StateEngine) -> Result<Self> {
        let damaged = |what: &str| Error::Corrupt(format!("the state: {what}: its data file is damaged"));
        let mut found = Self::default();
        engine.scan(&[rows::LEASE], &[rows::LEASE + 1], &mut |key, _| {
            found.grant(rows::lease_id(key).ok_or_else(|| damaged("a lease's row has a wrong key"))?);
            Ok(true)
        })?;
        if let Some(mut row) = engine.get(&rows::COMPACT)? {
            found.compacted(row.try_get_i64().map_err(|_| damaged("the compact revision"))?);
        }
        if let Some(row) = engine.get(&rows::AUTH)? {
            found.auth(&row);
        }
        if let Some(row) = engine.get(&rows::ALARMS)? {
            found.alarms(&row);
        }
        for mark in [Mark::Membership, Mark::Checkpoint] {
            if let Some(row) = engine.get(&rows::mark(mark))? {
                found.mark(mark, &row);
            }
        }
        let expected = match engine.get(&rows::REST)? {
            Some(row) => Self::decode(&row).ok_or_else(|| damaged("what its rows must be"))?,
            None => Self::default(),
        };
        if found == expected {
            Ok(found)
        } else {
            Err(damaged(
                "leases, users, members or marks are missing, or are older ones",
            ))
        }
    }
}
