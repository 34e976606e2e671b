//! Where a watch stands in history: which events are new to it, and which make up whole revisions.
//!
//! Pure. A store sends long answers in fragments, and may send a revision's events again after a new start; a
//! reader gets each revision once and whole.

use capstan_store::{Event, Revision};

/// A place in history.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The first revision that was not handed on; 0 is "whatever is next when it begins".
    pub(super) next: Revision,
    /// Events of one revision whose rest is in the next fragment.
    partial: Vec<Event>,
}

impl Place {
    pub(super) fn new(start: Revision) -> Self {
        Self {
            next: start.max(0),
            partial: Vec::new(),
        }
    }

    /// The stream is new: fragments of the old one are not completed.
    pub(super) fn restart(&mut self) {
        self.partial.clear();
    }

    /// The watch began at the store's revision.
    pub(super) fn begin(&mut self, revision: Revision) {
        if self.next == 0 {
            self.next = revision + 1;
        }
    }

    /// Adds what came, and takes out the whole revisions that are new, in order.
    pub(super) fn take(&mut self, events: Vec<Event>, is_fragment: bool) -> Vec<(Revision, Vec<Event>)> {
        let next = self.next;
        let mut whole: Vec<(Revision, Vec<Event>)> = Vec::new();
        let all = std::mem::take(&mut self.partial).into_iter().chain(events);
        for event in all.filter(|event| event.kv().mod_revision >= next) {
            let revision = event.kv().mod_revision;
            match whole.last_mut() {
                Some((last, events)) if *last == revision => events.push(event),
                _ => whole.push((revision, vec![event])),
            }
        }
        if is_fragment {
            self.partial = whole.pop().map(|(_, events)| events).unwrap_or_default();
        }
        whole
    }

    /// A revision was handed on.
    pub(super) fn passed(&mut self, revision: Revision) {
        self.next = self.next.max(revision + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use capstan_store::KeyValue;

    fn event(revision: Revision) -> Event {
        Event::Put {
            kv: KeyValue {
                key: Bytes::from_static(b"a"),
                value: Bytes::new(),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                lease: 0,
            },
            prev_kv: None,
        }
    }

    fn take(place: &mut Place, revisions: &[Revision], is_fragment: bool) -> Vec<(Revision, usize)> {
        let events = revisions.iter().map(|revision| event(*revision)).collect();
        let whole = place.take(events, is_fragment);
        for (revision, _) in &whole {
            place.passed(*revision);
        }
        whole
            .iter()
            .map(|(revision, events)| (*revision, events.len()))
            .collect()
    }

    #[test]
    fn revisions_come_whole_and_once() {
        let mut place = Place::new(0);
        place.begin(4);
        assert_eq!(take(&mut place, &[5, 5, 6], false), [(5, 2), (6, 1)]);
        assert_eq!(
            take(&mut place, &[6, 7], false),
            [(7, 1)],
            "6 was sent again by another member"
        );
        assert_eq!(take(&mut place, &[8, 9, 9], true), [(8, 1)], "9 has a rest");
        assert_eq!(take(&mut place, &[9], true), [], "and another one");
        assert_eq!(take(&mut place, &[9, 10], false), [(9, 4), (10, 1)]);
        assert_eq!(take(&mut place, &[11], true), []);
        place.restart();
        assert_eq!(
            take(&mut place, &[11, 11], false),
            [(11, 2)],
            "the stream broke within 11"
        );
        let mut future = Place::new(20);
        future.begin(4);
        assert_eq!(take(&mut future, &[19, 20], false), [(20, 1)]);
    }
}
