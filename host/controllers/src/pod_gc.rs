//! Clears pods that nobody else will: those of nodes that are gone, those that were deleted before they had a
//! node, and ended ones beyond a threshold.
//!
//! A sweep, at every change of the set of nodes and now and then. Invariant: a node counts as gone only after
//! it was missing for [`QUARANTINE`] and a live read confirmed it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::error::{Error, Tolerate};
use crate::informers::Informers;
use crate::pod;
use crate::work::{Reconcile, wakes};

/// How long a node must be missing.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Pause between sweeps.
const SWEEP: Duration = Duration::from_secs(20);

pub(crate) struct PodGc {
    client: Client,
    informers: Informers,
    terminated_max: usize,
    missing: Mutex<HashMap<String, Instant>>,
}

#[derive(Debug, PartialEq)]
enum Change {
    /// Its node is gone.
    Orphan(Arc<Pod>),
    /// It ended, or was deleted before it had a node.
    Delete(Arc<Pod>),
}

fn plan(pods: &[Arc<Pod>], gone: &HashSet<String>, terminated_max: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut ended = Vec::new();
    for pod in pods {
        match pod::node(pod) {
            Some(node) if gone.contains(node) => changes.push(Change::Orphan(Arc::clone(pod))),
            None if pod::is_deleting(pod) => changes.push(Change::Delete(Arc::clone(pod))),
            _ if pod::is_finished(pod) && !pod::is_deleting(pod) => ended.push(pod),
            _ => {}
        }
    }
    let surplus = ended.len().saturating_sub(terminated_max);
    if surplus > 0 && terminated_max > 0 {
        ended.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        changes.extend(
            ended
                .into_iter()
                .take(surplus)
                .map(|pod| Change::Delete(Arc::clone(pod))),
        );
    }
    changes
}

impl PodGc {
    pub(crate) fn new(client: Client, informers: &Informers, terminated_max: usize) -> Self {
        Self {
            client,
            informers: informers.clone(),
            terminated_max,
            missing: Mutex::default(),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, ()>> {
        let stranded = |pod: &Pod| {
            if pod::is_deleting(pod) && pod::node(pod).is_none() {
                vec![()]
            } else {
                Vec::new()
            }
        };
        let nodes = self.informers.nodes.clone();
        let gone = move |node: &Node| {
            if nodes.get(None, &node.name_any()).is_none() {
                vec![()]
            } else {
                Vec::new()
            }
        };
        vec![
            stream::once(async {}).boxed(),
            wakes(&self.informers.nodes, gone, || vec![()]),
            wakes(&self.informers.pods, stranded, Vec::new),
        ]
    }

    /// Nodes that pods name and that are gone for long enough.
    async fn gone(&self, pods: &[Arc<Pod>]) -> Result<HashSet<String>, Error> {
        let missing_now: HashSet<String> = pods
            .iter()
            .filter_map(|pod| pod::node(pod))
            .filter(|name| self.informers.nodes.get(None, name).is_none())
            .map(str::to_owned)
            .collect();
        let suspects: Vec<String> = {
            let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            missing.retain(|name, _| missing_now.contains(name));
            for name in missing_now {
                missing.entry(name).or_insert_with(Instant::now);
            }
            missing
                .iter()
                .filter(|(_, since)| since.elapsed() >= QUARANTINE)
                .map(|(name, _)| name.clone())
                .collect()
        };
        let nodes: Api<Node> = Api::all(self.client.clone());
        let mut gone = HashSet::new();
        for name in suspects {
            if nodes.get_opt(&name).await?.is_none() {
                gone.insert(name);
            }
        }
        Ok(gone)
    }

    async fn act(&self, change: Change) -> Result<(), Error> {
        let (pod, orphan) = match change {
            Change::Orphan(pod) => (pod, true),
            Change::Delete(pod) => (pod, false),
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let name = pod.name_any();
        if orphan && !pod::is_finished(&pod) {
            let patch = json!({ "metadata": { "uid": pod.uid() }, "status": { "phase": "Failed", "conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": Time(Timestamp::now()),
            }]}});
            pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch))
                .await
                .or_gone()?;
        }
        let same = Preconditions {
            uid: pod.uid(),
            ..Default::default()
        };
        pods.delete(
            &name,
            &DeleteParams::default().grace_period(0).preconditions(same),
        )
        .await
        .or_gone()?;
        Ok(())
    }
}

impl Reconcile for PodGc {
    type Key = ();
    const NAME: &'static str = "pod-garbage-collector";

    async fn reconcile(&self, (): &()) -> Result<Option<Duration>, Error> {
        let pods = self.informers.pods.list();
        let gone = self.gone(&pods).await?;
        for change in plan(&pods, &gone, self.terminated_max) {
            self.act(change).await?;
        }
        Ok(Some(SWEEP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::from_value;

    #[test]
    fn who_is_cleared() {
        let pod = |name: &str, node: &str, phase: &str, deleting: bool| -> Arc<Pod> {
            let mut pod = json!({
                "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{}Z", &name[1..])},
                "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase},
            });
            if deleting {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            Arc::new(from_value(pod).unwrap())
        };
        let pods = [
            pod("p1", "here", "Running", false),
            pod("p2", "gone", "Running", false),
            pod("p3", "", "Pending", true),
            pod("p4", "here", "Succeeded", false),
            pod("p5", "here", "Failed", false),
        ];
        let gone = HashSet::from(["gone".to_owned()]);
        let said: Vec<_> = plan(&pods, &gone, 1)
            .into_iter()
            .map(|change| match change {
                Change::Orphan(pod) => format!("orphan {}", pod.name_any()),
                Change::Delete(pod) => format!("delete {}", pod.name_any()),
            })
            .collect();
        assert_eq!(said, ["orphan p2", "delete p3", "delete p4"]);
    }
}
