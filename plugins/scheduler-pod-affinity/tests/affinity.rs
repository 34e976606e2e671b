//! Pods near to and apart from others, in both directions.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::scheduler::testing::Bench;
use scheduler_pod_affinity::PodAffinity;
use serde_json::{Value, json};

fn cluster() -> Bench<PodAffinity> {
    let mut bench = Bench::new(json!({}));
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        bench.node(json!({"metadata": {"name": name, "labels": {"zone": zone, "host": name}}}));
    }
    bench
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

fn pod(app: &str, kind: &str, terms: Value) -> Value {
    json!({"metadata": {"name": app, "labels": {"app": app}}, "spec": {"affinity": {kind: terms}}})
}

fn required(app: &str, kind: &str, of: Value) -> Value {
    pod(
        app,
        kind,
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [of]}),
    )
}

#[test]
fn pods_go_near_those_they_need() {
    let mut bench = cluster();
    let web = required("web", "podAffinity", term("db", "zone"));
    let reason = "node(s) didn't match pod affinity rules";
    assert_eq!(bench.rejected(web.clone())["a1"], [reason]);
    bench.assign("a1", json!({"metadata": {"name": "db", "labels": {"app": "db"}}}));
    assert_eq!(bench.feasible(web.clone()), ["a1", "a2"]);
    bench.remove("db");
    assert_eq!(bench.feasible(web), Vec::<String>::new());
    let first_of_its_kind = required("web", "podAffinity", term("web", "zone"));
    assert_eq!(bench.feasible(first_of_its_kind), ["a1", "a2", "b1"]);
}

#[test]
fn anti_affinity_binds_both_the_new_pod_and_the_old() {
    let mut bench = cluster();
    bench.assign("a1", json!({"metadata": {"name": "db", "labels": {"app": "db"}}}));
    let picky = required("web", "podAntiAffinity", term("db", "zone"));
    assert_eq!(
        bench.rejected(picky.clone())["a2"],
        ["node(s) didn't match pod anti-affinity rules"]
    );
    assert_eq!(bench.feasible(picky.clone()), ["b1"]);
    bench.assign("b1", picky);
    let db = json!({"metadata": {"labels": {"app": "db"}}});
    assert_eq!(
        bench.rejected(db.clone())["b1"],
        ["node(s) didn't satisfy existing pods anti-affinity rules"]
    );
    assert_eq!(bench.feasible(db.clone()), ["a1", "a2"]);
    bench.remove("web");
    assert_eq!(bench.feasible(db), ["a1", "a2", "b1"]);
}

#[test]
fn terms_speak_of_namespaces_by_name_and_label() {
    let mut bench = cluster();
    bench.namespace("prod", json!({"env": "prod"}));
    bench.assign(
        "a1",
        json!({"metadata": {"name": "db", "namespace": "prod", "labels": {"app": "db"}}}),
    );
    let mut own = term("db", "host");
    assert_eq!(
        bench.feasible(required("web", "podAntiAffinity", own.clone())),
        ["a1", "a2", "b1"]
    );
    own["namespaceSelector"] = json!({"matchLabels": {"env": "prod"}});
    assert_eq!(
        bench.feasible(required("web", "podAntiAffinity", own.clone())),
        ["a2", "b1"]
    );
    bench.namespace("prod", json!({"env": "test"}));
    assert_eq!(
        bench.feasible(required("web", "podAntiAffinity", own)),
        ["a1", "a2", "b1"]
    );
}

#[test]
fn preferences_of_both_sides_score() {
    let mut bench = cluster();
    let preferred = |weight: i32, app: &str| {
        json!({"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": weight, "podAffinityTerm": term(app, "zone")}]})
    };
    bench.assign("a1", json!({"metadata": {"name": "db", "labels": {"app": "db"}}}));
    let scores = bench.scores(pod("web", "podAffinity", preferred(10, "db")));
    assert_eq!((scores["a1"], scores["a2"], scores["b1"]), (100, 100, 0));
    let scores = bench.scores(pod("web", "podAntiAffinity", preferred(10, "db")));
    assert_eq!((scores["a1"], scores["b1"]), (0, 100));
    bench.assign("b1", pod("shy", "podAntiAffinity", preferred(50, "cat")));
    let scores = bench.scores(json!({"metadata": {"labels": {"app": "cat"}}}));
    assert_eq!((scores["a1"], scores["b1"]), (100, 0));
}
