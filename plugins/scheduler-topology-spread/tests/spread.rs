//! Skews by zone and by node, hard and soft.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::scheduler::testing::Bench;
use scheduler_topology_spread::TopologySpread;
use serde_json::{Value, json};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

fn cluster() -> Bench<TopologySpread> {
    let mut bench = Bench::new(json!({}));
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")] {
        bench.node(json!({"metadata": {"name": name, "labels": {ZONE: zone, HOST: name}}}));
    }
    bench.node(json!({"metadata": {"name": "nowhere"}}));
    bench
}

fn web(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "web", "pod-template-hash": "x"}}})
}

fn spread(when: &str, extra: Value) -> Value {
    let mut constraint = json!({"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "web"}}});
    extra
        .as_object()
        .unwrap()
        .iter()
        .for_each(|(key, value)| constraint[key] = value.clone());
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": [constraint]}})
}

#[test]
fn the_skew_between_zones_is_kept() {
    let mut bench = cluster();
    let pod = spread("DoNotSchedule", json!({}));
    bench.assign("a1", web("1"));
    let rejected = bench.rejected(pod.clone());
    assert_eq!(
        rejected["a1"],
        ["node(s) didn't match pod topology spread constraints"]
    );
    assert_eq!(
        rejected["a2"],
        ["node(s) didn't match pod topology spread constraints"]
    );
    assert_eq!(
        rejected["nowhere"],
        ["node(s) didn't match pod topology spread constraints (missing required label)"]
    );
    assert_eq!(bench.feasible(pod.clone()), ["b1", "c1"]);
    bench.assign("b1", web("2"));
    bench.assign("c1", web("3"));
    assert_eq!(bench.feasible(pod.clone()), ["a1", "a2", "b1", "c1"]);
    bench.remove("2");
    assert_eq!(bench.feasible(pod), ["b1"]);
}

#[test]
fn missing_domains_and_left_out_nodes_count_as_configured() {
    let mut bench = cluster();
    bench.assign("a1", web("1"));
    bench.assign("b1", web("2"));
    bench.assign("c1", web("3"));
    assert_eq!(
        bench.feasible(spread("DoNotSchedule", json!({"minDomains": 4}))),
        Vec::<String>::new()
    );
    // Zone c is out of the pod's reach, so its count is no measure.
    bench.remove("3");
    let mut pod = spread("DoNotSchedule", json!({}));
    pod["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["a", "b"]}]}]}}});
    assert_eq!(bench.feasible(pod.clone()), ["a1", "a2", "b1", "c1"]);
    pod["spec"]["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = json!("Ignore");
    assert_eq!(bench.feasible(pod), ["c1"]);
}

#[test]
fn emptier_domains_score_higher() {
    let mut bench = cluster();
    bench.assign("a1", web("1"));
    bench.assign("a1", web("2"));
    bench.assign("b1", web("3"));
    let scores = bench.scores(spread("ScheduleAnyway", json!({})));
    assert!(
        scores["c1"] > scores["b1"] && scores["b1"] > scores["a1"] && scores["a1"] == scores["a2"],
        "{scores:?}"
    );
    assert_eq!((scores["c1"], scores["nowhere"]), (100, 0));
}

#[test]
fn pods_without_constraints_are_spread_softly_over_nodes_and_zones() {
    let mut bench = cluster();
    bench.assign("a1", web("1"));
    let scores = bench.scores(web("p"));
    assert!(
        scores["b1"] > scores["a2"] && scores["a2"] > scores["a1"],
        "{scores:?}"
    );
}
