use std::time::Instant;

use bytes::Bytes;
use hdrhistogram::Histogram;

use super::report::Figures;
use super::requests::{connect, end_of, kv};
use super::scenarios::{Tell, fill};
use super::subject::Members;
use capstan_etcd::proto::etcdserverpb::RangeRequest;

const VALUE_BYTES: usize = 4_096;

/// Objects of a page, as kube-apiserver asks.
const PAGE: i64 = 500;

/// A large cluster's objects: how fast they are loaded, what they take, how fast they are listed in pages.
pub(crate) async fn run(members: &Members, quick: bool, tell: &mut Tell<'_>) -> anyhow::Result<()> {
    let count = if quick { 15_000 } else { 150_000 };
    let channels = connect(&members.endpoints, 16).await?;
    let clients: Vec<_> = channels.iter().map(kv).collect();
    let started = Instant::now();
    fill(&clients, "/bulk/", count, VALUE_BYTES).await?;
    tell(
        &format!("{count} x 4 kB: load, 64 clients"),
        Figures::of_rate(count, started.elapsed()),
    );
    tell(
        &format!("{count} x 4 kB: then"),
        Figures::of_usage(members.usage()?),
    );

    let mut latencies = Histogram::<u64>::new(3)?;
    let mut kv = clients[0].clone();
    let (mut from, mut seen) = (Bytes::from_static(b"/bulk/"), 0);
    let started = Instant::now();
    loop {
        let asked = Instant::now();
        let request = RangeRequest {
            key: from.clone(),
            range_end: end_of("/bulk/"),
            limit: PAGE,
            ..RangeRequest::default()
        };
        let page = kv.range(request).await?.into_inner();
        latencies.record(asked.elapsed().as_micros() as u64)?;
        seen += page.kvs.len() as u64;
        let Some(last) = page.kvs.last().filter(|_| page.more) else {
            break;
        };
        from = [&last.key, &b"\0"[..]].concat().into();
    }
    anyhow::ensure!(seen == count, "{seen} of {count} objects are listed");
    tell(
        &format!("{count} x 4 kB: pages of {PAGE}"),
        Figures::of_load(&latencies, started.elapsed()),
    );
    tell(
        &format!("{count} x 4 kB: after the list"),
        Figures::of_usage(members.usage()?),
    );
    Ok(())
}
