//! `cargo xtask bench api`: the API server of a whole cluster under load, over TLS, with its client on the same cores.
//!
//! Creates pods that no scheduler takes, reads, changes, lists and watches them, and prints rates, latencies, memory,
//! and the server's processor time for each request, which says more than rates do on a machine with other work.
//! A list is beside the same bytes from a static file server in a process of its own, in the same run. The original's
//! figures on a 2-core machine: 1,313 creates a second, 556 ms for a list of 17,000 pods.

mod admission;
mod file_server;
mod load;
mod reads;

use std::path::PathBuf;

use capstan_tests::compat::Api;
use capstan_tests::{Cluster, ClusterOptions, process};
use clap::Parser;

/// Measures the API server; prints a table.
#[derive(Debug, Parser)]
#[command(name = "bench_api")]
struct Options {
    /// Pods that are created
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// Clients at once
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Watchers of all pods
    #[arg(long, default_value_t = 1_000)]
    watchers: usize,
    /// Serves this file over TLS instead, for the comparison
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    match &options.serve {
        Some(file) => runtime.block_on(file_server::serve(file)),
        None => runtime.block_on(measure(&options)),
    }
}

async fn measure(options: &Options) -> anyhow::Result<()> {
    let binary = std::env::var_os("CAPSTAN_BIN").map(PathBuf::from);
    let cluster = Cluster::with(
        binary.map_or_else(ClusterOptions::default, |binary| ClusterOptions {
            binary,
            ..ClusterOptions::default()
        }),
    );
    let api = Api::open(&cluster.kubeconfig()).await?;
    let pid = cluster.pid().unwrap_or_default();
    let empty = process::resident(pid);
    println!("{} pods, {} clients at once\n", options.pods, options.clients);
    println!(
        "{:<36} {:>10} {:>9} {:>9} {:>9} {:>9}",
        "", "a second", "p50 ms", "p99 ms", "max ms", "CPU µs"
    );
    let mut used = process::processor(pid);
    let mut since = || {
        let now = process::processor(pid);
        now - std::mem::replace(&mut used, now)
    };
    let created = load::creates(&api, 0, options.pods, options.clients).await?;
    created.print("create", since());
    let full = process::resident(pid);
    let read = load::gets(&api, options.pods, options.clients).await?;
    read.print("get", since());
    let changed = load::patches(&api, options.pods.min(10_000), options.clients).await?;
    changed.print("merge patch", since());
    let list = reads::lists(&api).await?;
    reads::watch(&api, options.watchers).await?;
    let growth = full.saturating_sub(empty);
    let each = list.bytes as u64 / options.pods.max(1) as u64;
    println!(
        "\nmemory: {} MB empty, {} MB with the pods: {} bytes each, of JSON {each}: {:.2} times",
        empty >> 20,
        full >> 20,
        growth / options.pods.max(1) as u64,
        growth as f64 / list.bytes.max(1) as f64,
    );
    admission::measure(&api, options.pods).await?;
    reads::compare(&cluster, &list).await
}
