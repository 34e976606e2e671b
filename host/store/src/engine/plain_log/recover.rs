//! Opening a log: its records are played again, and a torn end is cut.
//!
//! Groups are numbered through all segments and each is on disk before the next is begun. So where reading
//! stops, either nothing follows, and what is there is a group that was never acknowledged; or a later group
//! is there, and what is unreadable was once whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use super::disk::{Disk, Open};
use super::group::{HEADER_BYTES, Header, Record, SECTOR_BYTES, take_record};
use super::index::{Index, Place};
use super::{Values, segment};
use crate::engine::io_error;
use crate::{Error, Result};

/// A log as it was found.
pub(super) struct Recovered {
    pub(super) disk: Disk,
    pub(super) index: Index,
    pub(super) values: Values,
}

#[derive(Default)]
struct Player {
    index: Index,
    values: Values,
    /// The number of the next group; none before the first.
    group: Option<u64>,
    /// Entries that were in segments before the first that is there, and that nothing yet purged or cut.
    lost: Range<u64>,
}

pub(super) fn open(directory: &Path) -> Result<Recovered> {
    let doing = |error| io_error(&format!("opening the log in {}", directory.display()), &error);
    fs::create_dir_all(directory).map_err(doing)?;
    let numbers = segment::list(directory).map_err(doing)?;
    let mut player = Player::default();
    let mut segments = BTreeMap::new();
    for (at, number) in numbers.iter().copied().enumerate() {
        if numbers.get(at + 1).is_some_and(|next| *next != number + 1) {
            return Err(Error::Corrupt(format!(
                "the log: segment {} is missing",
                number + 1
            )));
        }
        let path = segment::path(directory, number);
        let bytes = fs::read(&path).map_err(doing)?;
        let (used, salt) = player.play(number, &bytes)?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(doing)?;
        // What a kill left in the page cache is read above; it must not go when the power does.
        file.sync_data().map_err(doing)?;
        segments.insert(
            number,
            Open {
                file,
                used: used as u64,
                length: bytes.len() as u64,
                salt,
            },
        );
    }
    if !player.lost.is_empty() {
        let lost = player.lost;
        return Err(Error::Corrupt(format!(
            "the log: entries {lost:?} are missing with their segment"
        )));
    }
    segment::sync_directory(directory).map_err(doing)?;
    let mut disk = Disk::new(directory, segments, player.group.unwrap_or(1));
    disk.ensure_segment(&player.values)?;
    disk.keep_from(player.index.oldest_segment());
    #[cfg(test)]
    crate::engine::power_loss::opened(directory);
    Ok(Recovered {
        disk,
        index: player.index,
        values: player.values,
    })
}

impl Player {
    /// Plays a segment: how much of it is used, and its salt.
    fn play(&mut self, number: u64, bytes: &[u8]) -> Result<(usize, u64)> {
        let damaged = |what: &str| Error::Corrupt(format!("the log: segment {number}: {what}"));
        // It was on disk before the file had its name.
        let begin = group_at(0, bytes, number).ok_or_else(|| damaged("its beginning is damaged"))?;
        let (first, body) = begin;
        if let Some(expected) = self.group
            && expected != first.number
        {
            let found = first.number;
            return Err(damaged(&format!(
                "it begins with group {found}, and {expected} is next"
            )));
        }
        let mut records = body;
        let Record::Begin {
            salt,
            first: oldest,
            next,
        } = take_record(&mut records)?
        else {
            return Err(damaged("it does not begin with its beginning"));
        };
        if self.group.is_none() {
            self.lost = oldest..next;
        }
        self.records(number, 0, body, records)?;
        self.group = Some(first.number + 1);
        let mut at = first.size_bytes();
        while let Some((header, body)) = group_at(salt, bytes.get(at..).unwrap_or_default(), number) {
            if Some(header.number) != self.group {
                break;
            }
            self.records(number, at, body, body)?;
            self.group = Some(header.number + 1);
            at += header.size_bytes();
        }
        if let Some(later) = later_group(bytes, number, at, salt, self.group) {
            return Err(damaged(&format!(
                "at {at} is no whole group, though group {later} follows"
            )));
        }
        Ok((at, salt))
    }

    /// Plays the records of the group at `at` whose body is `body`.
    fn records(&mut self, number: u64, at: usize, body: &[u8], mut left: &[u8]) -> Result<()> {
        while !left.is_empty() {
            match take_record(&mut left)? {
                Record::Begin { .. } => return Err(Error::Corrupt("the log: a second beginning".into())),
                Record::Entry {
                    index,
                    checksum,
                    bytes,
                } => {
                    // The bytes are the last of the record.
                    let offset = at + HEADER_BYTES + body.len() - left.len() - bytes.len();
                    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    let place = Place::new(number, offset as u64, length, checksum);
                    if !self.index.push(index, place) {
                        return Err(Error::Corrupt(format!(
                            "the log: entry {index} follows {:?}",
                            self.index.last()
                        )));
                    }
                }
                Record::Set { name, value } => self.values.set(name, Bytes::copy_from_slice(value)),
                Record::Truncate { first } => {
                    self.index.truncate(first);
                    self.lost.end = self.lost.end.min(first);
                }
                Record::Purge { last } => {
                    self.index.purge(last);
                    self.lost.start = self.lost.start.max(last.saturating_add(1));
                }
            }
        }
        Ok(())
    }
}

/// The whole group at the beginning of `bytes`.
fn group_at(salt: u64, bytes: &[u8], segment: u64) -> Option<(Header, &[u8])> {
    let header = Header::decode(salt, bytes).filter(|header| header.segment == segment)?;
    Some((header, header.body(bytes)?))
}

/// The number of a group of this segment after `at` that is later than the one that is expected there.
fn later_group(bytes: &[u8], segment: u64, at: usize, salt: u64, expected: Option<u64>) -> Option<u64> {
    let expected = expected.unwrap_or(0);
    let mut places = (at + SECTOR_BYTES..bytes.len()).step_by(SECTOR_BYTES);
    places.find_map(|place| {
        let header = Header::decode(salt, bytes.get(place..)?)?;
        (header.segment == segment && header.number > expected).then_some(header.number)
    })
}
