//! One change of one key as it lies on disk, and its name, the revision.
//!
//! The layout is fixed and little: `flags, create, version, lease, key length, key, value`. Checksums and
//! cutting into chunks are the engine's.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Error, KeyValue, LeaseId, Result, Revision};

/// A revision: the write, and the change within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rev {
    pub(crate) main: Revision,
    pub(crate) sub: u32,
}

impl Rev {
    pub(crate) const ENCODED_BYTES: usize = 12;

    /// Big-endian, so that bytes sort as revisions do.
    pub(crate) fn encode(self) -> [u8; Self::ENCODED_BYTES] {
        let mut out = [0; Self::ENCODED_BYTES];
        out[..8].copy_from_slice(&self.main.to_be_bytes());
        out[8..].copy_from_slice(&self.sub.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let main = i64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
        let sub = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
        Some(Self { main, sub })
    }
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) create_revision: Revision,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    pub(crate) deleted: bool,
}

const FLAG_DELETED: u8 = 1;
const HEADER_BYTES: usize = 1 + 8 + 8 + 8 + 4;

impl Record {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + self.key.len() + self.value.len());
        out.put_u8(if self.deleted { FLAG_DELETED } else { 0 });
        out.put_i64(self.create_revision);
        out.put_i64(self.version);
        out.put_i64(self.lease);
        out.put_u32(self.key.len() as u32);
        out.put_slice(&self.key);
        out.put_slice(&self.value);
        out.freeze()
    }

    /// A checksum of it and of its revision: the same wherever the same was written.
    pub(crate) fn hash(&self, rev: Rev) -> u32 {
        let mut head = [0; Rev::ENCODED_BYTES + HEADER_BYTES];
        head[..12].copy_from_slice(&rev.encode());
        head[12] = u8::from(self.deleted);
        head[13..21].copy_from_slice(&self.create_revision.to_be_bytes());
        head[21..29].copy_from_slice(&self.version.to_be_bytes());
        head[29..37].copy_from_slice(&self.lease.to_be_bytes());
        head[37..].copy_from_slice(&(self.key.len() as u32).to_be_bytes());
        let hash = crc32c::crc32c_append(crc32c::crc32c(&head), &self.key);
        crc32c::crc32c_append(hash, &self.value)
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self> {
        let short = || Error::Corrupt("a record of the state is shorter than its header says".into());
        if bytes.len() < HEADER_BYTES {
            return Err(short());
        }
        let deleted = bytes.get_u8() & FLAG_DELETED != 0;
        let create_revision = bytes.get_i64();
        let version = bytes.get_i64();
        let lease = bytes.get_i64();
        let key_length = bytes.get_u32() as usize;
        if bytes.len() < key_length {
            return Err(short());
        }
        let key = bytes.split_to(key_length);
        Ok(Self {
            key,
            value: bytes,
            create_revision,
            version,
            lease,
            deleted,
        })
    }

    /// What a client sees of it.
    pub(crate) fn key_value(self, mod_revision: Revision) -> KeyValue {
        KeyValue {
            key: self.key,
            value: self.value,
            create_revision: self.create_revision,
            mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}
