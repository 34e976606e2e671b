//! What a plugin decided and logged lately, of all nodes that run it, in the order of time.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use serde_json::Value;

use crate::cluster;
use crate::{Error, Lately};

/// How often nodes are asked for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn decisions(options: &Lately) -> Result<(), Error> {
    print(options, "decisions", |entry| {
        let word = |field: &str| entry[field].as_str().unwrap_or_default();
        let shadow = if entry["shadow"] == true { " (shadow)" } else { "" };
        let place = match (word("namespace"), word("name")) {
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        };
        format!(
            "{} {}{shadow} {} {} {place} by {}: {}",
            word("time"),
            word("verdict"),
            word("operation"),
            word("resource"),
            word("user"),
            word("message")
        )
    })
    .await
}

pub(crate) async fn logs(options: &Lately) -> Result<(), Error> {
    print(options, "logs", |entry| {
        let word = |field: &str| entry[field].as_str().unwrap_or_default();
        format!("{} {:<5} {}", word("time"), word("level"), word("message"))
    })
    .await
}

async fn print(options: &Lately, what: &str, shown: impl Fn(&Value) -> String) -> Result<(), Error> {
    let client = cluster::client(&options.reach).await?;
    // The last entry seen of each node.
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let plugin = cluster::plugin(&client, &options.name).await?;
        let mut entries = Vec::new();
        for host in plugin.status.unwrap_or_default().hosts {
            let after = seen.entry(host.name.clone()).or_default();
            let more = ask(&client, &host.name, &options.name, what, *after).await?;
            *after = more.iter().filter_map(|entry| entry["number"].as_u64()).fold(*after, u64::max);
            entries.extend(more);
        }
        entries.sort_by(|a, b| a["time"].as_str().cmp(&b["time"].as_str()));
        for entry in &entries {
            println!("{}", if options.json { entry.to_string() } else { shown(entry) });
        }
        if !options.follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

async fn ask(client: &Client, node: &str, name: &str, what: &str, after: u64) -> Result<Vec<Value>, Error> {
    let failed = |source| Error::AskNode {
        node: node.to_owned(),
        name: name.to_owned(),
        source,
    };
    let path = format!("/api/v1/nodes/{node}/proxy/plugins/{name}/{what}?after={after}");
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| failed(kube::Error::HttpError(error)))?;
    let text = client.request_text(request).await.map_err(failed)?;
    serde_json::from_str(&text).map_err(|source| Error::Entries {
        node: node.to_owned(),
        source,
    })
}
