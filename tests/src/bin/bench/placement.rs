//! Filter and score of 5,000 nodes: each default policy as a component in the plugin host, against the same
//! code compiled natively, call by call in turn.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use capstan_points::Bits;
use capstan_points::scheduler as point;
use capstan_sdk::Plugin as _;
use capstan_sdk::scheduler::{self as guest, Filter, NodeSet, Runner, Score};

use crate::figure::{Figure, median};

const NODES: u32 = 5_000;
const ZONES: u32 = 3;

/// The texts behind the symbols that both sides are told.
const TEXTS: [&str; 10] = [
    "",
    "cpu",
    "memory",
    "pods",
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "default",
    "app",
    "web",
    "team",
];

fn symbol(text: &str) -> u32 {
    TEXTS.iter().position(|one| *one == text).unwrap_or(0) as u32
}

pub(crate) fn measure(calls: usize) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let mut totals = (0.0, 0.0);
    let mut figures = Vec::new();
    let mut add = |name: &str, (wasm, native): (f64, f64)| {
        totals = (totals.0 + wasm, totals.1 + native);
        figures.push(Figure::new(format!("{name}: Wasm, 5,000 nodes"), wasm, "µs"));
        figures.push(Figure::new(
            format!("{name}: Wasm / native ({native:.0} µs)"),
            wasm / native,
            "ratio",
        ));
    };
    let native = scheduler_resources::Resources::new(Default::default()).map_err(fault)?;
    add(
        "resources",
        compare("scheduler-resources", native, folder.path(), calls)?,
    );
    let native = scheduler_taints::Taints::new(Default::default()).map_err(fault)?;
    add(
        "taints",
        compare("scheduler-taints", native, folder.path(), calls)?,
    );
    let native = scheduler_node_affinity::NodeAffinity::new(Default::default()).map_err(fault)?;
    add(
        "node affinity",
        compare("scheduler-node-affinity", native, folder.path(), calls)?,
    );
    let native = scheduler_topology_spread::TopologySpread::new(Default::default()).map_err(fault)?;
    add(
        "topology spread",
        compare("scheduler-topology-spread", native, folder.path(), calls)?,
    );
    figures.push(
        Figure::new(
            "filter and score, all together: Wasm / native",
            totals.0 / totals.1,
            "ratio",
        )
        .goal(1.5),
    );
    Ok(figures)
}

fn fault(fault: capstan_sdk::Fault) -> anyhow::Error {
    anyhow::anyhow!("{}", fault.message)
}

/// Median microseconds of filter plus score: component, native.
fn compare<P: Filter + Score>(
    package: &str,
    native: P,
    cache: &std::path::Path,
    calls: usize,
) -> anyhow::Result<(f64, f64)> {
    let component = load(package, cache)?;
    component.apply(1, true, &host_view())?;
    let mut native = Runner::new(native);
    native.apply(true, guest_view()).map_err(fault)?;
    let everywhere = Bits::all_below(NODES as usize);
    let candidates = NodeSet::from_words(everywhere.words().to_vec());
    let (host_pod, guest_pod) = (host_pod(), guest_pod());
    let (mut wasm_us, mut native_us) = (Vec::new(), Vec::new());
    for _ in 0..calls {
        let started = Instant::now();
        let rejected = component.filter(&host_pod, &everywhere)?;
        let scores = component.score(&host_pod, &everywhere)?;
        wasm_us.push(started.elapsed().as_secs_f64() * 1e6);
        let started = Instant::now();
        let rows = native.filter(&guest_pod, &candidates).map_err(fault)?;
        let column = native.score(&guest_pod, &candidates).map_err(fault)?;
        native_us.push(started.elapsed().as_secs_f64() * 1e6);
        anyhow::ensure!(
            scores == column && rejected.len() == rows.len(),
            "{package}: the two do not agree"
        );
    }
    Ok((median(wasm_us), median(native_us)))
}

fn load(package: &str, cache: &std::path::Path) -> anyhow::Result<Arc<dyn point::Policy>> {
    let bytes = std::fs::read(capstan_tests::component(package))?;
    let host = capstan_plugin::Host::open(capstan_plugin::Options {
        cache_dir: cache.to_path_buf(),
        bundled: [(package.to_owned(), bytes.into())].into(),
        name: "bench".into(),
        ..Default::default()
    })?;
    let manifest = serde_json::json!({
        "apiVersion": "plugins.capstan.dev/v1",
        "kind": "Plugin",
        "metadata": { "name": package },
        "spec": {
            "source": { "bundled": package },
            "limits": { "deadline": "1s" },
            "bind": { "scheduler": { "profiles": ["default-scheduler"], "weight": 1 } },
        },
    });
    host.load(&serde_json::from_value(manifest)?)?;
    let policy = host
        .scheduler_seats()
        .borrow()
        .first()
        .map(|seat| Arc::clone(&seat.policy));
    // The engine's ticker lives as long as the host.
    std::mem::forget(host);
    policy.with_context(|| format!("{package} took no seat"))
}

fn text_of(n: u32) -> String {
    if n < TEXTS.len() as u32 {
        TEXTS[n as usize].to_owned()
    } else {
        format!("text-{n}")
    }
}

/// Symbols after the fixed ones: a name for each node, then one for each zone.
fn node_name(n: u32) -> u32 {
    TEXTS.len() as u32 + n
}

fn zone(n: u32) -> u32 {
    TEXTS.len() as u32 + NODES + n % ZONES
}

fn texts() -> Vec<String> {
    (0..TEXTS.len() as u32 + NODES + ZONES).map(text_of).collect()
}

fn host_view() -> Vec<point::Delta> {
    let mut deltas = vec![point::Delta::Symbols {
        first: 0,
        texts: texts(),
    }];
    deltas.extend((0..NODES).map(|n| {
        point::Delta::NodeUpserted(point::Node {
            id: n,
            name: node_name(n),
            labels: vec![
                point::Label {
                    key: symbol("kubernetes.io/hostname"),
                    value: node_name(n),
                },
                point::Label {
                    key: symbol("topology.kubernetes.io/zone"),
                    value: zone(n),
                },
            ],
            allocatable: amounts(32_000, 256 << 30, 110)
                .map(|(resource, value)| point::Amount { resource, value })
                .into(),
            ..Default::default()
        })
    }));
    deltas
}

fn guest_view() -> Vec<guest::Delta> {
    let mut deltas = vec![guest::Delta::Symbols((0, texts()))];
    deltas.extend((0..NODES).map(|n| {
        guest::Delta::NodeUpserted(guest::NodeFacts {
            id: n,
            name: node_name(n),
            labels: vec![
                guest::Label {
                    key: symbol("kubernetes.io/hostname"),
                    value: node_name(n),
                },
                guest::Label {
                    key: symbol("topology.kubernetes.io/zone"),
                    value: zone(n),
                },
            ],
            taints: Vec::new(),
            unschedulable: false,
            allocatable: amounts(32_000, 256 << 30, 110)
                .map(|(resource, value)| guest::Amount { resource, value })
                .into(),
            images: Vec::new(),
        })
    }));
    deltas
}

fn amounts(cpu_milli: i64, memory_bytes: i64, pods: i64) -> [(u32, i64); 3] {
    [
        (symbol("cpu"), cpu_milli),
        (symbol("memory"), memory_bytes),
        (symbol("pods"), pods),
    ]
}

fn host_pod() -> point::Pod {
    let requests: Vec<_> = amounts(100, 500 << 20, 1)
        .map(|(resource, value)| point::Amount { resource, value })
        .into();
    point::Pod {
        namespace: symbol("default"),
        name: "pod".into(),
        labels: vec![point::Label {
            key: symbol("app"),
            value: symbol("web"),
        }],
        requests: requests.clone(),
        requests_or_default: requests,
        ..Default::default()
    }
}

fn guest_pod() -> guest::Pod {
    let requests: Vec<_> = amounts(100, 500 << 20, 1)
        .map(|(resource, value)| guest::Amount { resource, value })
        .into();
    guest::Pod {
        namespace: symbol("default"),
        name: "pod".into(),
        labels: vec![guest::Label {
            key: symbol("app"),
            value: symbol("web"),
        }],
        requests: requests.clone(),
        requests_or_default: requests,
        ..guest::empty_pod()
    }
}
