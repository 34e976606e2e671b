//! A group: all that is written by one sync, under one checksum.
//!
//! It begins at a sector, so that a torn write never touches what was synced before, and its header names its
//! segment and its number: leftovers in a segment that is used again are not mistaken for it. The header's
//! checksum is salted with a number that no client knows, so that no value can pose as a header.
//!
//! ```text
//! header   magic 4 | header checksum 4 | segment 8 | group 8 | body length 4 | body checksum 4
//! body     records one after another: kind 1 | fields
//! ```

use bytes::{Buf, BufMut, Bytes};

use super::Place;
use crate::engine::LogValue;
use crate::{Error, Result};

/// What a disk writes as a whole.
pub(super) const SECTOR_BYTES: usize = 512;
pub(super) const HEADER_BYTES: usize = 32;
const MAGIC: u32 = u32::from_be_bytes(*b"cpsl");
/// Of the records; a log of another one is refused.
const FORMAT: u32 = 1;
/// Kept of a group's buffer for the next one.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;

const BEGIN: u8 = 1;
const ENTRY: u8 = 2;
const SET: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;

/// A step of the log's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// First in a segment; the entries of the range are in older ones.
    Begin {
        salt: u64,
        first: u64,
        next: u64,
    },
    Entry {
        index: u64,
        checksum: u32,
        bytes: &'a [u8],
    },
    Set {
        name: LogValue,
        value: &'a [u8],
    },
    Truncate {
        first: u64,
    },
    Purge {
        last: u64,
    },
}

/// A group in the making: room for its header, then its records.
#[derive(Debug, Default)]
pub(super) struct Group {
    buffer: Vec<u8>,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Bytes that it takes on disk.
    pub(super) fn size_bytes(&self) -> usize {
        self.buffer.len().next_multiple_of(SECTOR_BYTES)
    }

    /// Adds a record; returns where in the group its bytes, if it has any, begin.
    pub(super) fn push(&mut self, record: &Record<'_>) -> Result<u64> {
        if self.buffer.is_empty() {
            self.buffer.resize(HEADER_BYTES, 0);
        }
        let buffer = &mut self.buffer;
        match *record {
            Record::Begin { salt, first, next } => {
                buffer.put_u8(BEGIN);
                buffer.put_u32(FORMAT);
                buffer.put_u64(salt);
                buffer.put_u64(first);
                buffer.put_u64(next);
            }
            Record::Entry {
                index,
                checksum,
                bytes,
            } => {
                buffer.put_u8(ENTRY);
                buffer.put_u64(index);
                buffer.put_u32(checksum);
                put_bytes(buffer, bytes)?;
                return Ok((buffer.len() - bytes.len()) as u64);
            }
            Record::Set { name, value } => {
                buffer.put_u8(SET);
                buffer.put_u8(name as u8);
                put_bytes(buffer, value)?;
            }
            Record::Truncate { first } => {
                buffer.put_u8(TRUNCATE);
                buffer.put_u64(first);
            }
            Record::Purge { last } => {
                buffer.put_u8(PURGE);
                buffer.put_u64(last);
            }
        }
        Ok(buffer.len() as u64)
    }

    /// The entry at a place in it.
    pub(super) fn bytes(&self, place: &Place) -> Option<Bytes> {
        let at = usize::try_from(place.offset()).ok()?;
        let bytes = self.buffer.get(at..at + place.length())?;
        Some(Bytes::copy_from_slice(bytes))
    }

    /// The bytes to write, whole sectors.
    pub(super) fn seal(&self, salt: u64, segment: u64, number: u64) -> Result<Vec<u8>> {
        let body = self.buffer.get(HEADER_BYTES..).unwrap_or_default();
        let header = Header {
            segment,
            number,
            length: u32::try_from(body.len())
                .map_err(|_| Error::Invalid(format!("a group of {} bytes", body.len())))?,
            checksum: crc32c::crc32c(body),
        };
        let mut sealed = Vec::with_capacity(self.size_bytes());
        header.encode(salt, &mut sealed);
        sealed.extend_from_slice(body);
        sealed.resize(self.size_bytes(), 0);
        Ok(sealed)
    }

    /// An empty one with the same memory.
    pub(super) fn cleared(mut self) -> Self {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_MAX);
        self
    }
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let length = u32::try_from(bytes.len());
    buffer.put_u32(length.map_err(|_| Error::Invalid(format!("{} bytes are too many", bytes.len())))?);
    buffer.put_slice(bytes);
    Ok(())
}

/// What stands before a group's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) segment: u64,
    pub(super) number: u64,
    pub(super) length: u32,
    pub(super) checksum: u32,
}

impl Header {
    fn encode(&self, salt: u64, out: &mut Vec<u8>) {
        out.put_u32(MAGIC);
        let mut rest = Vec::with_capacity(HEADER_BYTES);
        rest.put_u64(self.segment);
        rest.put_u64(self.number);
        rest.put_u32(self.length);
        rest.put_u32(self.checksum);
        out.put_u32(salted(salt, &rest));
        out.put_slice(&rest);
    }

    /// The header at the beginning of `bytes`, if there is one of this salt.
    pub(super) fn decode(salt: u64, bytes: &[u8]) -> Option<Self> {
        let mut header = bytes.get(..HEADER_BYTES)?;
        if header.get_u32() != MAGIC || header.get_u32() != salted(salt, header) {
            return None;
        }
        Some(Self {
            segment: header.get_u64(),
            number: header.get_u64(),
            length: header.get_u32(),
            checksum: header.get_u32(),
        })
    }

    /// The group's records, if they are as they were written; `bytes` begin with this header.
    pub(super) fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let body = bytes.get(HEADER_BYTES..)?.get(..self.length as usize)?;
        (crc32c::crc32c(body) == self.checksum).then_some(body)
    }

    /// Bytes that the group takes on disk.
    pub(super) fn size_bytes(&self) -> usize {
        (HEADER_BYTES + self.length as usize).next_multiple_of(SECTOR_BYTES)
    }
}

fn salted(salt: u64, header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_be_bytes()), header)
}

/// Takes the first record off `body`. Never more memory than `body` is long.
pub(super) fn take_record<'a>(body: &mut &'a [u8]) -> Result<Record<'a>> {
    take(body).ok_or_else(|| {
        Error::Corrupt("the log: a record is shorter than it says, or of another format".into())
    })
}

fn take<'a>(body: &mut &'a [u8]) -> Option<Record<'a>> {
    Some(match body.try_get_u8().ok()? {
        BEGIN => {
            if body.try_get_u32().ok()? != FORMAT {
                return None;
            }
            Record::Begin {
                salt: body.try_get_u64().ok()?,
                first: body.try_get_u64().ok()?,
                next: body.try_get_u64().ok()?,
            }
        }
        ENTRY => Record::Entry {
            index: body.try_get_u64().ok()?,
            checksum: body.try_get_u32().ok()?,
            bytes: take_bytes(body)?,
        },
        SET => {
            let name = usize::from(body.try_get_u8().ok()?);
            Record::Set {
                name: *LogValue::ALL.get(name)?,
                value: take_bytes(body)?,
            }
        }
        TRUNCATE => Record::Truncate {
            first: body.try_get_u64().ok()?,
        },
        PURGE => Record::Purge {
            last: body.try_get_u64().ok()?,
        },
        _ => return None,
    })
}

fn take_bytes<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = body.try_get_u32().ok()? as usize;
    let (bytes, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(bytes)
}
