//! Carries out one action on a node. What changes the node and its record of the remedy is one write.

use capstan_points::remedy::Action;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{EvictParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::history::effect_name;
use crate::error::{Error, Tolerate, is};
use crate::owner::controller_of;
use crate::pod;

/// Attempts at a write that others raced with.
const ATTEMPTS_MAX: usize = 5;

/// Pods that the action would ask to go: all but daemons' and those that the node runs by itself.
pub(crate) fn drainable(pod: &Pod) -> bool {
    let daemon = controller_of(&pod.metadata).is_some_and(|owner| owner.kind == "DaemonSet");
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    !daemon && !mirror && !pod::is_deleting(pod) && !pod::is_finished(pod)
}

/// What the action changes in the node's spec.
fn spec(node: &Node, action: &Action) -> Value {
    let before = || {
        node.spec
            .as_ref()
            .and_then(|spec| spec.taints.clone())
            .unwrap_or_default()
    };
    match action {
        Action::Cordon => json!({ "unschedulable": true }),
        Action::Uncordon => json!({ "unschedulable": null }),
        Action::Taint(taint) => {
            let effect = effect_name(taint.effect);
            let mut taints = before();
            taints.retain(|other| !(other.key == taint.key && other.effect == effect));
            taints.push(Taint {
                key: taint.key.clone(),
                value: Some(taint.value.clone()).filter(|value| !value.is_empty()),
                effect: effect.to_owned(),
                time_added: Some(Time(Timestamp::now())),
            });
            json!({ "taints": taints })
        }
        Action::Untaint(taint) => {
            let effect = effect_name(taint.effect);
            let mut taints = before();
            taints.retain(|other| !(other.key == taint.key && other.effect == effect));
            if taints.is_empty() {
                json!({ "taints": null })
            } else {
                json!({ "taints": taints })
            }
        }
        Action::Drain => json!({}),
    }
}

/// Changes the node, and writes `record` into its annotation `name`.
pub(crate) async fn change_node(
    client: &Client,
    node: &str,
    action: Option<&Action>,
    annotation: (&str, &str),
) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut attempt = 0;
    loop {
        attempt += 1;
        let Some(fresh) = nodes.get_opt(node).await? else {
            return Ok(());
        };
        let patch = json!({
            "metadata": {
                "resourceVersion": fresh.resource_version(),
                "annotations": { annotation.0: annotation.1 },
            },
            "spec": action.map_or_else(|| json!({}), |action| spec(&fresh, action)),
        });
        match nodes
            .patch(node, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .or_gone()
        {
            Ok(_) => return Ok(()),
            Err(error) if is(&error, 409) && attempt < ATTEMPTS_MAX => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks every pod to go; fails when one may not.
pub(crate) async fn drain(client: &Client, pods: &[std::sync::Arc<Pod>]) -> Result<(), Error> {
    let mut failures = Vec::new();
    for pod in pods {
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        if let Err(error) = api
            .evict(&pod.name_any(), &EvictParams::default())
            .await
            .or_gone()
        {
            failures.push(error);
        }
    }
    let failed = failures.len();
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Error::Batch {
            failed,
            asked: pods.len(),
            first,
        }),
    }
}
