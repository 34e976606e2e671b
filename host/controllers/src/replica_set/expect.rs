//! What a controller has done that its informer has not shown yet.
//!
//! Between a write and its echo the cache is stale; a plan made from it would create or delete too much. A
//! controller notes what it wrote, and plans again only when all of it was seen. Invariant: a note that is
//! never answered is forgotten after [`FORGET`], so that no object hangs. Pure but for its lock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use crate::pod;
use crate::work::Key;

/// After this, an expected echo is given up.
const FORGET: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Created,
    Deleted,
}

#[derive(Debug, Clone)]
struct Note {
    name: String,
    expected: Expected,
    since: Instant,
}

/// Notes of all owners, by owner and by uid of the pod.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    notes: Mutex<HashMap<Key, HashMap<String, Note>>>,
}

impl Expectations {
    pub(crate) fn created(&self, owner: &Key, pod: &Pod) {
        self.note(owner, pod, Expected::Created);
    }

    pub(crate) fn deleted(&self, owner: &Key, pod: &Pod) {
        self.note(owner, pod, Expected::Deleted);
    }

    fn note(&self, owner: &Key, pod: &Pod, expected: Expected) {
        let (Some(uid), Some(name)) = (pod.metadata.uid.clone(), pod.metadata.name.clone()) else {
            return;
        };
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let note = Note {
            name,
            expected,
            since: Instant::now(),
        };
        notes.entry(owner.clone()).or_default().insert(uid, note);
    }

    /// The informer told that this pod changed or went.
    pub(crate) fn observe(&self, owner: &Key, pod: &Pod) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_owner) = notes.get_mut(owner) else {
            return;
        };
        let Some(uid) = &pod.metadata.uid else { return };
        if of_owner
            .get(uid)
            .is_some_and(|note| note.expected == Expected::Created)
        {
            of_owner.remove(uid);
        }
        if of_owner.is_empty() {
            notes.remove(owner);
        }
    }

    /// Whether all notes of `owner` were answered; `seen` looks a pod up by name in the cache.
    pub(crate) fn met(&self, owner: &Key, seen: impl Fn(&str) -> Option<std::sync::Arc<Pod>>) -> bool {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_owner) = notes.get_mut(owner) else {
            return true;
        };
        let now = Instant::now();
        of_owner.retain(|uid, note| {
            let found = seen(&note.name).filter(|pod| pod.metadata.uid.as_deref() == Some(uid));
            let answered = match note.expected {
                Expected::Created => found.is_some(),
                Expected::Deleted => found.is_none_or(|pod| pod::is_deleting(&pod)),
            };
            !answered && now.duration_since(note.since) < FORGET
        });
        let met = of_owner.is_empty();
        if met {
            notes.remove(owner);
        }
        met
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(owner);
    }
}

/// How soon to look again while notes are unanswered, in case their answer was missed.
pub(crate) const LOOK_AGAIN: Duration = FORGET;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_stale_cache_is_waited_out() {
        let pod: Pod = from_value(json!({"metadata": {"name": "a", "uid": "1"}})).unwrap();
        let going: Pod = from_value(
            json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        )
        .unwrap();
        let owner = Key::new("ns", "rs");
        let expectations = Expectations::default();
        assert!(expectations.met(&owner, |_| None));
        expectations.created(&owner, &pod);
        assert!(!expectations.met(&owner, |_| None), "not in the cache yet");
        assert!(expectations.met(&owner, |_| Some(Arc::new(pod.clone()))));
        expectations.deleted(&owner, &pod);
        assert!(
            !expectations.met(&owner, |_| Some(Arc::new(pod.clone()))),
            "still there for the cache"
        );
        assert!(expectations.met(&owner, |_| Some(Arc::new(going.clone()))));
        expectations.created(&owner, &pod);
        expectations.observe(&owner, &pod);
        assert!(expectations.met(&owner, |_| None), "came and went");
    }
}
