//! `capstan explain pod NAME`: why a pod is where it is, or nowhere, by plugin and reason.
//!
//! Asks the API server at `/explain/namespaces/NAMESPACE/pods/NAME`, which the scheduler's last decisions answer.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;

/// What can be explained.
#[derive(Subcommand)]
pub(crate) enum Explain {
    /// Why a pod is on its node, or on none
    Pod(Pod),
}

/// Which pod, of which cluster.
#[derive(Args)]
pub(crate) struct Pod {
    /// Its name
    name: String,
    /// Its namespace
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// The cluster's kubeconfig
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// The answer as JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub(crate) fn run(Explain::Pod(pod): Explain) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    let decision = runtime.block_on(ask(&pod))?;
    match pod.json {
        true => println!("{decision:#}"),
        false => print!("{}", told(&decision)),
    }
    Ok(())
}

async fn ask(pod: &Pod) -> anyhow::Result<Value> {
    let client = capstan_client::from_kubeconfig(&pod.kubeconfig).await?;
    let path = format!("/explain/namespaces/{}/pods/{}", pod.namespace, pod.name);
    let request = http::Request::get(path)
        .body(Vec::new())
        .context("the pod's name")?;
    match client.request(request).await {
        Ok(decision) => Ok(decision),
        Err(kube::Error::Api(status)) if status.code == 404 => anyhow::bail!(
            "the scheduler remembers no decision about pod {}/{}: it is not there, or others were tried since",
            pod.namespace,
            pod.name
        ),
        Err(error) => Err(error).context("the API server"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The decision for people to read.
fn told(decision: &Value) -> String {
    let (pod, node) = (&decision["metadata"], text(&decision["node"]));
    let mut told = format!(
        "{}/{}: {}",
        text(&pod["namespace"]),
        text(&pod["name"]),
        text(&decision["outcome"])
    );
    if !node.is_empty() {
        told += &format!(" on {node}");
    }
    told += &format!(
        "\n{} of {} nodes could take it; decided at {}\n",
        decision["feasibleNodes"],
        decision["nodes"],
        text(&decision["time"])
    );
    if let Some(message) = decision["message"].as_str() {
        told += &format!("{message}\n");
    }
    let mut heads = "\nruled out:\n";
    for one in list(&decision["rejections"]) {
        let nodes: Vec<&str> = list(&one["nodes"]).map(text).collect();
        told += heads;
        told += &format!(
            "  {:>5}  {} ({})",
            one["count"],
            text(&one["reason"]),
            text(&one["plugin"])
        );
        told += &match nodes.len() as u64 {
            0 => "\n".to_owned(),
            some if one["count"].as_u64() > Some(some) => format!(": {}, …\n", nodes.join(", ")),
            _ => format!(": {}\n", nodes.join(", ")),
        };
        heads = "";
    }
    heads = "\nbest scores:\n";
    for one in list(&decision["scores"]) {
        let by_plugin: Vec<String> = list(&one["plugins"])
            .map(|part| format!("{} {}×{}", text(&part["plugin"]), part["score"], part["weight"]))
            .collect();
        told += heads;
        told += &format!(
            "  {:>5}  {}: {}\n",
            one["total"],
            text(&one["node"]),
            by_plugin.join(", ")
        );
        heads = "";
    }
    told
}
