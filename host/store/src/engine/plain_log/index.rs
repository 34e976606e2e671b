//! Where each entry of the log is.

use std::collections::VecDeque;
use std::ops::Range;

/// Of an entry in the group that is not yet written.
const PENDING: u64 = u64::MAX;

/// Where an entry's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    segment: u64,
    /// In the segment, or in the pending group.
    offset: u64,
    length: u32,
    pub(super) checksum: u32,
}

impl Place {
    pub(super) fn new(segment: u64, offset: u64, length: u32, checksum: u32) -> Self {
        Self {
            segment,
            offset,
            length,
            checksum,
        }
    }

    pub(super) fn pending(offset: u64, length: u32, checksum: u32) -> Self {
        Self::new(PENDING, offset, length, checksum)
    }

    /// The segment; none while it is pending.
    pub(super) fn segment(&self) -> Option<u64> {
        (self.segment != PENDING).then_some(self.segment)
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn length(&self) -> usize {
        self.length as usize
    }

    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }
}

/// The places of consecutive entries.
#[derive(Debug, Default)]
pub(super) struct Index {
    first: u64,
    places: VecDeque<Place>,
}

impl Index {
    /// The index that must be appended next; none if any may be.
    pub(super) fn next(&self) -> Option<u64> {
        (!self.places.is_empty()).then_some(self.first + self.places.len() as u64)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.next().map(|next| next - 1)
    }

    /// The entries that are written.
    pub(super) fn written(&self) -> Range<u64> {
        let pending = self
            .places
            .iter()
            .rev()
            .take_while(|place| place.segment == PENDING);
        let written = self.places.len() - pending.count();
        self.first..self.first + written as u64
    }

    /// Adds an entry; says whether it is the next one.
    #[must_use]
    pub(super) fn push(&mut self, index: u64, place: Place) -> bool {
        match self.next() {
            Some(next) if next != index => return false,
            Some(_) => {}
            None => self.first = index,
        }
        self.places.push_back(place);
        true
    }

    pub(super) fn truncate(&mut self, first: u64) {
        let keep = first.saturating_sub(self.first);
        self.places.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    pub(super) fn purge(&mut self, last: u64) {
        let gone = (last.saturating_add(1).saturating_sub(self.first)).min(self.places.len() as u64);
        self.places.drain(..usize::try_from(gone).unwrap_or(0));
        self.first += gone;
        // Purged in bulk: the memory of a long log is not kept.
        self.places.shrink_to(self.places.len() * 2);
    }

    /// The pending group was written at `at` of a segment.
    pub(super) fn settle(&mut self, segment: u64, at: u64) {
        for place in self.places.iter_mut().rev() {
            if place.segment != PENDING {
                break;
            }
            place.segment = segment;
            place.offset += at;
        }
    }

    /// The segment of the oldest entry.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.places.front().and_then(Place::segment)
    }

    /// The places of the entries from `first` to `last`, as far as there are any.
    pub(super) fn places(&self, first: u64, last: u64) -> Vec<Place> {
        let skip = usize::try_from(first.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let end = last.saturating_add(1).saturating_sub(self.first);
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(self.places.len());
        self.places.range(skip.min(end)..end).copied().collect()
    }
}

/// Cuts places into runs that one read may fetch.
pub(super) fn runs(places: &[Place]) -> impl Iterator<Item = &[Place]> {
    places.chunk_by(|one, next| one.segment == next.segment)
}
