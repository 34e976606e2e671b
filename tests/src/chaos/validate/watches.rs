//! A watch tells each change of its range from its start on once, whole and in order, with the right key
//! before; its progress is never ahead of its events.

use crate::chaos::history::{Event, Frame, History, Said, WatchStream};
use crate::chaos::model::Timeline;

use super::{Findings, log};

/// The most events of one frame that are compared with each other.
const FRAME_MAX: usize = 64;

pub(super) fn check(history: &History, timeline: &Timeline, findings: &mut Findings) {
    let (mut wrong, mut events, mut progress) = (Vec::new(), 0, 0);
    // What comes after it is known from one watch alone.
    let until = if history.cut_short {
        timeline.last()
    } else {
        i64::MAX
    };
    for stream in &history.streams {
        if let Err(message) = in_order(stream).and_then(|()| complete(stream, timeline, until)) {
            wrong.push(format!("{}: {message}", name(stream)));
        }
        if let Err(message) = previous_right(stream, timeline, history) {
            wrong.push(format!("{}: {message}", name(stream)));
        }
        for frame in &stream.frames {
            match &frame.said {
                Said::Events { events: told, .. } => events += told.len(),
                Said::Progress => progress += 1,
                _ => {}
            }
        }
    }
    findings.broken("watches complete, in order, exactly once", wrong);
    findings.counted("watches", history.streams.len());
    findings.counted("watch events", events);
    findings.counted("progress notices", progress);
}

fn name(stream: &WatchStream) -> String {
    let WatchStream {
        client,
        member,
        key,
        end,
        start,
        ..
    } = stream;
    format!("watch of {key:?}..{end:?} from {start} by client {client} on member {member}")
}

/// Revisions only rise from frame to frame, and none is at or below what progress said was over.
fn in_order(stream: &WatchStream) -> Result<(), String> {
    let mut over = stream.start - 1;
    let mut in_fragments = false;
    for Frame { revision, said, .. } in &stream.frames {
        match said {
            Said::Events { events, fragment } => {
                for event in events {
                    // A frame's revisions may be equal to one another, and to those of a fragment before.
                    let again = event.revision == over && in_fragments;
                    if event.revision < over || (event.revision == over && !again) {
                        return Err(format!(
                            "revision {} after {over} was over: {event:?}",
                            event.revision
                        ));
                    }
                }
                let last = events.last().map_or(over, |event| event.revision);
                if events.windows(2).any(|pair| pair[1].revision < pair[0].revision) {
                    return Err(format!("a frame goes back: {events:?}"));
                }
                let twice = |(at, event): (usize, &Event)| {
                    events[..at]
                        .iter()
                        .any(|other| (other.revision, &other.key) == (event.revision, &event.key))
                };
                if let Some((at, _)) = events
                    .iter()
                    .enumerate()
                    .rev()
                    .take(FRAME_MAX)
                    .find(|told| twice(*told))
                {
                    return Err(format!("told twice: {:?}", events[at]));
                }
                if *revision < last {
                    return Err(format!("a frame of header revision {revision} tells of {last}"));
                }
                over = last;
                in_fragments = *fragment;
            }
            Said::Progress => over = over.max(*revision),
            Said::Created | Said::Canceled { .. } => {}
        }
    }
    Ok(())
}

fn is_for(stream: &WatchStream, event: &Event) -> bool {
    let in_range = match stream.end.as_str() {
        "" => event.key == stream.key,
        "\0" => event.key >= stream.key,
        end => event.key.as_str() >= stream.key.as_str() && event.key.as_str() < end,
    };
    in_range && !(stream.no_put && event.put.is_some()) && !(stream.no_delete && event.put.is_none())
}

/// Up to the last thing told, or to `until`, nothing of the range is missing and nothing is twice.
fn complete(stream: &WatchStream, timeline: &Timeline, until: i64) -> Result<(), String> {
    let told = log::by_revision(stream);
    let progress = stream.frames.iter().filter(|frame| frame.said == Said::Progress);
    let last_progress = progress.map(|frame| frame.revision).max().unwrap_or(0);
    let last = told
        .last_key_value()
        .map_or(0, |(last, _)| *last)
        .max(last_progress)
        .min(until);
    for revision in stream.start..=last {
        let expected = timeline
            .events(revision)
            .iter()
            .filter(|event| is_for(stream, event));
        let got = told.get(&revision).map_or(&[][..], Vec::as_slice);
        let same = |one: &&Event, other: &Event| (&one.key, &one.put) == (&other.key, &other.put);
        let expected: Vec<&Event> = expected.collect();
        if expected.len() != got.len() || !expected.iter().zip(got).all(|(one, other)| same(one, other)) {
            return Err(format!(
                "told {got:?} of revision {revision}, which is {expected:?}"
            ));
        }
    }
    Ok(())
}

/// The key before is the one before; it may be missing where a compaction had taken it.
fn previous_right(stream: &WatchStream, timeline: &Timeline, history: &History) -> Result<(), String> {
    for frame in &stream.frames {
        let Said::Events { events, .. } = &frame.said else {
            continue;
        };
        let asked = history.compactions.iter().filter(|(at, _)| *at < frame.received);
        let compacted = asked.map(|(_, revision)| *revision).max().unwrap_or(0);
        for event in events {
            let before = timeline.key_at(&event.key, event.revision - 1);
            let may_miss = event.revision - 1 < compacted;
            if event.previous.as_ref() != before && !(event.previous.is_none() && may_miss) {
                return Err(format!("{event:?} but the key before was {before:?}"));
            }
        }
    }
    Ok(())
}
