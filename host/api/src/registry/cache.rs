//! The watch cache of one kind: its objects by key, and the ring of its latest changes.
//!
//! Invariants: the map is the state after exactly the changes up to `revision`; the ring holds every change
//! after `floor`. The feed is the only writer. A watcher owns no buffer: it walks the ring with a cursor,
//! and is cut off when the ring has turned past it, so a slow watcher costs nothing but its place.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::ops::Bound;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use capstan_store::Revision;
use tokio::sync::{OnceCell, watch};

use super::entry::Entry;

/// Changes that a kind's ring holds at most.
const RING_EVENTS_MAX: usize = 8192;
/// Bytes of objects that a kind's ring keeps alive at most.
const RING_BYTES_MAX: usize = 8 << 20;

/// Objects with their keys within the kind, in order.
pub(crate) type Objects = Vec<(Arc<str>, Arc<Entry>)>;

/// A change of one object. At least one of the two states is there.
#[derive(Debug)]
pub(crate) struct Change {
    pub revision: Revision,
    pub before: Option<Arc<Entry>>,
    /// None for a deletion.
    pub after: Option<Arc<Entry>>,
    frames: [OnceLock<Bytes>; 2],
    conversions: Mutex<Vec<(Version, Arc<Conversion>)>>,
}

/// A version, and whether the state before the change is meant.
type Version = (String, bool);
type Conversion = OnceCell<Arc<Entry>>;

impl Change {
    /// The watch event as it is encoded in one of two formats, made by the format's first watcher for all.
    pub(crate) fn frame(&self, protobuf: bool, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.frames[usize::from(protobuf)].get_or_init(encode).clone()
    }

    /// The state after (or before) the change in another version of the kind, made by the version's first watcher
    /// for all.
    pub(crate) async fn in_version<E>(
        &self,
        version: String,
        before: bool,
        convert: impl Future<Output = Result<Arc<Entry>, E>>,
    ) -> Result<Arc<Entry>, E> {
        let cell = {
            let mut all = self.conversions.lock().unwrap_or_else(PoisonError::into_inner);
            let version = (version, before);
            match all.iter().find(|(own, _)| *own == version) {
                Some((_, cell)) => cell.clone(),
                None => {
                    let cell = Arc::<Conversion>::default();
                    all.push((version, cell.clone()));
                    cell
                }
            }
        };
        cell.get_or_try_init(|| convert).await.cloned()
    }

    fn size_bytes(&self) -> usize {
        self.after
            .as_ref()
            .or(self.before.as_ref())
            .map_or(0, |entry| entry.bytes.len())
    }
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Arc<str>, Arc<Entry>>,
    /// Of the objects, not of the ring.
    bytes: usize,
    ring: VecDeque<Arc<Change>>,
    ring_bytes: usize,
    /// Sequence number of the ring's first change.
    first: u64,
    /// Changes up to here are not in the ring any more.
    floor: Revision,
    revision: Revision,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct KindCache {
    state: RwLock<State>,
    /// Sequence number after the newest change.
    tail: watch::Sender<u64>,
}

/// A watcher's place in the ring.
#[derive(Debug)]
pub(crate) struct Cursor {
    next: u64,
    tail: watch::Receiver<u64>,
}

/// The ring has turned past the asked revision or cursor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooOld {
    pub floor: Revision,
}

impl KindCache {
    /// Filled with what the store has at `revision`.
    pub(crate) fn new(objects: BTreeMap<Arc<str>, Arc<Entry>>, revision: Revision) -> Self {
        let state = State {
            bytes: bytes_of(&objects),
            objects,
            floor: revision,
            revision,
            ..State::default()
        };
        Self {
            state: RwLock::new(state),
            tail: watch::Sender::new(0),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.read().objects.get(key).cloned()
    }

    /// How many objects there are, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        let state = self.read();
        (state.objects.len(), state.bytes)
    }

    /// Revision of the last change, or of the first fill.
    pub(crate) fn revision(&self) -> Revision {
        self.read().revision
    }

    /// All objects below a key prefix (empty: all) in order, and the revision of the last change.
    pub(crate) fn list(&self, prefix: &str) -> (Revision, Objects) {
        let state = self.read();
        let pair = |(key, entry): (&Arc<str>, &Arc<Entry>)| (key.clone(), entry.clone());
        let objects = if prefix.is_empty() {
            state.objects.iter().map(pair).collect()
        } else {
            let from = (Bound::Included(prefix), Bound::Unbounded);
            let below = state
                .objects
                .range::<str, _>(from)
                .take_while(|(key, _)| key.starts_with(prefix));
            below.map(pair).collect()
        };
        (state.revision, objects)
    }

    /// A cursor that sees every change after `revision`.
    pub(crate) fn cursor_after(&self, revision: Revision) -> Result<Cursor, TooOld> {
        let state = self.read();
        if revision < state.floor {
            return Err(TooOld { floor: state.floor });
        }
        let at = state.ring.partition_point(|change| change.revision <= revision);
        Ok(Cursor {
            next: state.first + at as u64,
            tail: self.tail.subscribe(),
        })
    }

    /// The state now (as [`Self::list`]) and a cursor that continues from it.
    pub(crate) fn list_and_cursor(&self, prefix: &str) -> (Revision, Objects, Cursor) {
        loop {
            let (revision, objects) = self.list(prefix);
            if let Ok(cursor) = self.cursor_after(revision) {
                return (revision, objects, cursor);
            }
        }
    }

    /// Up to `limit` changes at the cursor, which moves past them, and the state's revision where the
    /// cursor has come to the end.
    pub(crate) fn next(
        &self,
        cursor: &mut Cursor,
        limit: usize,
    ) -> Result<(Vec<Arc<Change>>, Option<Revision>), TooOld> {
        let state = self.read();
        let Some(offset) = cursor.next.checked_sub(state.first) else {
            return Err(TooOld { floor: state.floor });
        };
        let changes: Vec<_> = state
            .ring
            .iter()
            .skip(offset as usize)
            .take(limit)
            .cloned()
            .collect();
        cursor.next += changes.len() as u64;
        let at_end = cursor.next == state.first + state.ring.len() as u64;
        Ok((changes, at_end.then_some(state.revision)))
    }

    /// Applies the changes of one revision.
    pub(crate) fn apply(&self, revision: Revision, changes: Vec<(Arc<str>, Option<Entry>)>) {
        let mut guard = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        for (key, after) in changes {
            let after = after.map(Arc::new);
            let before = match &after {
                Some(entry) => state.objects.insert(key, entry.clone()),
                None => state.objects.remove(&key),
            };
            if before.is_none() && after.is_none() {
                continue;
            }
            state.bytes += after.as_ref().map_or(0, |entry| entry.bytes.len());
            state.bytes -= before.as_ref().map_or(0, |entry| entry.bytes.len());
            let change = Change {
                revision,
                before,
                after,
                frames: Default::default(),
                conversions: Mutex::default(),
            };
            state.ring_bytes += change.size_bytes();
            state.ring.push_back(Arc::new(change));
        }
        state.revision = revision;
        while state.ring.len() > RING_EVENTS_MAX || state.ring_bytes > RING_BYTES_MAX {
            let Some(oldest) = state.ring.pop_front() else {
                break;
            };
            state.ring_bytes -= oldest.size_bytes();
            state.floor = oldest.revision;
            state.first += 1;
        }
        let tail = state.first + state.ring.len() as u64;
        drop(guard);
        self.tail.send_replace(tail);
    }

    /// Replaces everything after a gap in the feed; every watcher is cut off.
    pub(crate) fn reset(&self, objects: BTreeMap<Arc<str>, Arc<Entry>>, revision: Revision) {
        let mut guard = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let first = guard.first + guard.ring.len() as u64 + 1;
        *guard = State {
            bytes: bytes_of(&objects),
            objects,
            first,
            floor: revision,
            revision,
            ..State::default()
        };
        drop(guard);
        self.tail.send_replace(first);
    }
}

fn bytes_of(objects: &BTreeMap<Arc<str>, Arc<Entry>>) -> usize {
    objects.values().map(|entry| entry.bytes.len()).sum()
}

impl Cursor {
    /// Waits until there may be something at the cursor.
    pub(crate) async fn changed(&mut self) {
        let next = self.next;
        // The sender lives in the cache that the watcher holds: it cannot be gone.
        let _ = self.tail.wait_for(|tail| *tail > next).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, revision: Revision) -> Entry {
        let stored = format!(r#"{{"kind":"X","apiVersion":"v1","metadata":{{"name":"{name}"}}}}"#);
        Entry::read(None, stored.as_bytes(), revision).unwrap()
    }

    #[test]
    fn a_cursor_sees_each_change_once_and_a_slow_one_is_cut_off() {
        let cache = KindCache::new(BTreeMap::new(), 10);
        assert_eq!(cache.cursor_after(9).unwrap_err(), TooOld { floor: 10 });
        let mut slow = cache.cursor_after(10).unwrap();
        cache.apply(11, vec![("a".into(), Some(entry("a", 11)))]);
        let mut cursor = cache.cursor_after(10).unwrap();
        let (changes, end) = cache.next(&mut cursor, 9).unwrap();
        assert_eq!((changes.len(), changes[0].revision, end), (1, 11, Some(11)));
        cache.apply(12, vec![("a".into(), None), ("nothing".into(), None)]);
        let (changes, _) = cache.next(&mut cursor, 9).unwrap();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].after.is_none() && changes[0].before.is_some());
        for revision in 0..RING_EVENTS_MAX as i64 + 5 {
            cache.apply(13 + revision, vec![("b".into(), Some(entry("b", 13 + revision)))]);
        }
        assert!(cache.next(&mut slow, 9).is_err());
        assert!(cache.cursor_after(11).is_err());
    }
}
