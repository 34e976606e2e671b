//! Taints and cordons against tolerations, and the score of taints that are preferences.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::scheduler::testing::Bench;
use scheduler_taints::Taints;
use serde_json::{Value, json};

fn cluster() -> Bench<Taints> {
    let mut bench = Bench::new(json!({}));
    bench.node(json!({"metadata": {"name": "plain"}}));
    bench.node(json!({"metadata": {"name": "cordoned"}, "spec": {"unschedulable": true}}));
    bench.node(json!({"metadata": {"name": "gpu"}, "spec": {"taints": [
        {"key": "gpu", "value": "yes", "effect": "NoSchedule"}, {"key": "soft", "effect": "PreferNoSchedule"},
    ]}}));
    bench.node(json!({"metadata": {"name": "soft"}, "spec": {"taints": [
        {"key": "soft", "effect": "PreferNoSchedule"}, {"key": "softer", "effect": "PreferNoSchedule"},
    ]}}));
    bench
}

fn pod(tolerations: Value) -> Value {
    json!({"spec": {"tolerations": tolerations}})
}

#[test]
fn nodes_are_ruled_out_by_taints_that_the_pod_does_not_tolerate() {
    let cordon =
        json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"});
    for (tolerations, feasible) in [
        (json!([]), vec!["plain", "soft"]),
        (json!([cordon]), vec!["cordoned", "plain", "soft"]),
        (
            json!([{"key": "gpu", "value": "yes"}]),
            vec!["gpu", "plain", "soft"],
        ),
        (json!([{"key": "gpu", "value": "no"}]), vec!["plain", "soft"]),
        (
            json!([{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]),
            vec!["plain", "soft"],
        ),
        (
            json!([{"operator": "Exists"}]),
            vec!["cordoned", "gpu", "plain", "soft"],
        ),
    ] {
        assert_eq!(
            cluster().feasible(pod(tolerations.clone())),
            feasible,
            "{tolerations}"
        );
    }
}

#[test]
fn reasons_are_the_original_texts() {
    let rejected = cluster().rejected(pod(json!([])));
    assert_eq!(rejected["gpu"], ["node(s) had untolerated taint {gpu: yes}"]);
    assert_eq!(rejected["cordoned"], ["node(s) were unschedulable"]);
}

#[test]
fn fewer_untolerated_preferences_score_higher() {
    let scores = cluster().scores(pod(json!([])));
    assert_eq!((scores["plain"], scores["gpu"], scores["soft"]), (100, 50, 0));
    let scores = cluster().scores(pod(json!([{"operator": "Exists"}])));
    assert_eq!((scores["plain"], scores["soft"]), (100, 100));
}
