//! The unschedulable, by what placement sees of them: a crowd of equal pods is one row.
//!
//! Invariant: a row's conclusion holds as long as nothing happened that a policy's hint would take for a reason to
//! try again; whoever learns of such a thing wakes the row, whose pods leave it. So a pod that is like a parked one
//! need not be tried at all. Owned by the queue.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use capstan_points::scheduler::Pod;

use crate::view::Key;

/// Why pods of a kind cannot be placed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conclusion {
    /// Who rejected them.
    pub(crate) plugins: BTreeSet<String>,
    /// What users read.
    pub(crate) message: Arc<str>,
    /// Whether the next of the kind would meet the same: no policy found a way for one, which may not be there
    /// for two.
    pub(crate) is_final: bool,
}

#[cfg(test)]
impl Conclusion {
    pub(crate) fn of(plugins: impl IntoIterator<Item = String>) -> Self {
        Self {
            plugins: plugins.into_iter().collect(),
            is_final: true,
            ..Self::default()
        }
    }
}

#[derive(Default)]
struct Row {
    conclusion: Conclusion,
    keys: HashSet<Key>,
}

#[derive(Default)]
pub(crate) struct Parked {
    rows: HashMap<Arc<Pod>, Row>,
    kinds: HashMap<Key, Arc<Pod>>,
}

/// What placement sees of a pod: all but its name, uid and age.
pub(crate) fn kind(pod: &Pod) -> Pod {
    Pod {
        name: String::new(),
        uid: String::new(),
        created_ms: 0,
        ..pod.clone()
    }
}

impl Parked {
    pub(crate) fn add(&mut self, key: &str, kind: Pod, conclusion: Conclusion) {
        let kind = match self.rows.get_key_value(&kind) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(kind),
        };
        let row = self.rows.entry(Arc::clone(&kind)).or_default();
        let mut plugins = std::mem::take(&mut row.conclusion.plugins);
        plugins.extend(conclusion.plugins);
        row.conclusion = Conclusion {
            plugins,
            ..conclusion
        };
        row.keys.insert(key.to_owned());
        self.kinds.insert(key.to_owned(), kind);
    }

    pub(crate) fn remove(&mut self, key: &str) {
        let Some(kind) = self.kinds.remove(key) else {
            return;
        };
        if let Some(row) = self.rows.get_mut(&kind) {
            row.keys.remove(key);
            if row.keys.is_empty() {
                self.rows.remove(&kind);
            }
        }
    }

    /// What would come of trying a pod of the kind, where that is known.
    pub(crate) fn conclusion(&self, kind: &Pod) -> Option<&Conclusion> {
        self.rows
            .get(kind)
            .map(|row| &row.conclusion)
            .filter(|conclusion| conclusion.is_final)
    }

    /// What was concluded about the pod's kind is not to be relied on any more.
    pub(crate) fn doubt(&mut self, key: &str) {
        if let Some(row) = self.kinds.get(key).and_then(|kind| self.rows.get_mut(kind)) {
            row.conclusion.is_final = false;
        }
    }

    /// All pods of the kind.
    pub(crate) fn like(&self, kind: &Pod) -> Vec<Key> {
        let keys = self.rows.get(kind).map(|row| row.keys.iter().cloned());
        keys.into_iter().flatten().collect()
    }

    /// Every kind, with who rejected it.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&Arc<Pod>, &BTreeSet<String>)> {
        self.rows
            .iter()
            .map(|(kind, row)| (kind, &row.conclusion.plugins))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_equal_pods_is_one_row_until_the_last_leaves() {
        let mut parked = Parked::default();
        let pod = |name: &str, priority| Pod {
            name: name.to_owned(),
            uid: name.to_owned(),
            priority,
            ..Pod::default()
        };
        for name in ["a", "b"] {
            parked.add(name, kind(&pod(name, 1)), Conclusion::of([name.to_owned()]));
        }
        let kinds: Vec<_> = parked.kinds().collect();
        assert_eq!(kinds.len(), 1);
        assert_eq!(kinds[0].1.len(), 2, "any of those who rejected one may wake all");
        assert!(parked.conclusion(&kind(&pod("c", 1))).is_some());
        assert!(parked.conclusion(&kind(&pod("c", 2))).is_none());
        parked.doubt("a");
        assert!(parked.conclusion(&kind(&pod("c", 1))).is_none());
        parked.remove("a");
        assert!(!parked.is_empty());
        parked.remove("b");
        assert!(parked.is_empty());
    }
}
