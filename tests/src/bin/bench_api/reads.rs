//! Lists, and the same bytes from a file; one change told to many watchers.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use capstan_tests::Cluster;
use capstan_tests::compat::Api;
use serde_json::json;

use super::load::{PODS, path};

/// Lists of which the fastest counts.
const LISTS: usize = 3;
/// Changes that watchers are told of.
const CHANGES: usize = 20;
/// Runs of watchers' tasks that are given to one client, which has one connection for each.
const WATCHED_WITHIN: Duration = Duration::from_secs(60);

/// The fastest list.
pub(crate) struct List {
    pub(crate) bytes: usize,
    first: Duration,
    whole: Duration,
}

async fn fetch(api: &Api, path: &str) -> anyhow::Result<List> {
    let mut best: Option<List> = None;
    for _ in 0..LISTS {
        let read = api.read(path).await?;
        let list = List {
            bytes: read.bytes,
            first: read.first,
            whole: read.whole,
        };
        if best.as_ref().is_none_or(|best| list.whole < best.whole) {
            best = Some(list);
        }
    }
    best.context("no list")
}

fn print(name: &str, list: &List) {
    println!(
        "{name:<36} {:>7.1} MB, first byte {:.1} ms, all {:.1} ms",
        list.bytes as f64 / 1e6,
        list.first.as_secs_f64() * 1e3,
        list.whole.as_secs_f64() * 1e3
    );
}

pub(crate) async fn lists(api: &Api) -> anyhow::Result<List> {
    let list = fetch(api, PODS).await?;
    print("list of all", &list);
    print(
        "list of all from the cache",
        &fetch(api, &format!("{PODS}?resourceVersion=0")).await?,
    );
    print(
        "list of one in a hundred",
        &fetch(api, &format!("{PODS}?labelSelector=app%3Dapp-7")).await?,
    );
    print(
        "list of a page of 500",
        &fetch(api, &format!("{PODS}?limit=500")).await?,
    );
    Ok(list)
}

/// Tells `watchers` watchers of some changes, and how long until all had all.
pub(crate) async fn watch(api: &Api, watchers: usize) -> anyhow::Result<()> {
    let now = api.get(&format!("{PODS}?limit=1")).await?.expect(200)?;
    let version = now.version();
    let watch = format!("{PODS}?watch=1&resourceVersion={version}");
    let readers: Vec<_> = (0..watchers)
        .map(|_| {
            let (api, watch) = (api.clone(), watch.clone());
            tokio::spawn(async move {
                let events = api.watch(&watch, |events| events.len() == CHANGES).await;
                events.map(|_| Instant::now())
            })
        })
        .collect();
    // All are connected when the server says so; a second more is given to the last.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let started = Instant::now();
    for n in 0..CHANGES {
        let patch = json!({ "metadata": { "annotations": { "told": "yes" } } });
        api.patch("merge", &path(n), &patch).await?.expect(200)?;
    }
    let mut last = started;
    for reader in readers {
        last = last.max(tokio::time::timeout(WATCHED_WITHIN, reader).await???);
    }
    let took = last - started;
    println!(
        "{:<36} {:>10.0} events a second; all {CHANGES} changes with all after {:.0} ms",
        format!("{watchers} watchers"),
        (watchers * CHANGES) as f64 / took.as_secs_f64(),
        took.as_secs_f64() * 1e3
    );
    Ok(())
}

/// The same bytes from a static file server.
pub(crate) async fn compare(cluster: &Cluster, list: &List) -> anyhow::Result<()> {
    let file = cluster.scratch().join("list");
    std::fs::write(&file, vec![b'x'; list.bytes])?;
    let mut server = Command::new(std::env::current_exe()?)
        .arg("--serve")
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(server.stdout.take().context("its output")?).read_line(&mut said)?;
    let compared = async {
        let api = Api::anywhere(said.trim())?;
        let served = fetch(&api, "/").await?;
        ensure!(
            served.bytes == list.bytes,
            "{} bytes of {}",
            served.bytes,
            list.bytes
        );
        print("the same bytes from a file", &served);
        let ratio = served.whole.as_secs_f64() / list.whole.as_secs_f64();
        println!("the list has {ratio:.2} of a file's speed (goal 0.5)");
        anyhow::Ok(())
    };
    let compared = compared.await;
    server.kill()?;
    server.wait()?;
    compared
}
