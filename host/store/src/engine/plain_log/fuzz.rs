//! Damaged segments and records for the fuzzer.

use std::fs;

use super::group::{HEADER_BYTES, take_record};
use super::{PlainLog, segment};
use crate::Error;
use crate::engine::{LogEngine, LogValue};
use crate::fuzz::Target;

/// Bytes of a segment that are worth damaging.
const USED_BYTES: usize = 6_000;

/// A segment with entries, a cut, a purge and a vote.
fn written() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let log = PlainLog::open(dir.path()).unwrap();
    log.set(LogValue::Vote, b"vote").unwrap();
    for index in 1..=6 {
        log.append(&[(index, vec![index as u8; 300])]).unwrap();
        log.sync().unwrap();
    }
    log.truncate(5).unwrap();
    log.purge(2).unwrap();
    log.sync().unwrap();
    let mut bytes = fs::read(segment::path(dir.path(), 1)).unwrap();
    bytes.truncate(USED_BYTES);
    bytes
}

/// Opening a folder with this segment: whole entries, or an error that says damage.
fn open(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment::path(dir.path(), 1), bytes).unwrap();
    // Room for what follows, so that no fill is waited for.
    match PlainLog::open(dir.path()) {
        Ok(log) => {
            let found = log.read(0, u64::MAX - 1).unwrap();
            let is_whole =
                |entry: &bytes::Bytes| entry.len() == 300 && entry.iter().all(|byte| *byte == entry[0]);
            assert!(found.iter().all(is_whole), "an entry that was never written");
        }
        Err(Error::Corrupt(_)) => {}
        Err(other) => panic!("{other:?}"),
    }
}

pub(in crate::engine) fn fuzz_targets() -> Vec<Target> {
    let segment = written();
    let bodies = segment.chunks(512).map(|group| group[HEADER_BYTES..].to_vec());
    let bodies: Vec<Vec<u8>> = bodies.collect();
    vec![
        Target::new("plain segment", vec![segment], open),
        Target::new("plain record", bodies, |mut bytes| {
            while !bytes.is_empty() && take_record(&mut bytes).is_ok() {}
        }),
    ]
}
