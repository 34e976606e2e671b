//! The log as plain files: preallocated segments, one write and one fdatasync a group.
//!
//! What is written between two syncs is one *group* (see [`group`]); it is on disk as a whole or not at all.
//! A group that power loss tore is cut at the next open; one that is damaged though later ones were written
//! is [`Error::Corrupt`]. Nothing is changed in place: cuts, purges and named values are records too, and a
//! segment begins with the values as they were, so that older segments can go. Called by the log's thread.

mod disk;
#[cfg(test)]
mod fuzz;
mod group;
mod index;
mod recover;
mod segment;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use fuzz::fuzz_targets;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{LogEngine, LogValue};
use crate::lock::Mutex;
use crate::{Error, Result};
use disk::Disk;
use group::{Group, Record};
use index::{Index, Place};

/// The log.
pub(crate) struct PlainLog {
    inner: Mutex<Inner>,
    size_bytes: AtomicU64,
}

struct Inner {
    disk: Disk,
    index: Index,
    values: Values,
    /// What was written since the last sync.
    group: Group,
    /// The first failure: what it was to keep may be lost, so nothing more is acknowledged.
    failed: Option<Error>,
}

/// The named values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Values([Option<Bytes>; LogValue::ALL.len()]);

impl Values {
    fn get(&self, name: LogValue) -> Option<Bytes> {
        self.0.get(name as usize).cloned().flatten()
    }

    fn set(&mut self, name: LogValue, value: Bytes) {
        if let Some(place) = self.0.get_mut(name as usize) {
            *place = Some(value);
        }
    }
}

impl PlainLog {
    /// Opens a log, or makes one in an empty folder.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let recovered = recover::open(directory)?;
        let this = Self {
            size_bytes: AtomicU64::new(recovered.disk.used_bytes()),
            inner: Mutex::new(Inner {
                disk: recovered.disk,
                index: recovered.index,
                values: recovered.values,
                group: Group::default(),
                failed: None,
            }),
        };
        Ok(this)
    }

    /// Whether a folder has a log of this kind.
    pub(crate) fn is_in(directory: &Path) -> bool {
        segment::list(directory).is_ok_and(|segments| !segments.is_empty())
    }
}

impl Inner {
    fn alive(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn sync(&mut self) -> Result<()> {
        self.alive()?;
        if self.group.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        let written = self.disk.write(&group, &self.index.written(), &self.values);
        let (segment, at) = written.inspect_err(|error| self.failed = Some(error.clone()))?;
        self.index.settle(segment, at);
        self.group = group.cleared();
        // What is purged by what is now on disk may go.
        let oldest = self.index.oldest_segment();
        self.disk.keep_from(oldest);
        Ok(())
    }
}

impl LogEngine for PlainLog {
    fn append(&self, entries: &[(u64, Vec<u8>)]) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.alive()?;
        for (index, entry) in entries {
            let length = u32::try_from(entry.len());
            let length = length.map_err(|_| Error::Invalid(format!("an entry of {} bytes", entry.len())))?;
            let checksum = crc32c::crc32c(entry);
            let offset = inner.group.push(&Record::Entry {
                index: *index,
                checksum,
                bytes: entry,
            })?;
            let place = Place::pending(offset, length, checksum);
            if !inner.index.push(*index, place) {
                let next = inner.index.next();
                let error = Error::Corrupt(format!("the log ends before {next:?}, and {index} is appended"));
                inner.failed = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    fn read(&self, first: u64, last: u64) -> Result<Vec<Bytes>> {
        let inner = self.inner.lock();
        inner.alive()?;
        let mut found = Vec::new();
        let places = inner.index.places(first, last);
        for run in index::runs(&places) {
            match run.first().and_then(|place| place.segment()) {
                Some(segment) => inner.disk.read(segment, run, &mut found)?,
                None => found.extend(run.iter().filter_map(|place| inner.group.bytes(place))),
            }
        }
        if found.len() == places.len() {
            Ok(found)
        } else {
            Err(Error::Corrupt("the log: entries are missing".into()))
        }
    }

    fn last(&self) -> Result<Option<Bytes>> {
        let last = self.inner.lock().index.last();
        match last {
            Some(index) => Ok(self.read(index, index)?.pop()),
            None => Ok(None),
        }
    }

    fn truncate(&self, first: u64) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.alive()?;
        if inner.index.last().is_some_and(|last| last >= first) {
            inner.group.push(&Record::Truncate { first })?;
            inner.index.truncate(first);
        }
        Ok(())
    }

    fn purge(&self, last: u64) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.alive()?;
        inner.group.push(&Record::Purge { last })?;
        inner.index.purge(last);
        Ok(())
    }

    fn set(&self, name: LogValue, value: &[u8]) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.alive()?;
        inner.group.push(&Record::Set { name, value })?;
        inner.values.set(name, Bytes::copy_from_slice(value));
        Ok(())
    }

    fn get(&self, name: LogValue) -> Result<Option<Bytes>> {
        Ok(self.inner.lock().values.get(name))
    }

    fn sync(&self) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.sync()?;
        self.size_bytes.store(inner.disk.used_bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn sequence(&self) -> u64 {
        self.inner.lock().disk.last_group()
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }
}
