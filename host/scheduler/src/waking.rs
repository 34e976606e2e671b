//! Who of the unschedulable is worth another try after what happened, by the policies' hints.
//!
//! Many events are looked at together, one for each place; a policy is asked once for a crowd of equal pods.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use capstan_points::Seat;
use capstan_points::scheduler::{Event, EventKinds, Pod as Seen, Policy};

use crate::run::lock;
use crate::view::View;
use crate::worker::Worker;

/// Places of events that are told apart; beyond, they are one event of no place.
const EVENTS_MAX: usize = 256;

/// Kinds of pods in one question to a hint.
const HINTED_MAX: usize = 512;

impl Worker {
    /// Finds out which of the unschedulable are worth another try after what happened.
    pub(crate) fn look(&mut self, now: Instant) {
        let events = merged(std::mem::take(&mut self.events));
        self.looked = now;
        if self.queue.parked().is_empty() {
            return;
        }
        let seats = self.profiles.all();
        let seated: HashSet<&str> = seats.iter().map(|seat| seat.plugin.as_str()).collect();
        let view = lock(&self.view);
        let mut worth: HashSet<Arc<Seen>> = HashSet::new();
        for (kind, plugins) in self.queue.parked().kinds() {
            if plugins.iter().any(|plugin| !seated.contains(plugin.as_str())) {
                worth.insert(Arc::clone(kind));
            }
        }
        for seat in seats.iter() {
            let rejected = self
                .queue
                .parked()
                .kinds()
                .filter(|(kind, plugins)| plugins.contains(&seat.plugin) && !worth.contains(*kind));
            let kinds: Vec<Arc<Seen>> = rejected.map(|(kind, _)| Arc::clone(kind)).collect();
            if !kinds.is_empty() {
                worth.extend(hinted(&view, seat, &events, kinds));
            }
        }
        drop(view);
        for kind in worth {
            self.queue.wake_alike(&kind, now);
        }
    }
}

/// Events by place, many of one place as one.
fn merged(events: Vec<Event>) -> Vec<Event> {
    let mut merged: Vec<Event> = Vec::new();
    let mut places: HashMap<Option<u32>, usize> = HashMap::new();
    for event in &events {
        match places.get(&event.node) {
            Some(&at) => merged[at].kinds = merged[at].kinds.and(event.kinds),
            None => {
                places.insert(event.node, merged.len());
                merged.push(*event);
            }
        }
    }
    if merged.len() <= EVENTS_MAX {
        return merged;
    }
    let kinds = merged
        .iter()
        .fold(EventKinds::default(), |all, event| all.and(event.kinds));
    vec![Event { kinds, node: None }]
}

/// Which kinds of pods that the policy rejected are worth another try.
fn hinted(view: &View, seat: &Seat<dyn Policy>, events: &[Event], kinds: Vec<Arc<Seen>>) -> Vec<Arc<Seen>> {
    if !seat.policy.asks().hints {
        return kinds;
    }
    // A fresh instance tells its interests when it starts, which levelling does.
    if view.level(&*seat.policy).is_err() {
        return kinds;
    }
    let interests = seat.policy.interests();
    let events: Vec<Event> = events
        .iter()
        .filter(|event| event.kinds.meets(interests))
        .copied()
        .collect();
    if events.is_empty() {
        return Vec::new();
    }
    let mut worth = Vec::new();
    for some in kinds.chunks(HINTED_MAX) {
        let pods: Vec<&Seen> = some.iter().map(|kind| &**kind).collect();
        match seat.policy.hint(&events, &pods) {
            Ok(bits) => worth.extend(bits.iter().filter_map(|at| some.get(at as usize).cloned())),
            Err(fault) => {
                tracing::warn!(plugin = seat.plugin, %fault, "a hint failed: all are tried again");
                worth.extend(some.iter().cloned());
            }
        }
    }
    worth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_events_of_one_place_are_one_and_too_many_places_are_none() {
        let event = |node: u32, kinds| Event {
            kinds,
            node: Some(node),
        };
        let events = vec![
            event(1, EventKinds::POD_ADDED),
            event(2, EventKinds::POD_ADDED),
            event(1, EventKinds::POD_REMOVED),
        ];
        let merged_events = merged(events);
        assert_eq!(merged_events.len(), 2);
        assert!(merged_events[0].kinds.meets(EventKinds::POD_REMOVED));
        let many = (0..EVENTS_MAX as u32 + 1).map(|node| event(node, EventKinds::POD_ADDED));
        assert_eq!(
            merged(many.collect()),
            [Event {
                kinds: EventKinds::POD_ADDED,
                node: None
            }]
        );
    }
}
