//! From the creation of a pod to a watcher that sees it bound, through the API server and the store of a whole
//! cluster, with its client on the same cores. Nodes are simulated: objects that say they are ready, without kubelets.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use capstan_tests::compat::Api;
use capstan_tests::{Cluster, ClusterOptions, process};
use futures::{StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::report::Row;
use crate::shapes::{self, Shape};

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// Clients that create at once.
const CLIENTS: usize = 32;
/// Pods that cannot be placed and wait all the while.
const STUCK: usize = 500;
/// How long a load may take.
const BOUND: Duration = Duration::from_secs(120);

/// A cluster with simulated nodes, where no real node takes pods.
struct Ground {
    cluster: Cluster,
    api: Api,
    client: kube::Client,
}

impl Ground {
    async fn prepare(nodes: usize) -> anyhow::Result<Self> {
        let binary = std::env::var_os("CAPSTAN_BIN").map(PathBuf::from);
        let cluster = tokio::task::spawn_blocking(move || {
            Cluster::with(
                binary.map_or_else(ClusterOptions::default, |binary| ClusterOptions {
                    binary,
                    ..ClusterOptions::default()
                }),
            )
        })
        .await?;
        let api = Api::open(&cluster.kubeconfig()).await?;
        let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        let client = kube::Client::try_from(config)?;
        let cordon = json!({ "spec": { "unschedulable": true } });
        api.patch("merge", &format!("{NODES}/capstan"), &cordon)
            .await?
            .expect(200)?;
        api.patch(
            "merge",
            "/api/v1/namespaces/default",
            &json!({ "metadata": { "labels": { "team": "devops" } } }),
        )
        .await?
        .expect(200)?;
        create(&api, NODES, 0..nodes, shapes::node).await?;
        Ok(Self { cluster, api, client })
    }

    /// Creates the shape's pods as fast as they are taken, and waits until all are seen bound.
    async fn run(&self, shape: &Shape, nodes: usize, pods: usize) -> anyhow::Result<Row> {
        let before = shape.before;
        let on_nodes = move |n: usize| {
            let mut pod = before.pod(n);
            pod["spec"]["nodeName"] = shapes::node(n % nodes)["metadata"]["name"].clone();
            pod
        };
        create(&self.api, PODS, 0..before.count.min(4 * nodes), on_nodes).await?;
        if let Some(stuck) = shape.stuck {
            create(&self.api, PODS, 0..STUCK, stuck).await?;
        }
        let version = self
            .api
            .get(&format!("{PODS}?limit=1"))
            .await?
            .expect(200)?
            .version();
        let pid = self.cluster.pid().unwrap_or_default();
        let empty = process::resident(pid);
        let used = process::processor(pid);
        let seen = tokio::spawn(see_bound(self.client.clone(), version, pods));
        let started = Instant::now();
        let created = create(&self.api, PODS, 0..pods, shape.pod).await?;
        let seen = tokio::time::timeout(BOUND, seen)
            .await
            .context("not all pods were bound")???;
        let took = seen.iter().map(|(_, at)| *at).max().unwrap_or(started) - started;
        let mut times = Histogram::<u64>::new(3)?;
        for (name, at) in &seen {
            let number: usize = name.rsplit('-').next().unwrap_or_default().parse()?;
            let waited = at.saturating_duration_since(created[number]);
            times.record(u64::try_from(waited.as_micros())?)?;
        }
        let used = process::processor(pid) - used;
        println!(
            "{:<46} {:>9.0} µs of the server's processor time a pod",
            "",
            used.as_secs_f64() * 1e6 / pods as f64
        );
        let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Row {
            part: "end to end",
            shape: shape.name.to_owned(),
            nodes,
            pods,
            a_second: pods as f64 / took.as_secs_f64(),
            goal: shape.goals.1,
            attempt_us: [0.0; 2],
            end_to_end_ms: Some([ms(0.5), ms(0.99)]),
            megabytes: process::resident(pid).saturating_sub(empty) as f64 / 1e6,
        })
    }
}

/// Creates objects, many at once; returns when each was begun.
async fn create(
    api: &Api,
    path: &'static str,
    numbers: std::ops::Range<usize>,
    make: impl Fn(usize) -> Value + Send + Sync + 'static,
) -> anyhow::Result<Vec<Instant>> {
    let (next, make) = (Arc::new(AtomicUsize::new(numbers.start)), Arc::new(make));
    let end = numbers.end;
    let worker = |_| {
        let (api, next, make) = (api.clone(), Arc::clone(&next), Arc::clone(&make));
        tokio::spawn(async move {
            let mut begun = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= end {
                    return anyhow::Ok(begun);
                }
                let mut object = make(n);
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.remove("uid");
                }
                begun.push((n, Instant::now()));
                let answer = api.post(path, &object).await?;
                ensure!(answer.status.is_success(), "{}: {}", answer.asked, answer.text());
            }
        })
    };
    let workers: Vec<_> = (0..CLIENTS).map(worker).collect();
    let mut begun = Vec::new();
    for worker in workers {
        begun.extend(worker.await??);
    }
    begun.sort_unstable();
    Ok(begun.into_iter().map(|(_, at)| at).collect())
}

/// Names of the first `count` pods that come to have a node, and when that was seen.
async fn see_bound(
    client: kube::Client,
    version: String,
    count: usize,
) -> anyhow::Result<Vec<(String, Instant)>> {
    let pods: kube::Api<Pod> = kube::Api::namespaced(client, "default");
    let parameters = WatchParams::default().fields("spec.nodeName!=").timeout(280);
    let mut events = pods.watch(&parameters, &version).await?.boxed();
    let mut seen = Vec::with_capacity(count);
    while seen.len() < count {
        match events.try_next().await?.context("the watch ended")? {
            WatchEvent::Added(pod) => seen.push((pod.metadata.name.unwrap_or_default(), Instant::now())),
            WatchEvent::Error(status) => anyhow::bail!("{status:?}"),
            _ => {}
        }
    }
    Ok(seen)
}

/// The shapes, each on a cluster of its own.
pub(crate) fn measure(nodes: usize, divisor: usize, only: Option<&str>) -> anyhow::Result<Vec<Row>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut rows = Vec::new();
    for shape in shapes::all(nodes) {
        // A pod's status that says "nominated" waits for kubelets, which simulated nodes have not.
        let wanted = only.is_none_or(|only| only == shape.name) && shape.name != "preemption";
        if !wanted {
            continue;
        }
        let pods = (shape.pods / divisor).max(100);
        let row = runtime.block_on(async {
            let ground = Ground::prepare(nodes).await?;
            ground.run(&shape, nodes, pods).await
        })?;
        row.print();
        rows.push(row);
    }
    Ok(rows)
}
