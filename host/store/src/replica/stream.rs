//! A long read in pages: all of one revision, each page read from disk when the one before it is taken.
//!
//! The revision is pinned, so that a compaction meanwhile takes nothing away; a reader that stalls loses its
//! pin after a while, and then is told `Compacted` if it was overtaken. What is in memory is a page or two, and
//! for an order other than that of the keys the revisions of all hits. Values are sorted in memory; see
//! [`crate::mvcc`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Replica;
use super::upkeep::Pin;
use crate::mvcc::{Hit, Shape, Span, count, fetch_one, hit};
use crate::{Error, KeyValue, RangeRequest, RangeStream, Result, Revision, SortTarget};

/// Keys in a page.
const PAGE_KEYS_MAX: usize = 1_000;
/// Bytes of values in a page, unless one value alone has more.
const PAGE_BYTES_MAX: u64 = 512 * 1024;
/// Pages that wait to be taken.
const PAGES_MAX: usize = 1;
/// Keys looked at in one hold of the state's lock.
const SLICE_KEYS: usize = 4_096;
/// How long a reader may hold back compactions.
const PIN_TIME: Duration = Duration::from_secs(120);

/// A read that is under way.
struct Reading {
    replica: Arc<Replica>,
    span: Span,
    shape: Shape,
    at: Revision,
    /// Keys that are still wanted.
    left: usize,
    pin: Option<Pin>,
    pinned_until: Instant,
    /// Which state it began with; an installed snapshot is another.
    installs: u64,
}

impl Replica {
    /// Begins a read in pages. Looks at every key of the range, and blocks.
    pub(crate) fn range_stream(self: &Arc<Self>, request: &RangeRequest) -> Result<RangeStream> {
        let is_by_value = request.sort.is_some_and(|sort| sort.target == SortTarget::Value);
        if request.count_only || is_by_value {
            return self.range(request).map(RangeStream::from);
        }
        let (mut reading, revision, count) = self.begin(request)?;
        let sorted = !reading.shape.is_in_key_order();
        let (hits, wire_bytes, found) = reading.survey(sorted)?;
        let wanted = reading.left;
        reading.left = wanted.min(found);
        let (sender, pages) = mpsc::channel(PAGES_MAX);
        let stream = RangeStream {
            revision,
            count,
            more: found > wanted,
            kvs_wire_bytes: Some(wire_bytes),
            pages,
        };
        if reading.left > 0 {
            tokio::spawn(reading.run(hits, sender));
        }
        Ok(stream)
    }

    fn begin(self: &Arc<Self>, request: &RangeRequest) -> Result<(Reading, Revision, i64)> {
        let state = self.state.read();
        let at = state.read_revision(request.revision)?;
        let span = Span::of(&request.range);
        let count = count(&state, &span, at);
        let reading = Reading {
            shape: Shape::of(request),
            at,
            left: if request.limit == 0 {
                usize::MAX
            } else {
                request.limit
            },
            pin: Some(self.upkeep.pin(at)),
            pinned_until: Instant::now() + PIN_TIME,
            installs: self.installs(),
            replica: self.clone(),
            span,
        };
        let revision = state.revision;
        drop(state);
        Ok((reading, revision, i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

impl Reading {
    /// Goes over all keys of the range: how many there are, and the size of those that are wanted on the wire.
    /// Hits are kept only where they must be sorted.
    fn survey(&self, keep: bool) -> Result<(Option<Vec<Hit>>, u64, usize)> {
        let (mut hits, mut sizes) = (Vec::new(), Vec::new());
        let (mut found, mut total) = (0, 0);
        let mut from = Some(self.span.start.clone());
        while let Some(start) = from {
            from = self.slice(start, SLICE_KEYS, |key, item| {
                let size = wire_bytes(key.len(), &item, self.shape.keys_only);
                if keep {
                    sizes.push((item.rev, size));
                    hits.push(hit(key, item, &self.shape));
                } else if found < self.left {
                    total += size;
                }
                found += 1;
                true
            })?;
            // In the order of the keys nothing after the first too many is needed.
            if !keep && found > self.left {
                break;
            }
        }
        if !keep {
            return Ok((None, total, found));
        }
        self.shape.sort(&mut hits);
        hits.truncate(self.left);
        if found > self.left {
            sizes.sort_unstable();
            let size = |hit: &Hit| sizes.binary_search_by_key(&hit.item.rev, |(rev, _)| *rev);
            total = hits
                .iter()
                .filter_map(|hit| size(hit).ok())
                .map(|at| sizes[at].1)
                .sum();
        } else {
            total = sizes.iter().map(|(_, size)| size).sum();
        }
        Ok((Some(hits), total, found))
    }

    /// Shows keys from `start` on, in one hold of the lock, until told to stop; returns where to go on.
    fn slice(
        &self,
        start: Bytes,
        keys_max: usize,
        mut visit: impl FnMut(&[u8], crate::mvcc::Item) -> bool,
    ) -> Result<Option<Bytes>> {
        let span = Span {
            start,
            end: self.span.end.clone(),
        };
        let state = self.replica.state.read();
        self.check(state.compact_revision)?;
        for (seen, (key, item)) in state.index.range(&span, self.at).enumerate() {
            if seen == keys_max || (self.shape.admits(&item) && !visit(key, item)) {
                return Ok(Some(Bytes::copy_from_slice(key)));
            }
        }
        Ok(None)
    }

    /// Whether what it reads is still there.
    fn check(&self, compact_revision: Revision) -> Result<()> {
        if self.replica.installs() != self.installs {
            return Err(Error::Unavailable("the store was replaced by a snapshot".into()));
        }
        if self.pin.is_none() && compact_revision > self.at {
            return Err(Error::Compacted { compact_revision });
        }
        Ok(())
    }

    async fn run(mut self, hits: Option<Vec<Hit>>, sender: mpsc::Sender<Result<Vec<KeyValue>>>) {
        let mut hits = hits.map(Vec::into_iter);
        let mut from = Some(self.span.start.clone());
        while self.left > 0 {
            let reading = tokio::task::spawn_blocking(move || {
                let page = match &mut hits {
                    Some(hits) => self.page_of(hits),
                    None => self.page_from(&mut from),
                };
                (self, hits, from, page)
            });
            let page;
            (self, hits, from, page) = match reading.await {
                Ok(read) => read,
                Err(error) => {
                    let _ = sender.send(Err(Error::Unavailable(error.to_string()))).await;
                    return;
                }
            };
            let is_end = page.as_ref().map_or(true, Vec::is_empty);
            if is_end && page.is_ok() {
                return;
            }
            if !self.send(&sender, page).await || is_end {
                return;
            }
        }
    }

    /// Sends a page; gives up the pin when that takes too long. False when nobody wants more.
    async fn send(
        &mut self,
        sender: &mpsc::Sender<Result<Vec<KeyValue>>>,
        page: Result<Vec<KeyValue>>,
    ) -> bool {
        let time = self.pinned_until.saturating_duration_since(Instant::now());
        let place = match tokio::time::timeout(time, sender.reserve()).await {
            Ok(place) => place,
            Err(_) => {
                self.pin = None;
                sender.reserve().await
            }
        };
        place.map(|place| place.send(page)).is_ok()
    }

    fn page_from(&mut self, from: &mut Option<Bytes>) -> Result<Vec<KeyValue>> {
        let mut hits = Vec::new();
        // A slice of which the bounds let nothing through is not the end.
        while hits.is_empty()
            && let Some(start) = from.take()
        {
            let mut bytes = 0;
            let hits_max = self.left.min(PAGE_KEYS_MAX);
            *from = self.slice(start, SLICE_KEYS, |key, item| {
                if hits.len() == hits_max
                    || (bytes > 0 && bytes + u64::from(item.value_bytes) > PAGE_BYTES_MAX)
                {
                    return false;
                }
                bytes += u64::from(item.value_bytes).max(1);
                hits.push(hit(key, item, &self.shape));
                true
            })?;
        }
        self.fetch(hits)
    }

    fn page_of(&mut self, sorted: &mut std::vec::IntoIter<Hit>) -> Result<Vec<KeyValue>> {
        self.check(self.replica.state.read().compact_revision)?;
        let mut bytes = 0;
        let fits = sorted.as_slice().iter().take(PAGE_KEYS_MAX).take_while(|hit| {
            let is_first = bytes == 0;
            bytes += u64::from(hit.item.value_bytes).max(1);
            is_first || bytes <= PAGE_BYTES_MAX
        });
        let fits = fits.count();
        let hits = sorted.take(fits).collect();
        self.fetch(hits)
    }

    fn fetch(&mut self, hits: Vec<Hit>) -> Result<Vec<KeyValue>> {
        self.left -= hits.len();
        let replica = &*self.replica;
        let kvs = hits
            .into_iter()
            .map(|hit| fetch_one(replica, hit, self.shape.keys_only));
        let kvs: Result<Vec<_>> = kvs.collect();
        if let Err(Error::Corrupt(_)) = &kvs {
            // Missing because the pin was given up, perhaps.
            self.check(replica.state.read().compact_revision)?;
        }
        kvs
    }
}

/// Bytes of a key as an element of `kvs` in etcd's `RangeResponse`: all tags there take one byte.
fn wire_bytes(key_bytes: usize, item: &crate::mvcc::Item, keys_only: bool) -> u64 {
    let number = |value: i64| {
        if value == 0 {
            0
        } else {
            1 + varint_bytes(value as u64)
        }
    };
    let string = |length: u64| {
        if length == 0 {
            0
        } else {
            1 + varint_bytes(length) + length
        }
    };
    let value_bytes = if keys_only { 0 } else { u64::from(item.value_bytes) };
    let message = string(key_bytes as u64)
        + number(item.create_revision)
        + number(item.rev.main)
        + number(item.version)
        + string(value_bytes)
        + number(item.lease);
    1 + varint_bytes(message) + message
}

fn varint_bytes(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}
