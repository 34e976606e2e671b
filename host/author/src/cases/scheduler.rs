//! A pod to place on nodes, and what a scheduler policy says of each.
//!
//! The scheduler's own conversion and feed tell the policy of the cluster.

use capstan_points::scheduler::{Asks, Pod, Policy, Readiness};
use capstan_points::{Bits, Fault};
use capstan_scheduler::Rehearsal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Ask, Form};
use crate::rig::Rig;

/// A cluster and a pod, as manifests.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    pod: Value,
    nodes: Vec<Value>,
    /// Pods that run, each with `spec.nodeName`.
    #[serde(default)]
    pods: Vec<Value>,
    #[serde(default)]
    namespaces: Vec<Value>,
}

impl Question {
    pub(crate) fn prepare<'a>(&'a self, rig: &'a Rig) -> Result<Ask<'a>, String> {
        let seat = rig.host.scheduler_seats().borrow().first().cloned();
        let policy = seat.ok_or("no scheduler policy is loaded")?.policy;
        let mut cluster = Rehearsal::default();
        for namespace in &self.namespaces {
            cluster.namespace(&object("namespaces", namespace)?);
        }
        for node in &self.nodes {
            cluster.node(&object("nodes", node)?);
        }
        for pod in &self.pods {
            cluster.assigned(&object("pods", pod)?);
        }
        let pod = cluster.pending(&object("pod", &self.pod)?);
        Ok(Box::new(move |form| {
            cluster.level(&*policy)?;
            ask(&*policy, &cluster, &pod, form)
        }))
    }
}

fn object<T: DeserializeOwned>(field: &str, value: &Value) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|error| format!("{field}: {error}"))
}

fn ask(policy: &dyn Policy, cluster: &Rehearsal, pod: &Pod, form: Form) -> Result<Value, Fault> {
    let Asks {
        enqueue,
        filter,
        score,
        ..
    } = policy.asks();
    let mut answer = json!({});
    if enqueue {
        answer["enqueue"] = match policy.enqueue(pod)? {
            Readiness::Ready => json!("ready"),
            Readiness::Gated(reason) => json!({"gated": reason}),
        };
    }
    let mut feasible = cluster.nodes().clone();
    if filter {
        let rejections = policy.filter(pod, cluster.nodes())?;
        let mut rejected = json!({});
        for rejection in &rejections {
            feasible.subtract(&rejection.nodes);
            if form == Form::Shown {
                for name in cluster.names(&rejection.nodes).into_values() {
                    rejected[name] = json!({"reason": rejection.reason, "resolvable": rejection.resolvable});
                }
            }
        }
        answer["rejected"] = rejected;
    }
    let scores = match score {
        true => policy.score(pod, &feasible)?,
        false => Vec::new(),
    };
    if form == Form::Silent {
        return Ok(Value::Null);
    }
    let names: Vec<String> = names(cluster, &feasible);
    if score {
        let scores = names.iter().cloned().zip(scores.into_iter().map(Value::from));
        answer["scores"] = Value::Object(scores.collect());
    }
    answer["feasible"] = json!(names);
    Ok(answer)
}

fn names(cluster: &Rehearsal, nodes: &Bits) -> Vec<String> {
    cluster.names(nodes).into_values().collect()
}
