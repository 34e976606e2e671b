//! The cycle alone: the scheduler's own conversion, feed, cycle and assumption in this process, without queue, API
//! server and store; by components, and by the same policies compiled natively.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use capstan_points::Seat;
use capstan_points::scheduler::Policy;
use capstan_scheduler::{Decision, Rehearsal};
use capstan_tests::process;
use hdrhistogram::Histogram;
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};

use crate::native;
use crate::report::Row;
use crate::shapes::{self, Shape};

/// The default policies, and the folder of each.
const DEFAULTS: [&str; 8] = [
    "scheduler-image-locality",
    "scheduler-node-affinity",
    "scheduler-node-ports",
    "scheduler-pod-affinity",
    "scheduler-preemption",
    "scheduler-resources",
    "scheduler-taints",
    "scheduler-topology-spread",
];

/// One more policy, that a user could have written.
const CUSTOM: &str = "scheduler-label-preference";

/// The most that a pod may take before the measurement is given up for slow.
const SLOW: Duration = Duration::from_secs(20);

/// Policies as components, alive as long as the value.
pub(crate) struct Components {
    seats: Vec<Seat<dyn Policy>>,
    _host: std::sync::Arc<capstan_plugin::Host>,
}

/// Loads the default policies, and a custom one where it is wanted.
pub(crate) fn components(cache: &Path, custom: bool) -> anyhow::Result<Components> {
    let mut names = DEFAULTS.to_vec();
    names.extend(custom.then_some(CUSTOM));
    let mut bundled = std::collections::BTreeMap::new();
    for name in &names {
        bundled.insert(
            (*name).to_owned(),
            std::fs::read(capstan_tests::component(name))?.into(),
        );
    }
    let host = capstan_plugin::Host::open(capstan_plugin::Options {
        cache_dir: cache.to_path_buf(),
        bundled: bundled.into_iter().collect(),
        name: "bench".into(),
        ..Default::default()
    })?;
    for name in &names {
        host.load(&serde_json::from_value(manifest(name)?)?)?;
    }
    let seats = host.scheduler_seats().borrow().to_vec();
    ensure!(
        seats.len() == names.len(),
        "{} of {} took a seat",
        seats.len(),
        names.len()
    );
    Ok(Components { seats, _host: host })
}

/// The manifest that a fresh cluster has, with time for the largest cluster.
fn manifest(name: &str) -> anyhow::Result<Value> {
    let path = capstan_tests::root()
        .join("plugins")
        .join(name)
        .join("plugin.yaml");
    let mut manifest: Value = match std::fs::read_to_string(&path) {
        Ok(text) => serde_norway::from_str(&text).with_context(|| path.display().to_string())?,
        Err(_) => json!({
            "apiVersion": "plugins.capstan.dev/v1", "kind": "Plugin", "metadata": { "name": name },
            "spec": { "source": { "bundled": name }, "config": { "key": "group", "value": "simulated" },
                "bind": { "scheduler": { "profiles": ["default-scheduler"], "weight": 1 } } },
        }),
    };
    manifest["spec"]["limits"]["deadline"] = json!("1s");
    Ok(manifest)
}

/// What a run came to.
struct Run {
    pods: usize,
    took: Duration,
    attempts: Histogram<u64>,
    bytes: u64,
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    Ok(serde_json::from_value(value)?)
}

/// A cluster on paper, with the pods that stand on it before.
fn cluster(shape: &Shape, nodes: usize) -> anyhow::Result<Rehearsal> {
    let mut cluster = Rehearsal::default();
    cluster.namespace(&object(
        json!({ "metadata": { "name": "default", "labels": { "team": "devops" } } }),
    )?);
    for n in 0..nodes {
        cluster.node(&object(shapes::node(n))?);
    }
    for n in 0..shape.before.count.min(4 * nodes) {
        let mut pod = shape.before.pod(n);
        pod["spec"]["nodeName"] = shapes::node(n % nodes)["metadata"]["name"].clone();
        cluster.assigned(&object(pod)?);
    }
    Ok(cluster)
}

/// Places the shape's pods one after another. The first one, which has the policies told of all, does not count.
fn run(shape: &Shape, nodes: usize, pods: usize, seats: &[Seat<dyn Policy>]) -> anyhow::Result<Run> {
    let empty = process::resident(std::process::id());
    let mut cluster = cluster(shape, nodes)?;
    let objects: Vec<core::Pod> = (0..=pods)
        .map(|n| object((shape.pod)(n)))
        .collect::<anyhow::Result<_>>()?;
    place(&mut cluster, &objects[0], seats)?;
    let bytes = process::resident(std::process::id()).saturating_sub(empty);
    let mut attempts = Histogram::<u64>::new(3)?;
    let started = Instant::now();
    let mut placed = 0;
    for pod in &objects[1..] {
        let began = Instant::now();
        place(&mut cluster, pod, seats)?;
        attempts.record(u64::try_from(began.elapsed().as_nanos())?)?;
        placed += 1;
        if started.elapsed() > SLOW {
            break;
        }
    }
    Ok(Run {
        pods: placed,
        took: started.elapsed(),
        attempts,
        bytes,
    })
}

/// Places a pod; where others must go first they go, and it is tried again.
fn place(cluster: &mut Rehearsal, pod: &core::Pod, seats: &[Seat<dyn Policy>]) -> anyhow::Result<()> {
    match cluster.place(pod, seats) {
        Decision::Placed(_) => Ok(()),
        Decision::Evict { victims, .. } => {
            victims.iter().for_each(|victim| cluster.remove(victim));
            let again = cluster.place(pod, seats);
            ensure!(
                matches!(again, Decision::Placed(_)),
                "no room after an eviction: {again:?}"
            );
            Ok(())
        }
        other => anyhow::bail!("{:?}: {other:?}", pod.metadata.name),
    }
}

impl Run {
    fn rate(&self) -> f64 {
        self.pods as f64 / self.took.as_secs_f64()
    }

    fn mean_us(&self) -> f64 {
        self.took.as_secs_f64() * 1e6 / self.pods.max(1) as f64
    }

    fn row(&self, name: &str, nodes: usize, goal: f64) -> Row {
        let us = |quantile| self.attempts.value_at_quantile(quantile) as f64 / 1e3;
        Row {
            part: "cycle",
            shape: name.to_owned(),
            nodes,
            pods: self.pods,
            a_second: self.rate(),
            goal,
            attempt_us: [us(0.5), us(0.99)],
            end_to_end_ms: None,
            megabytes: self.bytes as f64 / 1e6,
        }
    }
}

/// All shapes by components, and how they compare with native ones where these can tell.
pub(crate) fn measure(nodes: usize, divisor: usize, only: Option<&str>) -> anyhow::Result<Vec<Row>> {
    let cache = tempfile::tempdir()?;
    let mut rows = Vec::new();
    for shape in shapes::all(nodes).iter().filter(|shape| shape.stuck.is_none()) {
        if only.is_some_and(|only| only != shape.name) {
            continue;
        }
        let pods = (shape.pods / divisor).max(100);
        let components = components(cache.path(), false)?;
        let wasm = run(shape, nodes, pods, &components.seats)?;
        let mut row = wasm.row(shape.name, nodes, shape.goals.0);
        row.print();
        rows.push(row);
        if shape.name == "preemption" {
            continue;
        }
        // Without preemption, which is asked nothing where there is room.
        let native = run(shape, nodes, pods, &native::seats()?)?;
        row = native.row(&format!("{}, native", shape.name), nodes, 0.0);
        row.print();
        println!(
            "{:<46} {:>9.2} times native",
            "",
            wasm.mean_us() / native.mean_us()
        );
        rows.push(row);
    }
    Ok(rows)
}

/// What one more component adds to a pod.
pub(crate) fn custom(nodes: usize, divisor: usize) -> anyhow::Result<Vec<Row>> {
    let cache = tempfile::tempdir()?;
    let shape = shapes::basic_shape();
    let pods = shape.pods / divisor;
    let without = run(&shape, nodes, pods, &components(cache.path(), false)?.seats)?;
    let with = run(&shape, nodes, pods, &components(cache.path(), true)?.seats)?;
    let row = with.row("basic, one more component", nodes, 0.0);
    row.print();
    println!(
        "{:<46} {:>9.1} µs a pod for it (goal 60)",
        "",
        with.mean_us() - without.mean_us()
    );
    Ok(vec![row])
}

/// The cost of a cycle by the number of nodes.
pub(crate) fn by_nodes(divisor: usize) -> anyhow::Result<Vec<Row>> {
    let cache = tempfile::tempdir()?;
    let shape = shapes::basic_shape();
    let mut rows = Vec::new();
    for nodes in [100, 500, 1_000, 15_000] {
        let pods = (shape.pods / divisor).min(nodes * 20);
        let run = run(&shape, nodes, pods, &components(cache.path(), false)?.seats)?;
        let row = run.row("basic", nodes, 0.0);
        row.print();
        rows.push(row);
    }
    Ok(rows)
}
