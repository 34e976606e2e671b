//! All watches of everything tell one history: the same changes at the same revisions, without a gap.

use std::collections::BTreeMap;

use crate::chaos::history::{Event, History, Said, WatchStream};
use crate::chaos::model::Timeline;

use super::Findings;

/// Whether a watch is of all keys and all changes.
pub(super) fn is_whole(stream: &WatchStream) -> bool {
    stream.key == "\0" && stream.end == "\0" && !stream.no_put && !stream.no_delete
}

/// The events of a watch by revision, but those of a frame that never ended.
pub(super) fn by_revision(stream: &WatchStream) -> BTreeMap<i64, Vec<Event>> {
    let mut whole: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    let mut pending: Vec<Event> = Vec::new();
    for frame in &stream.frames {
        if let Said::Events { events, fragment } = &frame.said {
            pending.extend(events.iter().cloned());
            if !fragment {
                for event in pending.drain(..) {
                    whole.entry(event.revision).or_default().push(event);
                }
            }
        }
    }
    whole
}

/// Puts the timeline together from every watch of everything.
pub(super) fn assemble(history: &History, findings: &mut Findings) -> Timeline {
    let mut revisions: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for stream in history.streams.iter().filter(|stream| is_whole(stream)) {
        for (revision, mut events) in by_revision(stream) {
            for event in &mut events {
                event.previous = None;
            }
            match revisions.get(&revision) {
                Some(known) if *known != events => {
                    wrong.push(format!(
                        "revision {revision} is {known:?} to one watch and {events:?} to another"
                    ));
                }
                Some(_) => {}
                None => {
                    revisions.insert(revision, events);
                }
            }
        }
    }
    let mut timeline = Timeline::default();
    let mut expected = 2;
    for (revision, events) in &revisions {
        if *revision != expected {
            wrong.push(format!(
                "no watch told of the revisions from {expected} to before {revision}"
            ));
        }
        expected = revision + 1;
        if let Err(message) = timeline.push(*revision, events) {
            wrong.push(message);
        }
    }
    findings.broken("one history for all watches", wrong);
    findings.counted("revisions", revisions.len());
    timeline
}
