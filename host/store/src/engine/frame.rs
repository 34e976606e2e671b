//! A value as rows: a checksum and a length, then the bytes, cut into chunks.
//!
//! sled keeps pages above a quarter of a segment in files that it never syncs, and splits pages by count of
//! items, not by size; so no row may be large. The checksum covers key and value, so that a row that turned
//! up under another's name is noticed too.

use bytes::{Bytes, BytesMut};

use crate::{Error, Result};

/// Bytes of a value in one row.
pub(super) const CHUNK_BYTES: usize = 4 * 1024;
const HEADER_BYTES: usize = 8;
/// Taken for a value at once; a damaged length may say anything.
const CAPACITY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a row's key has after the value's key.
pub(super) const SUFFIX_BYTES: usize = 2;

/// The key of a chunk's row.
pub(super) fn row_key(key: &[u8], chunk: u16) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.len() + SUFFIX_BYTES);
    row.extend_from_slice(key);
    row.extend_from_slice(&chunk.to_be_bytes());
    row
}

/// How many rows a value of this length takes.
pub(super) fn chunk_count(value_length: usize) -> usize {
    (HEADER_BYTES + value_length).div_ceil(CHUNK_BYTES)
}

/// No value has more.
fn chunk_bytes_max() -> usize {
    usize::from(u16::MAX) * CHUNK_BYTES
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

/// Cuts a value into rows.
pub(super) fn encode(key: &[u8], value: &[u8], mut row: impl FnMut(Vec<u8>, Vec<u8>)) -> Result<()> {
    let length = u32::try_from(value.len())
        .ok()
        .filter(|_| chunk_count(value.len()) <= usize::from(u16::MAX))
        .ok_or_else(|| Error::Invalid(format!("a value of {} bytes is too large", value.len())))?;
    let (first, mut rest) = value.split_at(value.len().min(CHUNK_BYTES - HEADER_BYTES));
    let mut head = Vec::with_capacity(HEADER_BYTES + first.len());
    head.extend_from_slice(&checksum(key, value).to_be_bytes());
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(first);
    row(row_key(key, 0), head);
    let mut chunk = 1;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES));
        row(row_key(key, chunk), now.to_vec());
        chunk += 1;
        rest = later;
    }
    Ok(())
}

/// The length of the whole value that a first row announces.
pub(super) fn value_length(first_row: &[u8]) -> Option<usize> {
    let bytes = first_row.get(4..HEADER_BYTES)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?) as usize)
}

/// Puts a value together from its first row and a source of the others, and checks it.
pub(super) fn decode(
    database: &str,
    key: &[u8],
    first_row: &[u8],
    mut next: impl FnMut(u16) -> Result<Option<sled::IVec>>,
) -> Result<Bytes> {
    let damaged = |what: &str| Error::Corrupt(format!("{database}: row {}: {what}", key.escape_ascii()));
    let length = value_length(first_row).ok_or_else(|| damaged("shorter than its header"))?;
    if length > chunk_bytes_max() {
        return Err(damaged("longer than any value"));
    }
    let mut value = BytesMut::with_capacity(length.min(CAPACITY_BYTES_MAX));
    value.extend_from_slice(&first_row[HEADER_BYTES..]);
    let mut chunk = 1;
    while value.len() < length {
        let row = next(chunk)?.ok_or_else(|| damaged("a part of the value is missing"))?;
        value.extend_from_slice(&row);
        chunk += 1;
    }
    let expected = first_row
        .get(..4)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_be_bytes);
    if value.len() != length || expected != Some(checksum(key, &value)) {
        return Err(damaged("the checksum does not match"));
    }
    Ok(value.freeze())
}

#[cfg(test)]
pub(super) fn fuzz_target() -> crate::fuzz::Target {
    let frames = [0, 1, 100, CHUNK_BYTES, 3 * CHUNK_BYTES].map(|length| {
        let mut rows = Vec::new();
        let value = vec![5; length];
        encode(b"key", &value, |_, row| rows.push(row)).unwrap();
        rows.concat()
    });
    // The rows one after another, the first one of its usual length.
    crate::fuzz::Target::new("frame", frames.to_vec(), |bytes| {
        let (first, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES));
        let mut rest = rest.chunks(CHUNK_BYTES);
        let value = decode("fuzz", b"key", first, |_| Ok(rest.next().map(sled::IVec::from)));
        // Whatever passes the checksum is what was written.
        if let Ok(value) = value {
            assert!(value.iter().all(|byte| *byte == 5));
        }
    })
}
