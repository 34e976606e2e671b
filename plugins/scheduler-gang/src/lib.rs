//! Gangs: the pods of a group are bound all together or not at all.
//!
//! The label `capstan.dev/gang` names a pod's group within its namespace, the annotation `capstan.dev/gang-size`
//! says how many must have a place. Until then each that has one keeps it and waits; when the last comes, all go.
//! When one gives its place back, because the time was over or it was deleted, all that wait do, so that two groups
//! that each hold half of the room do not wait for one another for ever.

use capstan_sdk::{
    Fault, Plugin,
    scheduler::{
        AssignedPod, Change, Cluster, Decision, NodeId, Permission, Permit, Pod, Policy, Release, Symbol,
        empty_pod,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// The label with the group's name.
const GANG: &str = "capstan.dev/gang";
/// The annotation with the number of pods that must have a place.
const SIZE: &str = "capstan.dev/gang-size";

/// The configuration; see `config.schema.json`.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    timeout_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { timeout_seconds: 60 }
    }
}

/// Namespace and name of a group.
type Gang = (Symbol, Symbol);

/// The policy, with what it knows of each group.
pub struct Gangs {
    config: Config,
    /// Pods with a place, bound or waiting.
    placed: BTreeMap<Gang, usize>,
    /// Uids of those that wait.
    waiting: BTreeMap<Gang, BTreeSet<String>>,
}

impl Plugin for Gangs {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self {
            config,
            placed: BTreeMap::new(),
            waiting: BTreeMap::new(),
        })
    }
}

fn gang(cluster: &Cluster, pod: &Pod) -> Option<Gang> {
    let key = cluster.find(GANG)?;
    let label = pod.labels.iter().find(|label| label.key == key)?;
    Some((pod.namespace, label.value))
}

fn size(pod: &Pod) -> Result<usize, &'static str> {
    let text = pod.annotations.iter().find(|(key, _)| key == SIZE);
    let (_, text) =
        text.ok_or("the pod has the label capstan.dev/gang and no annotation capstan.dev/gang-size")?;
    text.parse()
        .map_err(|_| "the annotation capstan.dev/gang-size is not a whole number")
}

impl Policy for Gangs {
    const NAMESPACES: bool = false;

    fn trim(pod: &mut Pod) {
        *pod = Pod {
            namespace: pod.namespace,
            labels: std::mem::take(&mut pod.labels),
            ..empty_pod()
        };
    }

    fn on_change(&mut self, cluster: &Cluster, change: Change<'_>) {
        let counted = |pod: &AssignedPod| gang(cluster, &pod.pod);
        match change {
            // What waits is known by uid, which no reset voids.
            Change::Reset => self.placed.clear(),
            Change::PodAdded(pod) => {
                if let Some(gang) = counted(pod) {
                    *self.placed.entry(gang).or_default() += 1;
                }
            }
            Change::PodRemoved(pod) => {
                if let Some(gang) = counted(pod)
                    && let Some(count) = self.placed.get_mut(&gang)
                {
                    *count -= 1;
                    if *count == 0 {
                        self.placed.remove(&gang);
                    }
                }
            }
            _ => {}
        }
    }
}

impl Permit for Gangs {
    fn permit(&mut self, cluster: &Cluster, pod: &Pod, _: NodeId) -> Permission {
        let only = |decision| Permission {
            decision,
            others: Vec::new(),
        };
        let Some(gang) = gang(cluster, pod) else {
            return only(Decision::Allow);
        };
        let size = match size(pod) {
            Ok(size) => size,
            Err(why) => return only(Decision::Rejected(why.to_owned())),
        };
        // The pod itself is assumed only after this cycle's news.
        let placed = self.placed.get(&gang).copied().unwrap_or(0) + 1;
        if placed < size {
            self.waiting.entry(gang).or_default().insert(pod.uid.clone());
            return only(Decision::Wait(self.config.timeout_seconds * 1_000));
        }
        let waiting = self.waiting.remove(&gang).unwrap_or_default();
        let go = |uid| Release { uid, rejected: None };
        Permission {
            decision: Decision::Allow,
            others: waiting.into_iter().map(go).collect(),
        }
    }

    fn withdrawn(&mut self, cluster: &Cluster, pod: &Pod, _: NodeId) -> Vec<Release> {
        let Some(gang) = gang(cluster, pod) else {
            return Vec::new();
        };
        let mut waiting = self.waiting.remove(&gang).unwrap_or_default();
        waiting.remove(&pod.uid);
        let stop = |uid| Release {
            uid,
            rejected: Some("another pod of its gang gave its place back".to_owned()),
        };
        waiting.into_iter().map(stop).collect()
    }
}

capstan_sdk::export!(scheduler: permit => Gangs);
