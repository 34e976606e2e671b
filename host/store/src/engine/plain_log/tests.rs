use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tempfile::TempDir;

use super::group::SECTOR_BYTES;
use super::{PlainLog, segment};
use crate::Error;
use crate::engine::{LogEngine, LogValue};

fn entry(index: u64, bytes: usize) -> (u64, Vec<u8>) {
    (index, vec![index as u8; bytes])
}

fn append(log: &PlainLog, indexes: std::ops::RangeInclusive<u64>, bytes: usize) {
    let entries: Vec<_> = indexes.map(|index| entry(index, bytes)).collect();
    log.append(&entries).unwrap();
    log.sync().unwrap();
}

fn check(log: &PlainLog, indexes: std::ops::RangeInclusive<u64>, bytes: usize) {
    let (first, last) = indexes.clone().into_inner();
    let found = log.read(0, u64::MAX - 1).unwrap();
    let expected: Vec<Vec<u8>> = indexes.map(|index| entry(index, bytes).1).collect();
    assert_eq!(found.len(), expected.len(), "entries {first} to {last}");
    assert!(
        found
            .iter()
            .zip(&expected)
            .all(|(found, expected)| found == expected)
    );
    assert_eq!(
        log.last().unwrap().as_deref(),
        expected.last().map(|entry| &entry[..])
    );
}

fn last_segment(dir: &Path) -> std::path::PathBuf {
    segment::path(dir, *segment::list(dir).unwrap().last().unwrap())
}

#[test]
fn what_is_not_synced_can_be_read_and_what_is_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = PlainLog::open(dir.path()).unwrap();
    append(&log, 1..=5, 100);
    log.set(LogValue::Vote, b"vote").unwrap();
    log.append(&[entry(6, 100), entry(7, 2_000_000)]).unwrap();
    assert_eq!(log.read(5, 6).unwrap().len(), 2);
    assert_eq!(log.get(LogValue::Vote).unwrap().unwrap(), "vote");
    log.truncate(7).unwrap();
    log.sync().unwrap();
    check(&log, 1..=6, 100);
    log.truncate(4).unwrap();
    append(&log, 4..=8, 100);
    drop(log);
    let log = PlainLog::open(dir.path()).unwrap();
    check(&log, 1..=8, 100);
    assert_eq!(log.get(LogValue::Vote).unwrap().unwrap(), "vote");
    assert!(
        matches!(log.append(&[entry(10, 1)]), Err(Error::Corrupt(_))),
        "a hole was let in"
    );
}

#[test]
fn segments_go_with_what_is_purged_and_are_used_again() {
    const BYTES: usize = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let mut log = PlainLog::open(dir.path()).unwrap();
    log.set(LogValue::Vote, b"vote").unwrap();
    for round in 0..8_u64 {
        append(&log, round * 10 + 1..=round * 10 + 10, BYTES);
        if round >= 2 {
            let last = (round - 2) * 10 + 5;
            log.set(LogValue::Purged, &last.to_be_bytes()).unwrap();
            log.purge(last).unwrap();
            log.sync().unwrap();
            if round % 2 == 1 {
                drop(log);
                log = PlainLog::open(dir.path()).unwrap();
            }
            check(&log, last + 1..=round * 10 + 10, BYTES);
            assert!(segment::list(dir.path()).unwrap().len() <= 5);
            assert!(log.size_bytes() < 4_000_000, "{}", log.size_bytes());
        }
        assert_eq!(log.get(LogValue::Vote).unwrap().unwrap(), "vote");
    }
    let numbers = segment::list(dir.path()).unwrap();
    drop(log);
    fs::remove_file(segment::path(dir.path(), numbers[0])).unwrap();
    match PlainLog::open(dir.path()).map(drop) {
        Err(Error::Corrupt(text)) => assert!(text.contains("missing"), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// A log of groups of one entry each, and where the last group begins in the file.
fn groups(bytes: usize) -> (TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    let log = PlainLog::open(dir.path()).unwrap();
    for index in 1..=9 {
        append(&log, index..=index, bytes);
    }
    let before = log.size_bytes();
    append(&log, 10..=10, bytes);
    (dir, before)
}

#[test]
fn a_torn_end_is_cut_whichever_of_its_sectors_were_written() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..200 {
        let bytes = if round % 2 == 0 { 256 } else { 5_000 };
        let (dir, before) = groups(bytes);
        let file = fs::File::options()
            .write(true)
            .open(last_segment(dir.path()))
            .unwrap();
        let sectors = (bytes + 100).div_ceil(SECTOR_BYTES) as u64;
        let lost = random.u64(0..sectors.min(bytes as u64 / SECTOR_BYTES as u64 + 1));
        for sector in 0..sectors {
            if sector == lost || random.bool() {
                file.write_all_at(&[0; SECTOR_BYTES], before + sector * SECTOR_BYTES as u64)
                    .unwrap();
            }
        }
        let log = PlainLog::open(dir.path()).unwrap();
        check(&log, 1..=9, bytes);
        append(&log, 10..=12, bytes);
        drop(log);
        check(&PlainLog::open(dir.path()).unwrap(), 1..=12, bytes);
    }
}

#[test]
fn damage_before_the_end_is_said() {
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..200 {
        let (dir, before) = groups(600);
        let path = last_segment(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        let at = random.usize(..before as usize);
        bytes[at] ^= 1 << random.u32(..8);
        fs::write(&path, bytes).unwrap();
        match PlainLog::open(dir.path()).map(|log| check(&log, 1..=10, 600)) {
            Err(Error::Corrupt(_)) => {}
            // The padding of a group's last sector.
            Ok(()) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_cannot_pose_as_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let log = PlainLog::open(dir.path()).unwrap();
    append(&log, 1..=1, 100);
    // The bytes of the file as a value: each of its sectors holds a header that was right elsewhere.
    let sectors = fs::read(last_segment(dir.path())).unwrap()[..4096].to_vec();
    let mut value = vec![0; 300];
    value.extend(sectors);
    log.append(&[(2, value)]).unwrap();
    log.sync().unwrap();
    let size = log.size_bytes();
    drop(log);
    let file = fs::File::options()
        .write(true)
        .open(last_segment(dir.path()))
        .unwrap();
    file.write_all_at(&[0; 8], size - 4096 - 512).unwrap();
    let _ = PlainLog::open(dir.path()).unwrap();
}
