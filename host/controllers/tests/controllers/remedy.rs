//! A remedy: acts within its budget, and undoes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use capstan_points::remedy::{Action, Case, ConditionStatus, Decision, Remedy, Taint, TaintEffect};
use capstan_points::{FailurePolicy, Fault, Seat};
use k8s_openapi::api::core::v1::{Event, Node};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{from_value, json};

use crate::cluster::Cluster;

/// Taints a node while a condition is true.
struct Rule {
    asked: Mutex<Vec<Case>>,
}

impl Remedy for Rule {
    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get("care").map(String::as_str) == Some("yes")
    }

    fn budget(&self) -> u32 {
        1
    }

    fn decide(&self, case: &Case) -> Result<Vec<Decision>, Fault> {
        self.asked.lock().unwrap().push(case.clone());
        let sick = case
            .conditions
            .iter()
            .any(|c| c.type_name == "KernelDeadlock" && c.status == ConditionStatus::True);
        let taint = Taint {
            key: "sick".into(),
            value: "kernel".into(),
            effect: TaintEffect::NoSchedule,
        };
        let tainted = case.node.taints.iter().any(|taint| taint.key == "sick");
        let action = match (sick, tainted) {
            (true, false) => Action::Taint(taint),
            (false, true) => Action::Untaint(taint),
            _ => return Ok(Vec::new()),
        };
        Ok(vec![Decision {
            action,
            reason: "the kernel hangs".into(),
        }])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remedy_acts_within_its_budget_and_undoes() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    for name in ["a", "b"] {
        let node = json!({"metadata": {"name": name, "labels": {"care": "yes"}}});
        nodes
            .create(&PostParams::default(), &from_value(node).unwrap())
            .await
            .unwrap();
    }
    let rule = Arc::new(Rule {
        asked: Mutex::default(),
    });
    cluster.remedies.replace(vec![Seat {
        plugin: "rule".into(),
        revision: 1,
        failure_policy: FailurePolicy::Fail,
        policy: rule.clone(),
    }]);
    let condition = async |node: &str, status: &str| {
        let conditions = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            {"type": "KernelDeadlock", "status": status, "reason": "Hung"}]}});
        nodes
            .patch_status(node, &PatchParams::default(), &Patch::Strategic(&conditions))
            .await
            .unwrap();
    };
    let tainted = |want: [bool; 2]| {
        cluster.eventually("taints", move |client| async move {
            let nodes: Api<Node> = Api::all(client);
            let mut have = Vec::new();
            for name in ["a", "b"] {
                let taints = nodes
                    .get(name)
                    .await
                    .unwrap()
                    .spec
                    .and_then(|spec| spec.taints)
                    .unwrap_or_default();
                have.push(taints.iter().any(|taint| taint.key == "sick"));
            }
            if have == want {
                Ok(())
            } else {
                Err(format!("{have:?}"))
            }
        })
    };
    condition("a", "True").await;
    tainted([true, false]).await;
    condition("b", "True").await;
    cluster
        .eventually("over budget", |client| async move {
            let events: Api<Event> = Api::namespaced(client, "default");
            let events = events.list(&ListParams::default()).await.unwrap().items;
            let said = |event: &&Event| {
                event.reason.as_deref() == Some("RemedyOverBudget")
                    && event.involved_object.name.as_deref() == Some("b")
            };
            if events.iter().any(|event| said(&event)) {
                Ok(())
            } else {
                Err(format!("{events:?}"))
            }
        })
        .await;
    tainted([true, false]).await;
    condition("a", "False").await;
    // The budget is free again: the other node is asked about at once.
    tainted([false, true]).await;
    let history = nodes.get("a").await.unwrap().annotations()["remedy.capstan.dev/rule"].clone();
    assert!(
        history.contains("\"taint\"") && history.contains("\"untaint\""),
        "{history}"
    );
    assert!(
        rule.asked
            .lock()
            .unwrap()
            .iter()
            .any(|case| !case.history.is_empty())
    );
    cluster.stop().await;
}
