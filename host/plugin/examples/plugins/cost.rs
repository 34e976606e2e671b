//! What policies cost while all is well: a decision, seventeen of them, a load, an idle one's memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_plugin::Host;
use capstan_points::admission::{Review, Verdict};
use serde_json::{Value, json};

use crate::Options;
use crate::attacks::every_request;
use crate::measure::{Table, host, memory_bytes, micros, plugin};
use crate::review::review;

/// The library's admission policies with a configuration under which the bench's pod passes.
const POLICIES: [(&str, &str); 8] = [
    (
        "admission-image-policy",
        r#"{"allowedRegistries": ["docker.io"], "denyTags": ["latest"]}"#,
    ),
    ("admission-labels", r#"{"required": [{"key": "app"}]}"#),
    ("admission-limits", r#"{"require": {"requests": ["cpu"]}}"#),
    (
        "admission-pod-security",
        r#"{"defaults": {"enforce": "baseline"}}"#,
    ),
    ("admission-replicas", "{}"),
    ("admission-host-access", r#"{"hostPaths": {}, "hostPorts": {}}"#),
    ("admission-env-secrets", "{}"),
    ("admission-ingress", r#"{"classes": ["nginx"]}"#),
];
const SEVENTEEN: usize = 17;
const WARM_UP: usize = 200;

fn pod() -> Arc<Review> {
    let container = json!({
        "name": "main",
        "image": "docker.io/library/nginx:1.29",
        "resources": {"requests": {"cpu": "100m"}},
        "env": [{"name": "LOG_LEVEL", "value": "info"}],
    });
    let metadata = json!({"name": "p", "namespace": "default", "labels": {"app": "web"}});
    review(
        json!({"metadata": metadata, "spec": {"containers": [container]}}),
        None,
    )
}

pub(crate) fn spec(component: &str, config: &str) -> Value {
    let config: Value = serde_json::from_str(config).expect("a configuration");
    let granted = json!([{"name": "kube-read", "resources": ["ingresses.networking.k8s.io"]}]);
    let bind = json!({"admission": {"rules": [every_request()]}});
    json!({"source": {"bundled": component}, "config": config, "bind": bind, "capabilities": granted})
}

fn components(options: &Options) -> Vec<(String, Vec<u8>)> {
    let read = |name: &str| {
        let path = options.components.join(name).with_extension("wasm");
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    POLICIES
        .iter()
        .map(|(name, _)| ((*name).to_owned(), read(name)))
        .collect()
}

pub(crate) async fn measure(options: &Options, table: &mut Table) {
    let components = components(options);
    let folder = tempfile::tempdir().expect("a folder");
    loads(&components, folder.path(), table);
    let bench = host(folder.path(), &components);
    one_decision(options, &bench, table).await;
    seventeen(options, &bench, table).await;
    drop(bench);
    idle(&components, folder.path(), table);
}

/// Cold is first, so that the cache is warm for all that follows.
fn loads(components: &[(String, Vec<u8>)], folder: &std::path::Path, table: &mut Table) {
    for (what, goal) in [
        ("load, cold", None),
        ("load, from the compile cache", Some(5_000.0)),
    ] {
        let bench = host(folder, components);
        let load = |(name, config): &(&str, &str)| {
            let started = Instant::now();
            bench.load(&plugin(name, spec(name, config))).expect("loads");
            started.elapsed()
        };
        let mut times: Vec<Duration> = POLICIES.iter().map(load).collect();
        table.row(
            &format!("{what}, median of {} policies", times.len()),
            micros(&mut times, 0.5),
            "µs",
            goal,
        );
        table.row(&format!("{what}, slowest"), micros(&mut times, 1.0), "µs", goal);
    }
}

async fn one_decision(options: &Options, bench: &Arc<Host>, table: &mut Table) {
    for (name, config) in POLICIES {
        bench.load(&plugin("one", spec(name, config))).expect("loads");
        let seats = bench.admission_seats();
        let policy = Arc::clone(&seats.borrow()[0].policy);
        let mut times = Vec::new();
        for at in 0..WARM_UP + options.count(5_000) {
            let review = pod();
            let started = Instant::now();
            let verdict = policy.validate(review).await.expect("it answers");
            assert!(matches!(verdict, Verdict::Allow(_)), "{name}: {verdict:?}");
            if at >= WARM_UP {
                times.push(started.elapsed());
            }
        }
        let calls = bench.report("one").expect("known").host;
        let goal = (name == "admission-image-policy").then_some(20.0);
        table.row(
            &format!("{name}: a decision, median"),
            micros(&mut times, 0.5),
            "µs",
            None,
        );
        table.row(
            &format!("{name}: a decision, p99"),
            micros(&mut times, 0.99),
            "µs",
            None,
        );
        table.row(
            &format!("{name}: the guest's call alone, median"),
            calls.p50_micros as f64,
            "µs",
            goal,
        );
        bench.unload("one");
    }
}

/// As the API server asks them: each in its turn.
async fn seventeen(options: &Options, bench: &Arc<Host>, table: &mut Table) {
    for at in 0..SEVENTEEN {
        let (name, config) = POLICIES[at % POLICIES.len()];
        bench
            .load(&plugin(&format!("policy-{at}"), spec(name, config)))
            .expect("loads");
    }
    let row = bench.admission_seats().borrow().clone();
    let mut times = Vec::new();
    for at in 0..WARM_UP + options.count(3_000) {
        let review = pod();
        let started = Instant::now();
        for seat in row.iter() {
            let verdict = seat
                .policy
                .validate(Arc::clone(&review))
                .await
                .expect("it answers");
            assert!(
                matches!(verdict, Verdict::Allow(_)),
                "{}: {verdict:?}",
                seat.plugin
            );
        }
        if at >= WARM_UP {
            times.push(started.elapsed());
        }
    }
    table.row(
        "17 policies on one create, median",
        micros(&mut times, 0.5),
        "µs",
        None,
    );
    table.row(
        "17 policies on one create, p99",
        micros(&mut times, 0.99),
        "µs",
        Some(1_000.0),
    );
    (0..SEVENTEEN).for_each(|at| bench.unload(&format!("policy-{at}")));
}

/// Private memory that each further policy adds, each another component, its code from the cache.
fn idle(components: &[(String, Vec<u8>)], folder: &std::path::Path, table: &mut Table) {
    let bench = host(folder, components);
    let (first, rest) = POLICIES.split_first().expect("there are some");
    bench
        .load(&plugin(first.0, spec(first.0, first.1)))
        .expect("loads");
    let before = memory_bytes();
    for (name, config) in rest {
        bench.load(&plugin(name, spec(name, config))).expect("loads");
    }
    let each = (memory_bytes() - before) / rest.len() as f64;
    table.row("memory of an idle policy", each / 1e6, "MB", Some(2.0));
}
