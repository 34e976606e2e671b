//! What fits where, and which node is emptier or more even.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::scheduler::testing::Bench;
use scheduler_resources::Resources;
use serde_json::{Value, json};

fn node(name: &str, cpu: &str, memory: &str, pods: u32) -> Value {
    json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": pods}}})
}

fn pod(name: &str, requests: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"resources": {"requests": requests}}]}})
}

#[test]
fn what_is_requested_must_be_free() {
    let mut bench = Bench::<Resources>::new(json!({}));
    bench.node(node("big", "8", "16Gi", 110));
    bench.node(node("small", "1", "1Gi", 110));
    bench.node(node("crowded", "8", "16Gi", 1));
    bench.assign("crowded", pod("there", json!({"cpu": "7"})));
    let rejected = bench.rejected(pod("p", json!({"cpu": "2", "memory": "2Gi"})));
    assert_eq!(rejected["small"], ["Insufficient cpu", "Insufficient memory"]);
    assert_eq!(rejected["crowded"], ["Too many pods", "Insufficient cpu"]);
    assert!(!rejected.contains_key("big"));
    bench.remove("there");
    assert_eq!(
        bench.feasible(pod("p", json!({"cpu": "2", "memory": "2Gi"}))),
        ["big", "crowded"]
    );
    assert_eq!(
        bench.rejected(pod("p", json!({"example.com/gpu": 1})))["big"],
        ["Insufficient example.com/gpu"]
    );
}

#[test]
fn emptier_nodes_score_higher_or_lower_as_configured() {
    for (strategy, empty, half) in [("LeastAllocated", 90, 40), ("MostAllocated", 10, 60)] {
        let mut bench = Bench::<Resources>::new(json!({"strategy": strategy, "balance": false}));
        bench.node(node("empty", "10", "10Gi", 110));
        bench.node(node("half", "10", "10Gi", 110));
        bench.assign("half", pod("there", json!({"cpu": "5", "memory": "5Gi"})));
        let scores = bench.scores(pod("p", json!({"cpu": "1", "memory": "1Gi"})));
        assert_eq!((scores["empty"], scores["half"]), (empty, half), "{strategy}");
    }
}

#[test]
fn even_use_scores_too() {
    let mut bench = Bench::<Resources>::new(json!({}));
    bench.node(node("even", "10", "10Gi", 110));
    bench.node(node("uneven", "10", "10Gi", 110));
    bench.assign("even", pod("a", json!({"cpu": "3", "memory": "3Gi"})));
    bench.assign("uneven", pod("b", json!({"cpu": "6", "memory": "0"})));
    let scores = bench.scores(pod("p", json!({"cpu": "1", "memory": "1Gi"})));
    // Both are used to two fifths on the mean; the even one deviates by nothing, the other by 30 %.
    assert_eq!(scores["even"], (60 + 100) / 2);
    assert_eq!(scores["uneven"], (60 + 70) / 2);
}
