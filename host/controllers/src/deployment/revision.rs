//! Revisions: the annotations by which `kubectl rollout history` and `undo` find their way. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that its ReplicaSets do not inherit.
const NOT_INHERITED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// How long a revision history may grow.
const HISTORY_CHARACTERS_MAX: usize = 2000;

/// A set's revision, zero when it has none.
pub(crate) fn of(annotations: Option<&BTreeMap<String, String>>) -> i64 {
    annotations
        .and_then(|all| all.get(REVISION))
        .and_then(|revision| revision.parse().ok())
        .unwrap_or(0)
}

/// The highest revision among sets.
pub(crate) fn highest<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    sets.into_iter()
        .map(|set| of(set.metadata.annotations.as_ref()))
        .max()
        .unwrap_or(0)
}

/// Gives the current set its annotations: those of the Deployment, and the revision if it is newer.
pub(crate) fn annotate(set: &mut ReplicaSet, deployment: &Deployment, revision: i64, is_new: bool) {
    let annotations = set.metadata.annotations.get_or_insert_with(BTreeMap::new);
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_INHERITED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let before = of(Some(annotations));
    if before >= revision {
        return;
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    if !is_new && before > 0 {
        let history = annotations.get(HISTORY).cloned().unwrap_or_default();
        let mut all: Vec<String> = history
            .split(',')
            .filter(|old| !old.is_empty())
            .map(str::to_owned)
            .collect();
        let old = before.to_string();
        if !all.contains(&old) {
            all.push(old);
        }
        while all.len() > 1 && all.iter().map(|old| old.len() + 1).sum::<usize>() > HISTORY_CHARACTERS_MAX {
            all.remove(0);
        }
        annotations.insert(HISTORY.to_owned(), all.join(","));
    }
}

/// Notes on a set how large the whole is to be, for proportional scaling.
pub(crate) fn note_size(set: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = set.metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(DESIRED.to_owned(), desired.to_string());
    annotations.insert(MAX.to_owned(), max.to_string());
}

/// What [`note_size`] noted as desired.
pub(crate) fn noted_desired(set: &ReplicaSet) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(DESIRED)?.parse().ok()
}

/// What [`note_size`] noted as the maximum.
pub(crate) fn noted_max(set: &ReplicaSet) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(MAX)?.parse().ok()
}
