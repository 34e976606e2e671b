//! Selectors and terms against nodes.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::scheduler::testing::Bench;
use scheduler_node_affinity::NodeAffinity;
use serde_json::{Value, json};

fn cluster() -> Bench<NodeAffinity> {
    let mut bench = Bench::new(json!({}));
    bench.node(json!({"metadata": {"name": "a", "labels": {"disk": "ssd", "cores": "16"}}}));
    bench.node(json!({"metadata": {"name": "b", "labels": {"disk": "hdd", "cores": "4"}}}));
    bench.node(json!({"metadata": {"name": "c"}}));
    bench
}

fn required(terms: Value) -> Value {
    json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}})
}

#[test]
fn nodes_must_match_selector_and_terms() {
    let expression = |key: &str, operator: &str, values: Value| {
        required(json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]))
    };
    for (pod, feasible) in [
        (json!({}), vec!["a", "b", "c"]),
        (json!({"spec": {"nodeSelector": {"disk": "ssd"}}}), vec!["a"]),
        (json!({"spec": {"nodeSelector": {"nowhere": "x"}}}), vec![]),
        (expression("disk", "In", json!(["ssd", "hdd"])), vec!["a", "b"]),
        (expression("disk", "NotIn", json!(["ssd"])), vec!["b", "c"]),
        (expression("disk", "Exists", json!([])), vec!["a", "b"]),
        (expression("disk", "DoesNotExist", json!([])), vec!["c"]),
        (expression("cores", "Gt", json!(["8"])), vec!["a"]),
        (expression("cores", "Lt", json!(["8"])), vec!["b"]),
        (required(json!([{}])), vec![]),
        (
            required(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["c"]}]}])),
            vec!["c"],
        ),
    ] {
        assert_eq!(cluster().feasible(pod.clone()), feasible, "{pod}");
    }
    let rejected = cluster().rejected(json!({"spec": {"nodeSelector": {"disk": "ssd"}}}));
    assert_eq!(
        rejected["b"],
        ["node(s) didn't match Pod's node affinity/selector"]
    );
}

#[test]
fn preferences_add_up_and_labels_that_change_are_seen() {
    let term = |weight: i32, value: &str| {
        json!({"weight": weight, "preference": {"matchExpressions": [
        {"key": "disk", "operator": "In", "values": [value]}]}})
    };
    let pod = json!({"spec": {"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [term(80, "ssd"), term(20, "hdd")]}}}});
    let mut bench = cluster();
    let scores = bench.scores(pod.clone());
    assert_eq!((scores["a"], scores["b"], scores["c"]), (100, 25, 0));
    bench.node(json!({"metadata": {"name": "c", "labels": {"disk": "ssd"}}}));
    assert_eq!(bench.scores(pod)["c"], 100);
}
