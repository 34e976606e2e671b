//! The changes of one write, and the events that they are to one watcher.

use super::History;
use crate::mvcc::{Change, Rev, Span};
use crate::{Event, KeyValue, Revision, WatchMessage};

/// What the pieces of heap of a change cost beside their bytes.
const CHANGE_HEAP_BYTES: usize = 160;

/// One write.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) revision: Revision,
    pub(crate) changes: Vec<Change>,
}

impl Batch {
    pub(crate) fn size_bytes(&self) -> usize {
        let sizes = self
            .changes
            .iter()
            .map(|change| change.record.key.len() + change.record.value.len());
        sizes.sum::<usize>() + self.changes.len() * (size_of::<Change>() + CHANGE_HEAP_BYTES)
    }

    /// The message to a watcher of `span`, if any change is in it.
    pub(super) fn message(&self, history: &dyn History, span: &Span, prev_kv: bool) -> Option<WatchMessage> {
        let seen = self
            .changes
            .iter()
            .filter(|change| span.contains(&change.record.key));
        let events: Vec<Event> = seen.map(|change| event(history, change, prev_kv)).collect();
        (!events.is_empty()).then_some(WatchMessage::Events {
            revision: self.revision,
            events,
        })
    }
}

fn event(history: &dyn History, change: &Change, with_previous: bool) -> Event {
    let prev_kv = change
        .previous
        .filter(|_| with_previous)
        .and_then(|rev| previous(history, rev));
    let kv = change.record.clone().key_value(change.rev.main);
    if change.record.deleted {
        Event::Delete { kv, prev_kv }
    } else {
        Event::Put { kv, prev_kv }
    }
}

/// A previous value that was compacted away is left out, as in etcd.
fn previous(history: &dyn History, rev: Rev) -> Option<KeyValue> {
    let record = history.record(rev).ok().flatten()?;
    Some(record.key_value(rev.main))
}

impl WatchMessage {
    /// How many events it has.
    pub(super) fn event_count(&self) -> u64 {
        match self {
            Self::Events { events, .. } => events.len() as u64,
            _ => 0,
        }
    }
}
