//! Many clients at once, each with its next request as soon as it has the answer to the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use capstan_tests::compat::{Answer, Api};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

/// What a load came to.
pub(crate) struct Outcome {
    times: Histogram<u64>,
    took: Duration,
}

impl Outcome {
    /// The median latency.
    pub(crate) fn median(&self) -> Duration {
        Duration::from_micros(self.times.value_at_quantile(0.5))
    }

    /// With `used` processor time of the server.
    pub(crate) fn print(&self, name: &str, used: Duration) {
        let milliseconds = |micros: u64| micros as f64 / 1_000.0;
        println!(
            "{name:<36} {:>10.0} {:>9.2} {:>9.2} {:>9.1} {:>9.0}",
            self.times.len() as f64 / self.took.as_secs_f64(),
            milliseconds(self.times.value_at_quantile(0.5)),
            milliseconds(self.times.value_at_quantile(0.99)),
            milliseconds(self.times.max()),
            used.as_secs_f64() * 1e6 / self.times.len().max(1) as f64,
        );
    }
}

/// A pod as a Deployment makes them, that nobody schedules.
fn pod(n: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("pod-{n:06}"), "labels": { "app": format!("app-{}", n % 100), "tier": "web" } },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "main", "image": "registry.example.com/team/service:1.2.3",
                "ports": [{ "containerPort": 8080 }],
                "env": [{ "name": "MODE", "value": "production" }, { "name": "LEVEL", "value": "info" }],
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
            }],
        },
    })
}

pub(crate) fn path(n: usize) -> String {
    format!("{PODS}/pod-{n:06}")
}

async fn run<Asking>(
    count: usize,
    clients: usize,
    ask: impl Fn(usize) -> Asking + Send + Sync + 'static,
) -> anyhow::Result<Outcome>
where
    Asking: Future<Output = anyhow::Result<Answer>> + Send,
{
    let (next, ask) = (Arc::new(AtomicUsize::new(0)), Arc::new(ask));
    let started = Instant::now();
    let workers: Vec<_> = (0..clients)
        .map(|_| {
            let (next, ask) = (next.clone(), ask.clone());
            tokio::spawn(async move {
                let mut times = Histogram::<u64>::new(3)?;
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return anyhow::Ok(times);
                    }
                    let began = Instant::now();
                    let answer = ask(n).await?;
                    ensure!(answer.status.is_success(), "{}: {}", answer.asked, answer.text());
                    times.record(u64::try_from(began.elapsed().as_micros())?)?;
                }
            })
        })
        .collect();
    let mut times = Histogram::new(3)?;
    for worker in workers {
        times.add(worker.await??)?;
    }
    Ok(Outcome {
        times,
        took: started.elapsed(),
    })
}

/// Pods numbered from `first`.
pub(crate) async fn creates(
    api: &Api,
    first: usize,
    count: usize,
    clients: usize,
) -> anyhow::Result<Outcome> {
    let api = api.clone();
    let ask = move |n| {
        let api = api.clone();
        async move { api.post(PODS, &pod(first + n)).await }
    };
    run(count, clients, ask).await
}

pub(crate) async fn gets(api: &Api, count: usize, clients: usize) -> anyhow::Result<Outcome> {
    let api = api.clone();
    let ask = move |n| {
        let api = api.clone();
        async move { api.get(&path(n)).await }
    };
    run(count, clients, ask).await
}

pub(crate) async fn patches(api: &Api, count: usize, clients: usize) -> anyhow::Result<Outcome> {
    let api = api.clone();
    let ask = move |n| {
        let api = api.clone();
        let patch = json!({ "metadata": { "annotations": { "changed": "yes" } } });
        async move { api.patch("merge", &path(n), &patch).await }
    };
    run(count, clients, ask).await
}
