//! Pending pods: ready to try, backing off, held back, or waiting for the cluster to change. Pure: time comes in.
//!
//! Invariants: a pod is in one state at a time; a pod that failed is not tried again before its back-off is
//! over; an unschedulable pod that nothing wakes is tried again after [`UNSCHEDULABLE_MAX`]. Who may wake the
//! unschedulable is `parked`'s to know; what a change of the cluster means to them, the policies' hints'.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use crate::parked::{Conclusion, Parked};
use crate::view::Key;

/// The original's `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The original's `podMaxInUnschedulablePodsDuration`.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// Active order: the rank that a policy gave, then first come.
type Rank = (Vec<i64>, Instant, u64);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Active(Rank),
    Backoff(Instant),
    Unschedulable {
        since: Instant,
    },
    /// Waits for a change of the pod itself.
    Gated,
    /// In a cycle, waiting for a permit or being bound.
    InFlight,
}

struct Entry {
    pod: Arc<Pod>,
    state: State,
    rank: Vec<i64>,
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
    parked: Parked,
    sequence: u64,
}

/// What came of telling the queue about a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is new: it wants a rank.
    New,
    /// It changed in a way that placement sees: its rank may be another.
    Changed,
    Same,
}

impl Queue {
    /// A pending pod is new or changed. A new one, or one whose change placement sees, is ready at once, by
    /// its priority until [`Queue::rank`] says otherwise.
    pub(crate) fn upsert(&mut self, key: &str, pod: Arc<Pod>, now: Instant) -> Told {
        let rank = vec![-i64::from(crate::nominations::priority(&pod))];
        if let Some(entry) = self.entries.get_mut(key) {
            let same = same_for_placement(&entry.pod, &pod);
            entry.pod = pod;
            if same {
                return Told::Same;
            }
            entry.rank = rank;
            match entry.state {
                State::Unschedulable { .. } => self.wake_one(key, now),
                State::Gated | State::Active(_) => {
                    self.leave_state(key);
                    self.activate(key);
                }
                State::Backoff(_) | State::InFlight => {}
            }
            return Told::Changed;
        }
        self.sequence += 1;
        let entry = Entry {
            pod,
            state: State::InFlight,
            rank,
            added: now,
            sequence: self.sequence,
            attempts: 0,
            last_attempt: now,
        };
        self.entries.insert(key.to_owned(), entry);
        self.activate(key);
        Told::New
    }

    /// Where the pod stands among the active, by a policy's word.
    pub(crate) fn rank(&mut self, key: &str, rank: Vec<i64>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.rank = rank;
        if matches!(entry.state, State::Active(_)) {
            self.leave_state(key);
            self.activate(key);
        }
    }

    /// A pod is gone, or bound.
    pub(crate) fn remove(&mut self, key: &str) {
        self.leave_state(key);
        self.entries.remove(key);
    }

    /// All pods of the queue.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.keys()
    }

    /// Whether some pod is ready.
    pub(crate) fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// The next pod to try.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Key, Arc<Pod>)> {
        let (_, key) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&key)?;
        entry.state = State::InFlight;
        entry.attempts += 1;
        entry.last_attempt = now;
        Some((key, Arc::clone(&entry.pod)))
    }

    /// No node can take it now: it waits for the cluster to change in a way that the policies that rejected it
    /// say is worth another try.
    pub(crate) fn park(
        &mut self,
        key: &str,
        alike: capstan_points::scheduler::Pod,
        conclusion: Conclusion,
        now: Instant,
    ) {
        self.leave_state(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.state = State::Unschedulable { since: now };
            self.timed.insert((now + UNSCHEDULABLE_MAX, key.to_owned()));
            self.parked.add(key, alike, conclusion);
        }
    }

    /// The unschedulable.
    pub(crate) fn parked(&self) -> &Parked {
        &self.parked
    }

    /// It is held back until it changes.
    pub(crate) fn gate(&mut self, key: &str) {
        self.leave_state(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.state = State::Gated;
            // It was not tried: back-off counts attempts.
            entry.attempts = entry.attempts.saturating_sub(1);
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

    /// Everything may be otherwise: whoever waits is tried again, not before its back-off is over.
    pub(crate) fn wake_all(&mut self, now: Instant) {
        let waiting = |entry: &Entry| matches!(entry.state, State::Unschedulable { .. } | State::Gated);
        let keys: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| waiting(entry))
            .map(|(key, _)| key.clone())
            .collect();
        keys.iter().for_each(|key| self.wake_one(key, now));
    }

    /// Pods like this one are worth another try, not before their back-off is over.
    pub(crate) fn wake_alike(&mut self, alike: &capstan_points::scheduler::Pod, now: Instant) {
        for key in self.parked.like(alike) {
            self.wake_one(&key, now);
        }
    }

    /// The pod is worth another try, wherever it waits.
    pub(crate) fn wake(&mut self, key: &str, now: Instant) {
        let waits = |entry: &Entry| matches!(entry.state, State::Unschedulable { .. });
        if self.entries.get(key).is_some_and(waits) {
            self.wake_one(key, now);
        }
    }

    /// Moves on whatever is due.
    pub(crate) fn promote(&mut self, now: Instant) {
        while let Some((due, key)) = self.timed.first().cloned() {
            if due > now {
                break;
            }
            // What was concluded about its like is that old too: the attempt must be a real one.
            self.parked.doubt(&key);
            self.leave_state(&key);
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
        if until <= now || entry.attempts == 0 {
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
        let rank = (entry.rank.clone(), entry.added, entry.sequence);
        entry.state = State::Active(rank.clone());
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
                self.parked.remove(key);
            }
            State::Gated | State::InFlight => {}
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

    fn park(queue: &mut Queue, key: &str, now: Instant) {
        queue.park(
            key,
            Default::default(),
            Conclusion::of(["resources".to_owned()]),
            now,
        );
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
        park(&mut queue, "a", now);
        queue.promote(now + Duration::from_secs(60));
        assert!(popped(&mut queue, now).is_empty());
        queue.wake_all(now);
        assert!(popped(&mut queue, now).is_empty(), "its back-off is not over");
        queue.promote(now + BACKOFF_MIN);
        assert_eq!(popped(&mut queue, now), ["a"]);
    }

    #[test]
    fn a_status_change_wakes_nobody_and_a_label_does() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.upsert("a", pod(0), now);
        queue.pop(now);
        park(&mut queue, "a", now);
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

    #[test]
    fn a_rank_by_a_policy_overrules_priority() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (key, priority) in [("a", 0), ("b", 5)] {
            assert_eq!(queue.upsert(key, pod(priority), now), Told::New);
        }
        queue.rank("a", vec![-9, 1]);
        queue.rank("b", vec![-9]);
        queue.upsert("c", pod(9), now);
        assert_eq!(popped(&mut queue, now), ["b", "c", "a"]);
    }

    #[test]
    fn a_gated_pod_waits_for_its_own_change_alone() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.upsert("a", pod(0), now);
        queue.pop(now);
        queue.gate("a");
        queue.promote(now + UNSCHEDULABLE_MAX);
        assert!(popped(&mut queue, now).is_empty() && queue.next_due().is_none());
        assert_eq!(queue.upsert("a", pod(1), now), Told::Changed);
        assert_eq!(popped(&mut queue, now), ["a"], "and has no back-off to wait for");
    }

    #[test]
    fn the_unschedulable_are_tried_again_after_five_minutes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for key in ["a", "b"] {
            queue.upsert(key, pod(0), now);
            queue.pop(now);
        }
        park(&mut queue, "a", now);
        park(&mut queue, "b", now + Duration::from_secs(1));
        queue.promote(now + UNSCHEDULABLE_MAX);
        assert_eq!(popped(&mut queue, now), ["a"]);
        assert!(
            queue.parked().conclusion(&Default::default()).is_none(),
            "what was concluded about its like is doubted"
        );
    }

    #[test]
    fn those_alike_are_woken_together_and_others_are_not() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let kind = |priority| capstan_points::scheduler::Pod {
            priority,
            ..Default::default()
        };
        for (key, priority) in [("a", 1), ("b", 1), ("c", 2)] {
            queue.upsert(key, pod(0), now);
            queue.pop(now);
            queue.park(key, kind(priority), Conclusion::of(["x".to_owned()]), now);
        }
        let later = now + BACKOFF_MAX;
        queue.wake_alike(&kind(1), later);
        let mut woken = popped(&mut queue, later);
        woken.sort();
        assert_eq!(woken, ["a", "b"]);
        assert_eq!(queue.parked().kinds().count(), 1);
    }
}
