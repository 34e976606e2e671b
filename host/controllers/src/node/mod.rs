//! Watches over nodes: a silent one becomes `Unknown`, conditions become taints, `NoExecute` taints drive pods
//! away, and pods of a node that is not ready stop being ready.
//!
//! Invariants: silence is measured by our own clock from when we last saw the lease move, so that clocks may
//! differ and a restart of ours is not taken for theirs; while every node is silent, none is emptied: more
//! likely it is us. Keyed by node. The decisions are in `taints` and in [`plan`].

pub(crate) mod taints;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use self::taints::{Stay, condition, stay, taints};
use crate::error::{Error, Tolerate};
use crate::event::Recorder;
use crate::informers::Informers;
use crate::pod;
use crate::work::{Key, Reconcile, keys_of, wakes};

/// Conditions that a silent node no longer vouches for.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub(crate) struct Nodes {
    client: Client,
    informers: Informers,
    events: Recorder,
    grace: Duration,
    /// The last renewal of each node's lease, and when by our clock we saw it.
    heard: Mutex<HashMap<String, (Option<MicroTime>, Instant)>>,
}

#[derive(Debug, PartialEq)]
enum Change {
    Conditions(Vec<NodeCondition>),
    Taints(Vec<Taint>),
    Unready(Arc<Pod>),
    Evict(Arc<Pod>),
}

struct Snapshot<'a> {
    node: &'a Node,
    pods: Vec<Arc<Pod>>,
    silent: bool,
    /// No node of the cluster is ready.
    all_silent: bool,
    now: Timestamp,
}

fn plan(seen: &Snapshot<'_>) -> (Vec<Change>, Option<Duration>) {
    let mut changes = Vec::new();
    let mut node = seen.node.clone();
    if seen.silent {
        let conditions = unknown(&node, seen.now);
        let status = node.status.get_or_insert_with(Default::default);
        if status.conditions.as_ref() != Some(&conditions) {
            status.conditions = Some(conditions.clone());
            changes.push(Change::Conditions(conditions));
        }
    }
    let before = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let wanted = taints(&node, !seen.all_silent, seen.now);
    if wanted != before {
        changes.push(Change::Taints(wanted.clone()));
    }
    let ready = condition(&node, "Ready") == Some("True");
    let mut next: Option<Duration> = None;
    for pod in seen.pods.iter().filter(|pod| !pod::is_finished(pod)) {
        if !ready && condition(&node, "Ready").is_some() && pod::is_ready(pod) {
            changes.push(Change::Unready(Arc::clone(pod)));
        }
        if pod::is_deleting(pod) {
            continue;
        }
        match stay(pod, &wanted, seen.now) {
            Stay::Forever => {}
            Stay::For(left) => next = Some(next.map_or(left, |next| next.min(left))),
            Stay::Go => changes.push(Change::Evict(Arc::clone(pod))),
        }
    }
    (changes, next)
}

fn unknown(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let mut conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    for type_ in VOUCHED {
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    conditions
}

impl Nodes {
    pub(crate) fn new(client: Client, informers: &Informers, events: &Recorder, grace: Duration) -> Self {
        let events = events.named("node-controller");
        Self {
            client,
            informers: informers.clone(),
            events,
            grace,
            heard: Mutex::default(),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let all = || keys_of(&self.informers.nodes);
        let (nodes, pod_nodes) = (self.informers.nodes.clone(), self.informers.nodes.clone());
        // A lease only matters at once when its node was given up; otherwise the timer looks at it.
        let of_lease = move |lease: &Lease| {
            let name = lease.name_any();
            let lost = nodes
                .get(None, &name)
                .is_some_and(|node| condition(&node, "Ready") == Some("Unknown"));
            if lost {
                vec![Key::new("", name)]
            } else {
                Vec::new()
            }
        };
        let of_pod = move |pod: &Pod| {
            let node = pod::node(pod).and_then(|name| pod_nodes.get(None, name));
            let tainted = |node: &Node| {
                node.spec
                    .iter()
                    .flat_map(|spec| spec.taints.iter().flatten())
                    .any(|taint| taint.effect == "NoExecute")
            };
            node.filter(|node| tainted(node))
                .map(|node| Key::of(node.as_ref()))
                .into_iter()
                .collect()
        };
        vec![
            wakes(&self.informers.nodes, |node| vec![Key::of(node)], all()),
            wakes(&self.informers.leases, of_lease, Vec::new),
            wakes(&self.informers.pods, of_pod, all()),
        ]
    }

    /// How long the node may still be silent; `None` when it was for too long.
    fn patience(&self, name: &str) -> Option<Duration> {
        let lease = self.informers.leases.get(Some("kube-node-lease"), name);
        let renewed = lease.and_then(|lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone()));
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let entry = heard
            .entry(name.to_owned())
            .or_insert_with(|| (renewed.clone(), now));
        if entry.0 != renewed {
            *entry = (renewed, now);
        }
        self.grace
            .checked_sub(now.duration_since(entry.1))
            .filter(|left| !left.is_zero())
    }

    async fn act(&self, node: &Node, change: Change) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let name = node.name_any();
        match change {
            Change::Conditions(conditions) => {
                let mut changed = node.clone();
                changed.status.get_or_insert_with(Default::default).conditions = Some(conditions);
                nodes
                    .replace_status(&name, &PostParams::default(), &changed)
                    .await
                    .or_gone()?;
                let message = format!("Node {name} status is now: NodeNotReady");
                self.events.normal(node, "NodeNotReady", message);
            }
            Change::Taints(taints) => {
                // Bound to the version, but for our own change of the status just before.
                let fresh = nodes.get(&name).await?;
                if fresh.spec.as_ref().and_then(|spec| spec.taints.as_ref())
                    != node.spec.as_ref().and_then(|spec| spec.taints.as_ref())
                {
                    return Ok(());
                }
                let taints = if taints.is_empty() {
                    serde_json::Value::Null
                } else {
                    json!(taints)
                };
                let patch = json!({
                    "metadata": { "resourceVersion": fresh.resource_version() },
                    "spec": { "taints": taints },
                });
                nodes
                    .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await
                    .or_gone()?;
            }
            Change::Unready(pod) => {
                let condition = PodCondition {
                    type_: "Ready".to_owned(),
                    status: "False".to_owned(),
                    reason: Some("NodeNotReady".to_owned()),
                    last_transition_time: Some(Time(Timestamp::now())),
                    ..Default::default()
                };
                self.patch_condition(&pod, condition).await?;
                self.events
                    .warning(pod.as_ref(), "NodeNotReady", "Node is not ready".to_owned());
            }
            Change::Evict(pod) => {
                let condition = PodCondition {
                    type_: "DisruptionTarget".to_owned(),
                    status: "True".to_owned(),
                    reason: Some("DeletionByTaintManager".to_owned()),
                    message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
                    last_transition_time: Some(Time(Timestamp::now())),
                    ..Default::default()
                };
                self.patch_condition(&pod, condition).await?;
                let key = Key::of(pod.as_ref());
                self.events.normal(
                    pod.as_ref(),
                    "TaintManagerEviction",
                    format!("Marking for deletion Pod {key}"),
                );
                let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
                let same = Preconditions {
                    uid: pod.uid(),
                    ..Default::default()
                };
                pods.delete(&key.name, &DeleteParams::default().preconditions(same))
                    .await
                    .or_gone()?;
            }
        }
        Ok(())
    }

    async fn patch_condition(&self, pod: &Pod, condition: PodCondition) -> Result<(), Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = json!({ "metadata": { "uid": pod.uid() }, "status": { "conditions": [condition] } });
        pods.patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(&patch),
        )
        .await
        .or_gone()?;
        Ok(())
    }
}

impl Reconcile for Nodes {
    type Key = Key;
    const NAME: &'static str = "node-lifecycle";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(node) = self.informers.nodes.get(None, &key.name) else {
            self.heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key.name);
            return Ok(None);
        };
        let patience = self.patience(&key.name);
        let pods = self.informers.pods.indexed(&key.name);
        let all_silent = !self
            .informers
            .nodes
            .list()
            .iter()
            .any(|node| condition(node, "Ready") == Some("True"));
        let seen = Snapshot {
            node: &node,
            pods,
            silent: patience.is_none(),
            all_silent,
            now: Timestamp::now(),
        };
        let (changes, next) = plan(&seen);
        for change in changes {
            self.act(&node, change).await?;
        }
        let look = patience.unwrap_or(self.grace);
        Ok(Some(
            next.map_or(look, |next| next.min(look)) + Duration::from_millis(1),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::from_value;

    #[test]
    fn a_silent_node_is_given_up_and_its_pods_go() {
        let node: Node = from_value(json!({
            "metadata": {"name": "n"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        let pod: Arc<Pod> = Arc::new(
            from_value(json!({
                "metadata": {"name": "p", "namespace": "a"},
                "spec": {"nodeName": "n", "containers": []},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
            }))
            .unwrap(),
        );
        let seen = |silent, all_silent| Snapshot {
            node: &node,
            pods: vec![Arc::clone(&pod)],
            silent,
            all_silent,
            now: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(plan(&seen(false, false)), (vec![], None));
        let (changes, _) = plan(&seen(true, false));
        let [
            Change::Conditions(conditions),
            Change::Taints(taints),
            Change::Unready(_),
            Change::Evict(_),
        ] = &changes[..]
        else {
            panic!("{changes:?}")
        };
        assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
        assert_eq!((conditions.len(), taints.len()), (4, 2));
        let (changes, _) = plan(&seen(true, true));
        assert!(
            !changes.iter().any(|change| matches!(change, Change::Evict(_))),
            "all silent: {changes:?}"
        );
    }
}
