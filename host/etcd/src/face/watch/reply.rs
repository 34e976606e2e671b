//! A watch's events as responses, in fragments where the client asked for them. Pure.

use std::collections::VecDeque;

use capstan_store::Event;
use prost::Message;

use super::opening::Asked;
use crate::convert;
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb;

/// No watch: of the whole stream, or none was made.
pub(super) const NO_WATCH: i64 = -1;

/// What an event takes in a response beside itself: a tag and its length.
const EVENT_OVERHEAD_BYTES: usize = 1 + 4;

/// The events that the watch wants.
pub(super) fn wanted(asked: &Asked, events: Vec<Event>) -> Vec<mvccpb::Event> {
    let wants = |event: &Event| match event {
        Event::Put { .. } => !asked.no_put,
        Event::Delete { .. } => !asked.no_delete,
    };
    events.into_iter().filter(wants).map(convert::event).collect()
}

/// Adds a response, or as many as it takes so that none with more than one event is over `bytes_max`.
pub(super) fn push(
    out: &mut VecDeque<pb::WatchResponse>,
    mut response: pb::WatchResponse,
    fragment: bool,
    bytes_max: usize,
) {
    if !fragment || response.events.len() < 2 || response.encoded_len() < bytes_max {
        out.push_back(response);
        return;
    }
    let events = std::mem::take(&mut response.events);
    response.fragment = true;
    let empty_bytes = response.encoded_len();
    let mut part = response.clone();
    let mut part_bytes = empty_bytes;
    for event in events {
        let event_bytes = event.encoded_len() + EVENT_OVERHEAD_BYTES;
        if !part.events.is_empty() && part_bytes + event_bytes >= bytes_max {
            out.push_back(std::mem::replace(&mut part, response.clone()));
            part_bytes = empty_bytes;
        }
        part_bytes += event_bytes;
        part.events.push(event);
    }
    part.fragment = false;
    out.push_back(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_bounded_and_only_the_last_says_that_it_is() {
        let event = |value: usize| mvccpb::Event {
            kv: Some(mvccpb::KeyValue {
                value: vec![1; value].into(),
                ..mvccpb::KeyValue::default()
            }),
            ..mvccpb::Event::default()
        };
        let cases: [(&[usize], &[usize]); 4] = [
            (&[10], &[1]),
            (&[500], &[1]),
            (&[40, 40], &[1, 1]),
            (&[10, 10, 10, 500, 10], &[3, 1, 1]),
        ];
        for (values, parts) in cases {
            let mut out = VecDeque::new();
            let response = pb::WatchResponse {
                watch_id: 7,
                events: values.iter().map(|value| event(*value)).collect(),
                ..pb::WatchResponse::default()
            };
            push(&mut out, response, true, 80);
            let counts: Vec<_> = out.iter().map(|part| part.events.len()).collect();
            assert_eq!(counts, parts, "{values:?}");
            let last = out.len() - 1;
            assert!(
                out.iter()
                    .enumerate()
                    .all(|(at, part)| part.fragment == (at < last))
            );
            assert!(out.iter().all(|part| part.watch_id == 7));
        }
    }
}
