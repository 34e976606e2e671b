//! How many seats a list takes, and the beginning of a watch that lists: by the bytes that are held in memory
//! at once, as the original estimates it. Pure.
//!
//! What comes from the cache is streamed and counts for a part of its bytes at most; what is read from history
//! (an exact revision, the pages after the first) counts whole. A level bounds the seats further.

use crate::request::Query;

/// Bytes that count as one seat.
const SEAT_BYTES: u64 = 100_000;
/// Bytes that count of what is streamed from the cache.
const STREAMED_BYTES_MAX: u64 = 1_000_000;
/// Seats of one list at most.
pub(super) const SEATS_MAX: u32 = 100;

/// What a list asks for, as far as it matters here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Read {
    from_history: bool,
    selects: bool,
    limit: Option<u64>,
}

impl Read {
    /// None for what reads a single object, or goes on from where it was.
    pub(crate) fn of(query: &Query, watch: bool) -> Option<Self> {
        let revision = query.get("resourceVersion");
        let initial = query.flag("sendInitialEvents") || revision.is_none_or(|revision| revision == "0");
        let fields = query.get("fieldSelector");
        if (watch && !initial) || fields.is_some_and(|fields| fields.contains("metadata.name=")) {
            return None;
        }
        let limit = query.number("limit").and_then(|limit| u64::try_from(limit).ok());
        let limit = limit.filter(|limit| *limit > 0);
        let from_history = match query.get("resourceVersionMatch") {
            Some(wanted) => wanted != "NotOlderThan",
            None => {
                let exact = limit.is_some() && revision.is_some_and(|revision| revision != "0");
                query.get("continue").is_some() || exact
            }
        };
        Some(Self {
            from_history: from_history && !watch,
            selects: fields.is_some() || query.get("labelSelector").is_some(),
            limit,
        })
    }

    /// Of a kind with so many objects of so many bytes in all.
    pub(crate) fn seats(self, objects: usize, bytes: usize) -> u32 {
        let (objects, bytes) = (objects as u64, bytes as u64);
        let limited = self.limit.map_or(objects, |limit| limit.min(objects));
        let held = match self.from_history && self.selects {
            true => limited.max(objects / 2),
            false => limited,
        };
        let average = bytes.checked_div(objects).unwrap_or(0);
        let bytes = held.saturating_mul(average);
        let bytes = if self.from_history {
            bytes
        } else {
            bytes.min(STREAMED_BYTES_MAX)
        };
        let seats = u32::try_from(bytes.div_ceil(SEAT_BYTES)).unwrap_or(SEATS_MAX);
        seats.clamp(1, SEATS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_as_wide_as_what_it_holds_at_once() {
        // Of 10,000 objects of 1,000 bytes each.
        for (query, watch, seats) in [
            ("", false, Some(10)),
            ("resourceVersion=0", false, Some(10)),
            ("limit=500", false, Some(5)),
            ("limit=500&continue=x", false, Some(5)),
            ("limit=500&continue=x&labelSelector=a", false, Some(50)),
            ("resourceVersion=7&resourceVersionMatch=Exact", false, Some(100)),
            (
                "resourceVersion=7&resourceVersionMatch=NotOlderThan",
                false,
                Some(10),
            ),
            ("resourceVersion=7&limit=2000", false, Some(20)),
            ("fieldSelector=metadata.name%3Dx", false, None),
            ("resourceVersion=7", true, None),
            ("resourceVersion=7&sendInitialEvents=true", true, Some(10)),
            ("resourceVersion=0", true, Some(10)),
            ("", true, Some(10)),
        ] {
            let read = Read::of(&Query::parse(&format!("/x?{query}").parse().unwrap()), watch);
            let found = read.map(|read| read.seats(10_000, 10_000_000));
            assert_eq!(found, seats, "{query}");
        }
        let all = Read::default();
        assert_eq!((all.seats(0, 0), all.seats(3, 300)), (1, 1));
    }
}
