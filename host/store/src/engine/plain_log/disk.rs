//! The segments as one place to write groups to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use super::Values;
use super::group::{Group, Record};
use super::index::Place;
use super::segment::{self, Filler, SEGMENT_BYTES};
use crate::engine::{LogValue, io_error};
use crate::{Error, Result};

const FIRST_SEGMENT: u64 = 1;
/// A gap between two entries of one read: the records and headers between them.
const READ_GAP_BYTES_MAX: u64 = 64 * 1024;

/// A segment that is open.
pub(super) struct Open {
    pub(super) file: File,
    /// How much of it is written.
    pub(super) used: u64,
    /// How much of it there is.
    pub(super) length: u64,
    pub(super) salt: u64,
}

/// All segments; groups go to the last.
pub(super) struct Disk {
    directory: PathBuf,
    segments: BTreeMap<u64, Open>,
    /// The number of the next group.
    group: u64,
    filler: Filler,
}

impl Disk {
    pub(super) fn new(directory: &Path, segments: BTreeMap<u64, Open>, group: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            segments,
            group,
            filler: Filler::default(),
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.used).sum()
    }

    /// The number of the last group that is on disk.
    pub(super) fn last_group(&self) -> u64 {
        self.group.saturating_sub(1)
    }

    /// Begins the first segment of a new log.
    pub(super) fn ensure_segment(&mut self, values: &Values) -> Result<()> {
        if self.segments.is_empty() {
            self.begin(FIRST_SEGMENT, 0, &(0..0), values)?;
        }
        Ok(())
    }

    /// Writes a group and returns when it is on disk: its segment, and where it begins there. `written` are the
    /// entries that the log has beside those of the group.
    pub(super) fn write(
        &mut self,
        group: &Group,
        written: &Range<u64>,
        values: &Values,
    ) -> Result<(u64, u64)> {
        let size = group.size_bytes() as u64;
        let has_room = |open: &Open| open.used + size <= open.length;
        let (number, open) = match self.segments.last_entry() {
            Some(last) if has_room(last.get()) => (*last.key(), last.into_mut()),
            last => {
                let number = last.map_or(FIRST_SEGMENT, |last| last.key() + 1);
                self.begin(number, size, written, values)?;
                let open = self.segments.get_mut(&number).ok_or_else(|| self_gone(number))?;
                (number, open)
            }
        };
        let at = open.used;
        let sealed = group.seal(open.salt, number, self.group)?;
        let doing = |error| io_error("writing the log", &error);
        open.file.write_all_at(&sealed, at).map_err(doing)?;
        open.file
            .sync_data()
            .map_err(|error| io_error("syncing the log", &error))?;
        open.used += sealed.len() as u64;
        self.group += 1;
        #[cfg(test)]
        crate::engine::power_loss::wrote(
            &self.directory,
            &segment::path(&self.directory, number),
            at,
            &sealed,
        );
        Ok((number, at))
    }

    /// Begins a segment: its first group, with the values as they were, is on disk before any other.
    fn begin(&mut self, number: u64, bytes: u64, written: &Range<u64>, values: &Values) -> Result<()> {
        let doing = |error| io_error("beginning a segment of the log", &error);
        let mut first = Group::default();
        let salt = fastrand::u64(..);
        first.push(&Record::Begin {
            salt,
            first: written.start,
            next: written.end,
        })?;
        for name in LogValue::ALL {
            if let Some(value) = values.get(name) {
                first.push(&Record::Set { name, value: &value })?;
            }
        }
        // Its header is found without knowing the salt.
        let sealed = first.seal(0, number, self.group)?;
        let length = (bytes + sealed.len() as u64).max(SEGMENT_BYTES);
        self.filler.wait();
        let file = segment::open_spare(&self.directory, length).map_err(doing)?;
        file.write_all_at(&sealed, 0).map_err(doing)?;
        file.sync_data().map_err(doing)?;
        let path = segment::path(&self.directory, number);
        fs::rename(segment::spare_path(&self.directory), &path).map_err(doing)?;
        segment::sync_directory(&self.directory).map_err(doing)?;
        #[cfg(test)]
        crate::engine::power_loss::wrote(&self.directory, &path, 0, &sealed);
        let length = file.metadata().map_err(doing)?.len();
        let open = Open {
            file,
            used: sealed.len() as u64,
            length,
            salt,
        };
        self.segments.insert(number, open);
        self.group += 1;
        self.filler.fill(&self.directory);
        Ok(())
    }

    /// Segments older than this one are not needed; without one, all but the last.
    pub(super) fn keep_from(&mut self, oldest: Option<u64>) {
        let last = self.segments.last_key_value().map_or(0, |(number, _)| *number);
        let oldest = oldest.unwrap_or(last).min(last);
        while let Some(first) = self.segments.first_entry()
            && *first.key() < oldest
        {
            let (number, open) = first.remove_entry();
            drop(open);
            // What is left behind by a failure is dropped at the next start.
            if let Err(error) = self.retire(number) {
                tracing::warn!(%error, segment = number, "removing a purged segment of the log");
            }
        }
    }

    /// The oldest goes first, and for good before the next does, so that there is never a hole.
    fn retire(&self, number: u64) -> io::Result<()> {
        let (path, spare) = (
            segment::path(&self.directory, number),
            segment::spare_path(&self.directory),
        );
        let is_usual = fs::metadata(&path)?.len() == SEGMENT_BYTES;
        if is_usual && !spare.exists() {
            fs::rename(&path, spare)?;
        } else {
            fs::remove_file(&path)?;
        }
        #[cfg(test)]
        crate::engine::power_loss::removed(&self.directory, &path);
        segment::sync_directory(&self.directory)
    }

    /// Reads the entries of a run of places in one segment.
    pub(super) fn read(&self, number: u64, run: &[Place], found: &mut Vec<Bytes>) -> Result<()> {
        let open = self.segments.get(&number).ok_or_else(|| self_gone(number))?;
        for near in run.chunk_by(|one, next| next.offset().saturating_sub(one.end()) <= READ_GAP_BYTES_MAX) {
            let (Some(first), Some(last)) = (near.first(), near.last()) else {
                continue;
            };
            let length = usize::try_from(last.end() - first.offset()).unwrap_or(usize::MAX);
            let mut bytes = BytesMut::zeroed(length);
            let read = open.file.read_exact_at(&mut bytes, first.offset());
            read.map_err(|error| io_error("reading the log", &error))?;
            let bytes = bytes.freeze();
            for place in near {
                let at = usize::try_from(place.offset() - first.offset()).unwrap_or(usize::MAX);
                let entry = bytes.slice(at..at + place.length());
                if crc32c::crc32c(&entry) != place.checksum {
                    let offset = place.offset();
                    return Err(Error::Corrupt(format!(
                        "the log: the entry at {offset} of segment {number}: the checksum does not match"
                    )));
                }
                found.push(entry);
            }
        }
        Ok(())
    }
}

fn self_gone(number: u64) -> Error {
    Error::Corrupt(format!("the log: segment {number} is gone"))
}
