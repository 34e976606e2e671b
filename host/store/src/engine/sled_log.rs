//! The log on sled: rows of consecutive entries under `e` and the first one's index, named values under a letter
//! of their own, and the [`Tip`], which says what must be there.
//!
//! A row holds what was appended together, because sled's cost is by the row. An entry is in the last row that
//! begins at or before its index, and nowhere else: a cut inside a row is an empty row at the cut, so that no
//! row is ever changed. Entries before the tip's first are purged, though their row may still be there. sled leaves
//! out what it finds damaged, so all rows are looked at when the log is opened.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes};

use super::sled_database::SledDatabase;
use super::{LogEngine, LogValue};
use crate::lock::Mutex;
use crate::{Error, Result};

/// Bytes of entries after which a row is full.
const ROW_BYTES: usize = 64 * 1024;
/// Rows removed in one batch.
const REMOVE_ROWS: usize = 256;
const ENTRY: u8 = b'e';
/// The tip's row.
const TIP: &[u8] = b"t";
/// What a named value's row has before the value: how often it had been set.
const COUNT_BYTES: usize = 8;

/// The log.
pub(crate) struct SledLog {
    database: SledDatabase,
    tip: Mutex<Tip>,
    /// The tip's, for readers.
    first: AtomicU64,
}

/// What had been synced: written after it, and before anything of it is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tip {
    /// The number of the last sync.
    sequence: u64,
    /// The first entry that is not purged.
    first: u64,
    /// One more than the last entry.
    next: u64,
    /// How often each named value had been set.
    values: [u64; LogValue::ALL.len()],
    /// Something was written since the last sync.
    is_dirty: bool,
}

impl Tip {
    const BYTES: usize = (3 + LogValue::ALL.len()) * 8;

    fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(Self::BYTES);
        row.put_u64(self.sequence);
        row.put_u64(self.first);
        row.put_u64(self.next);
        self.values.iter().for_each(|count| row.put_u64(*count));
        row
    }

    fn decode(mut row: &[u8]) -> Option<Self> {
        let mut number = || row.try_get_u64().ok();
        let mut this = Self {
            sequence: number()?,
            first: number()?,
            next: number()?,
            ..Self::default()
        };
        for count in &mut this.values {
            *count = number()?;
        }
        Some(this)
    }
}

/// A row: the index of its first entry, and its entries.
struct Row {
    first: u64,
    entries: Vec<Bytes>,
}

impl Row {
    fn decode(key: &[u8], mut value: Bytes) -> Result<Self> {
        let damaged = || Error::Corrupt("the log: a row is shorter than it says".into());
        let first = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
        let first = first.map(u64::from_be_bytes).ok_or_else(damaged)?;
        let mut entries = Vec::new();
        while value.has_remaining() {
            let length = value.try_get_u32().map_err(|_| damaged())? as usize;
            if length > value.len() {
                return Err(damaged());
            }
            entries.push(value.split_to(length));
        }
        Ok(Self { first, entries })
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(self.entries.len() as u64)
    }

    fn numbered(self) -> impl Iterator<Item = (u64, Bytes)> {
        (self.first..).zip(self.entries)
    }
}

impl SledLog {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let database = SledDatabase::open(directory, "log")?;
        let tip = match database.get(TIP)? {
            Some(row) => Tip::decode(&row).ok_or_else(|| lost("its tip is too short"))?,
            None => Tip::default(),
        };
        let this = Self {
            first: AtomicU64::new(tip.first),
            tip: Mutex::new(Tip::default()),
            database,
        };
        let tip = this.check(tip)?;
        *this.tip.lock() = tip;
        Ok(this)
    }

    /// Whether all that the tip speaks of is there. Returns the tip of all that is.
    fn check(&self, tip: Tip) -> Result<Tip> {
        let mut end: Option<u64> = None;
        self.rows(0, u64::MAX, &mut |row| {
            let gap = match end {
                Some(end) => end.max(tip.first) < row.first,
                None => tip.first < tip.next && row.first > tip.first,
            };
            if gap {
                return Err(lost(&format!("entries before {} are missing", row.first)));
            }
            end = Some(row.end());
            Ok(true)
        })?;
        let next = end.unwrap_or(0).max(tip.first);
        if next < tip.next {
            return Err(lost(&format!(
                "it ends before {next}, and had been synced up to {}",
                tip.next
            )));
        }
        let mut values = tip.values;
        for (name, count) in LogValue::ALL.into_iter().zip(&mut values) {
            let found = self.value(name)?.map_or(0, |(count, _)| count);
            if found < *count {
                return Err(lost(&format!(
                    "{name:?} is not the one that had been synced last"
                )));
            }
            *count = found;
        }
        Ok(Tip { next, values, ..tip })
    }

    /// A named value and how often it had been set.
    fn value(&self, name: LogValue) -> Result<Option<(u64, Bytes)>> {
        let Some(mut row) = self.database.get(value_key(name))? else {
            return Ok(None);
        };
        let count = row
            .try_get_u64()
            .map_err(|_| lost("a named value is too short"))?;
        Ok(Some((count, row)))
    }

    fn write_tip(&self, tip: &Tip) -> Result<()> {
        let row = tip.encode();
        let row = std::iter::once((TIP, &row[..]));
        self.database.apply_in_order(row, std::iter::empty())
    }

    /// The row that an entry is in if it is anywhere.
    fn row_of(&self, index: u64) -> Result<Option<Row>> {
        let row = self.database.last(&[ENTRY], &entry_end(index))?;
        row.map(|(key, value)| Row::decode(&key, value)).transpose()
    }

    /// Visits rows that begin from `first` to `last`, in order.
    fn rows(&self, first: u64, last: u64, visit: &mut dyn FnMut(Row) -> Result<bool>) -> Result<()> {
        let visit = &mut |key: &[u8], value| visit(Row::decode(key, value)?);
        self.database.scan(&entry_key(first), &entry_end(last), visit)
    }

    fn remove(&self, rows: impl Iterator<Item = u64>) -> Result<()> {
        let keys = rows.map(|first| entry_key(first).to_vec());
        self.database.apply_in_order(std::iter::empty(), keys)
    }

    /// The first rows that have nothing after `last`.
    fn purged_rows(&self, last: u64) -> Result<Vec<u64>> {
        let mut purged = Vec::new();
        let mut before: Option<(u64, u64)> = None;
        self.rows(0, last.saturating_add(1), &mut |row| {
            purged.extend(before.take().map(|(first, _)| first));
            before = Some((row.first, row.end()));
            Ok(purged.len() < REMOVE_ROWS)
        })?;
        // Of the last one seen, what follows it may be beyond.
        purged.extend(
            before
                .filter(|(_, end)| *end <= last.saturating_add(1))
                .map(|(first, _)| first),
        );
        Ok(purged)
    }
}

fn lost(what: &str) -> Error {
    Error::Corrupt(format!("the log: {what}: its data file is damaged"))
}

fn entry_key(index: u64) -> [u8; 9] {
    let mut key = [ENTRY; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

fn entry_end(last: u64) -> Vec<u8> {
    last.checked_add(1)
        .map_or_else(|| vec![ENTRY + 1], |next| entry_key(next).to_vec())
}

fn value_key(name: LogValue) -> &'static [u8] {
    match name {
        LogValue::Vote => b"v",
        LogValue::Purged => b"p",
        LogValue::StateSynced => b"s",
    }
}

impl LogEngine for SledLog {
    fn append(&self, entries: &[(u64, Vec<u8>)]) -> Result<()> {
        let mut rows: Vec<([u8; 9], Vec<u8>)> = Vec::new();
        for (index, entry) in entries {
            let length = u32::try_from(entry.len());
            let length = length.map_err(|_| Error::Invalid(format!("an entry of {} bytes", entry.len())))?;
            if rows.last().is_none_or(|(_, row)| row.len() >= ROW_BYTES) {
                rows.push((entry_key(*index), Vec::new()));
            }
            if let Some((_, row)) = rows.last_mut() {
                row.put_u32(length);
                row.put_slice(entry);
            }
        }
        let rows = rows.iter().map(|(key, row)| (&key[..], &row[..]));
        self.database.apply_in_order(rows, std::iter::empty())?;
        if let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) {
            let mut tip = self.tip.lock();
            if tip.next <= tip.first {
                tip.first = *first;
                self.first.store(*first, Ordering::Release);
            }
            tip.next = last.saturating_add(1);
            tip.is_dirty = true;
        }
        Ok(())
    }

    fn read(&self, first: u64, last: u64) -> Result<Vec<Bytes>> {
        let first = first.max(self.first.load(Ordering::Acquire));
        let mut found: Vec<(u64, Bytes)> = Vec::new();
        let begin = self.row_of(first)?.map_or(first, |row| row.first);
        self.rows(begin, last, &mut |row| {
            found.truncate(found.partition_point(|(index, _)| *index < row.first));
            found.extend(row.numbered().filter(|(index, _)| (first..=last).contains(index)));
            Ok(true)
        })?;
        Ok(found.into_iter().map(|(_, entry)| entry).collect())
    }

    fn last(&self) -> Result<Option<Bytes>> {
        let Some(mut row) = self.row_of(u64::MAX)? else {
            return Ok(None);
        };
        let mut last = row.end().checked_sub(1);
        if row.entries.is_empty() {
            let Some(before) = row.first.checked_sub(1) else {
                return Ok(None);
            };
            let Some(cut) = self.row_of(before)? else {
                return Ok(None);
            };
            (row, last) = (cut, Some(before));
        }
        let is_kept = last.filter(|last| *last >= self.first.load(Ordering::Acquire));
        Ok(is_kept.and_then(|last| {
            row.numbered()
                .find(|(index, _)| *index == last)
                .map(|(_, entry)| entry)
        }))
    }

    fn truncate(&self, first: u64) -> Result<()> {
        {
            let mut tip = self.tip.lock();
            tip.next = tip.next.min(first.max(tip.first));
            tip.is_dirty = true;
            self.write_tip(&tip)?;
        }
        let mut rows = Vec::new();
        self.rows(first, u64::MAX, &mut |row| {
            rows.push(row.first);
            Ok(true)
        })?;
        self.remove(rows.into_iter().rev())?;
        if self.row_of(first)?.is_some_and(|row| row.end() > first) {
            let cut = (&entry_key(first)[..], &[][..]);
            self.database
                .apply_in_order(std::iter::once(cut), std::iter::empty())?;
        }
        Ok(())
    }

    fn purge(&self, last: u64) -> Result<()> {
        {
            let mut tip = self.tip.lock();
            tip.first = tip.first.max(last.saturating_add(1));
            tip.next = tip.next.max(tip.first);
            tip.is_dirty = true;
            self.write_tip(&tip)?;
            self.first.store(tip.first, Ordering::Release);
        }
        loop {
            let rows = self.purged_rows(last)?;
            if rows.is_empty() {
                return Ok(());
            }
            self.remove(rows.into_iter())?;
        }
    }

    fn set(&self, name: LogValue, value: &[u8]) -> Result<()> {
        let mut tip = self.tip.lock();
        let count = tip.values.get(name as usize).map_or(1, |count| count + 1);
        let mut row = Vec::with_capacity(COUNT_BYTES + value.len());
        row.put_u64(count);
        row.put_slice(value);
        let row = std::iter::once((value_key(name), &row[..]));
        self.database.apply_in_order(row, std::iter::empty())?;
        if let Some(kept) = tip.values.get_mut(name as usize) {
            *kept = count;
        }
        tip.is_dirty = true;
        Ok(())
    }

    fn get(&self, name: LogValue) -> Result<Option<Bytes>> {
        Ok(self.value(name)?.map(|(_, value)| value))
    }

    fn sync(&self) -> Result<()> {
        {
            let mut tip = self.tip.lock();
            if tip.is_dirty {
                let now = Tip {
                    sequence: tip.sequence + 1,
                    is_dirty: false,
                    ..tip.clone()
                };
                self.write_tip(&now)?;
                *tip = now;
            }
        }
        self.database.sync()
    }

    fn sequence(&self) -> u64 {
        self.tip.lock().sequence
    }

    fn size_bytes(&self) -> u64 {
        self.database.size_bytes()
    }
}

#[cfg(test)]
pub(super) fn fuzz_target() -> crate::fuzz::Target {
    let rows = [vec![1, 100, 0, 3000], vec![0], vec![5; 40]].map(|lengths: Vec<usize>| {
        let mut row = entry_key(7).to_vec();
        for length in lengths {
            row.put_u32(u32::try_from(length).unwrap());
            row.put_slice(&vec![9; length]);
        }
        row
    });
    crate::fuzz::Target::new("row of sled's log", rows.to_vec(), |bytes| {
        let (key, value) = bytes.split_at(bytes.len().min(9));
        if let Ok(row) = Row::decode(key, Bytes::copy_from_slice(value)) {
            assert!(row.end() >= row.first);
            assert_eq!(
                row.entries.iter().map(|entry| entry.len() + 4).sum::<usize>(),
                value.len()
            );
        }
    })
}
