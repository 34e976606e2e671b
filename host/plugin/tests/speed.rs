//! What a call costs: run with `--ignored --nocapture`. Prints, never asserts on seconds.

mod review;
#[path = "../../../tests/fixtures/bad-plugins/wrap.rs"]
mod wrap;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use capstan_plugin::{Host, Options};
use capstan_points::Bits;
use capstan_points::scheduler::{Delta, Label, Node, Pod, Policy, Taint, TaintEffect};
use serde_json::json;

const NODES: u32 = 5_000;

fn timed<R>(what: &str, count: u32, mut call: impl FnMut() -> R) {
    let started = Instant::now();
    for _ in 0..count {
        call();
    }
    println!(
        "{what}: {:.1} µs",
        started.elapsed().as_secs_f64() * 1e6 / f64::from(count)
    );
}

#[test]
#[ignore = "prints timings; needs components built by `cargo xtask components`"]
fn five_thousand_nodes() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/components");
    for name in [
        "scheduler-taints",
        "scheduler-resources",
        "scheduler-topology-spread",
    ] {
        let Ok(bytes) = std::fs::read(root.join(name).with_extension("wasm")) else {
            println!("{name} is not built");
            continue;
        };
        println!("== {name}, {} bytes", bytes.len());
        let folder = tempfile::tempdir().expect("a folder");
        let open = || {
            let bundled = [(name.to_owned(), Cow::Owned(bytes.clone()))].into();
            Host::open(Options {
                cache_dir: folder.path().into(),
                bundled,
                name: "bench".into(),
                ..Default::default()
            })
            .expect("opens")
        };
        let manifest = json!({"metadata": {"name": name}, "spec": {"source": {"bundled": name}}});
        let plugin = serde_json::from_value(manifest).expect("a manifest");
        let host = open();
        timed("load, cold", 1, || host.load(&plugin).map(drop).expect("loads"));
        let host = open();
        timed("load, cached", 1, || host.load(&plugin).map(drop).expect("loads"));
        let row = host.scheduler_seats().borrow().clone();
        let policy: &dyn Policy = &*row[0].policy;
        feed(policy);
        let (pod, candidates) = (Pod::default(), Bits::all_below(NODES as usize));
        if policy.asks().filter {
            timed("filter, 5,000 nodes", 500, || {
                policy.filter(&pod, &candidates).expect("filters")
            });
            let one = Bits::all_below(1);
            timed("filter, 1 node", 5_000, || {
                policy.filter(&pod, &one).expect("filters")
            });
        }
        if policy.asks().score {
            timed("score, 5,000 nodes", 500, || {
                policy.score(&pod, &candidates).expect("scores")
            });
        }
    }
}

fn feed(policy: &dyn Policy) {
    let texts: Vec<String> = (0..NODES + 10).map(|n| format!("s{n}")).collect();
    let mut deltas = vec![Delta::Symbols { first: 1, texts }];
    deltas.extend((0..NODES).map(|id| {
        let taint = Taint {
            key: 1,
            value: 2,
            effect: TaintEffect::NoSchedule,
        };
        let taints = if id % 10 == 0 { vec![taint] } else { Vec::new() };
        let labels = (1..8)
            .map(|key| Label {
                key,
                value: id % 7 + 1,
            })
            .collect();
        Delta::NodeUpserted(Node {
            id,
            name: id + 1,
            labels,
            taints,
            ..Node::default()
        })
    }));
    let started = Instant::now();
    policy.apply(1, true, &deltas).expect("applies");
    println!(
        "apply, 5,000 nodes: {:.1} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
}

#[tokio::test]
#[ignore = "prints timings"]
async fn one_review() {
    let folder = tempfile::tempdir().expect("a folder");
    let name = "denies-host-network".to_owned();
    let bundled = [(name.clone(), Cow::Owned(wrap::fixture(&name)))].into();
    let host = Host::open(Options {
        cache_dir: folder.path().into(),
        bundled,
        name: "bench".into(),
        ..Default::default()
    })
    .expect("opens");
    let rule = json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]});
    let spec = json!({"source": {"bundled": name}, "bind": {"admission": {"rules": [rule]}}});
    let plugin =
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a manifest");
    host.load(&plugin).expect("loads");
    let row = host.admission_seats().borrow().clone();
    let review = review::review(json!({"spec": {"hostNetwork": true}}), None);
    let mut micros = Vec::new();
    for _ in 0..2_000 {
        let started = Instant::now();
        row[0]
            .policy
            .validate(Arc::clone(&review))
            .await
            .expect("answers");
        micros.push(started.elapsed().as_micros());
    }
    micros.sort_unstable();
    let report = host.report(&plugin.metadata.name).expect("known").host;
    println!(
        "validate: median {} µs, p99 {} µs; the call alone: p50 {} µs, p99 {} µs",
        micros[1_000], micros[1_980], report.p50_micros, report.p99_micros
    );
}
