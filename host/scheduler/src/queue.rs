//! Pending pods: ready to try, backing off, or waiting for the cluster to change. Pure: time comes in.
//!
//! Invariants: a pod is in one state at a time; a pod that failed is not tried again before its back-off is
//! over; a pod that nothing wakes is tried again after [`UNSCHEDULABLE_MAX`]. Order is by priority, then age.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use crate::view::Key;

/// The original's `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The original's `podMaxInUnschedulablePodsDuration`.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// Active order: higher priority first, then older, then first come.
type Rank = (Reverse<i32>, Instant, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Active(Rank),
    Backoff(Instant),
    Unschedulable {
        since: Instant,
    },
    /// In a cycle or being bound.
    InFlight,
}

struct Entry {
    pod: Arc<Pod>,
    state: State,
    added: Instant,
    sequence: u64,
    attempts: u32,
    last_attempt: Instant,
}

#[derive(Default)]
pub(crate) struct Queue {
    entries: HashMap<Key, Entry>,
    active: BTreeSet<(Rank, Key)>,
    /// Both back-offs and the deadlines of the unschedulable.
    timed: BTreeSet<(Instant, Key)>,
    sequence: u64,
}

impl Queue {
    /// A pending pod is new or changed. A change of what placement sees makes it ready at once.
    pub(crate) fn upsert(&mut self, key: &str, pod: Arc<Pod>, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            let same = same_for_placement(&entry.pod, &pod);
            entry.pod = pod;
            if !same && matches!(entry.state, State::Unschedulable { .. }) {
                self.wake_one(key, now);
            }
            return;
        }
        self.sequence += 1;
        let entry = Entry {
            pod,
            state: State::InFlight,
            added: now,
            sequence: self.sequence,
            attempts: 0,
            last_attempt: now,
        };
        self.entries.insert(key.to_owned(), entry);
        self.activate(key);
    }

    /// A pod is gone, or bound.
    pub(crate) fn remove(&mut self, key: &str) {
        self.leave_state(key);
        self.entries.remove(key);
    }

    /// Keys of all pods in the queue.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.keys()
    }

    /// The next pod to try; it is in flight until one of the calls below, or `remove`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Key, Arc<Pod>)> {
        let (_, key) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&key)?;
        entry.state = State::InFlight;
        entry.attempts += 1;
        entry.last_attempt = now;
        Some((key, Arc::clone(&entry.pod)))
    }

    /// No node can take it now: it waits for the cluster to change.
    pub(crate) fn unschedulable(&mut self, key: &str, now: Instant) {
        self.leave_state(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.state = State::Unschedulable { since: now };
            self.timed.insert((now + UNSCHEDULABLE_MAX, key.to_owned()));
        }
    }

    /// The attempt failed for another reason: it is tried again after its back-off.
    pub(crate) fn failed(&mut self, key: &str, now: Instant) {
        self.leave_state(key);
        if let Some(entry) = self.entries.get(key) {
            let until = entry.last_attempt.max(now) + backoff(entry.attempts);
            self.wait_until(key, until);
        }
    }

    /// The cluster changed: whoever waits for that is tried again, not before its back-off is over.
    pub(crate) fn wake(&mut self, now: Instant) {
        let waiting: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Unschedulable { .. }))
            .map(|(key, _)| key.clone())
            .collect();
        for key in waiting {
            self.wake_one(&key, now);
        }
    }

    /// Moves on whatever is due.
    pub(crate) fn promote(&mut self, now: Instant) {
        while let Some((due, key)) = self.timed.first().cloned() {
            if due > now {
                break;
            }
            self.timed.pop_first();
            self.activate(&key);
        }
    }

    /// When `promote` has something to do next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(due, _)| *due)
    }

    fn wake_one(&mut self, key: &str, now: Instant) {
        self.leave_state(key);
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let until = entry.last_attempt + backoff(entry.attempts);
        if until <= now {
            self.activate(key)
        } else {
            self.wait_until(key, until)
        }
    }

    fn wait_until(&mut self, key: &str, until: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.state = State::Backoff(until);
            self.timed.insert((until, key.to_owned()));
        }
    }

    fn activate(&mut self, key: &str) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let priority = entry
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.priority)
            .unwrap_or(0);
        let rank = (Reverse(priority), entry.added, entry.sequence);
        entry.state = State::Active(rank);
        self.active.insert((rank, key.to_owned()));
    }

    fn leave_state(&mut self, key: &str) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut entry.state, State::InFlight);
        match before {
            State::Active(rank) => {
                self.active.remove(&(rank, key.to_owned()));
            }
            State::Backoff(until) => {
                self.timed.remove(&(until, key.to_owned()));
            }
            State::Unschedulable { since } => {
                self.timed.remove(&(since + UNSCHEDULABLE_MAX, key.to_owned()));
            }
            State::InFlight => {}
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    BACKOFF_MIN
        .saturating_mul(1 << attempts.saturating_sub(1).min(10))
        .min(BACKOFF_MAX)
}

/// Whether the change is one that no policy can see, such as a new condition in the status.
fn same_for_placement(old: &Pod, new: &Pod) -> bool {
    old.spec == new.spec
        && old.metadata.labels == new.metadata.labels
        && old.metadata.annotations == new.metadata.annotations
        && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    fn pod(priority: i32) -> Arc<Pod> {
        Arc::new(Pod {
            spec: Some(PodSpec {
                priority: Some(priority),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    fn popped(queue: &mut Queue, now: Instant) -> Vec<Key> {
        std::iter::from_fn(|| queue.pop(now).map(|(key, _)| key)).collect()
    }

    #[test]
    fn higher_priority_first_then_first_come() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (key, priority) in [("a", 0), ("b", 5), ("c", 0)] {
            queue.upsert(key, pod(priority), now);
        }
        assert_eq!(popped(&mut queue, now), ["b", "a", "c"]);
    }

    #[test]
    fn the_unschedulable_wait_for_a_change_and_their_backoff() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.upsert("a", pod(0), now);
        queue.pop(now);
        queue.unschedulable("a", now);
        queue.promote(now + Duration::from_secs(60));
        assert!(popped(&mut queue, now).is_empty());
        queue.wake(now);
        assert!(popped(&mut queue, now).is_empty(), "its back-off is not over");
        queue.promote(now + BACKOFF_MIN);
        assert_eq!(popped(&mut queue, now), ["a"]);
    }

    #[test]
    fn a_status_change_wakes_nobody_and_a_label_does() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.upsert("a", pod(0), now);
        queue.pop(now);
        queue.unschedulable("a", now);
        let later = now + BACKOFF_MAX;
        let mut changed = Pod::clone(&pod(0));
        changed.status = Some(Default::default());
        queue.upsert("a", Arc::new(changed.clone()), later);
        assert!(popped(&mut queue, later).is_empty());
        changed.metadata.labels = Some([("k".to_owned(), "v".to_owned())].into());
        queue.upsert("a", Arc::new(changed), later);
        assert_eq!(popped(&mut queue, later), ["a"]);
    }

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        let seconds: Vec<u64> = (1..=6).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
    }
}
