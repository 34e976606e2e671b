use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use capstan_etcd::proto::etcdserverpb::watch_client::WatchClient;
use capstan_etcd::proto::etcdserverpb::watch_request::RequestUnion;
use capstan_etcd::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use hdrhistogram::Histogram;
use tokio::task::LocalSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::report::Figures;
use super::requests::{connect, end_of, kv, put, value};
use super::subject::{Members, cpu_of};

const WATCHERS: usize = 1_000;

/// Watches share streams, and streams connections.
const STREAMS: usize = 10;

/// One client puts, and all watchers of the prefix are told: how many tellings a second, and how long after the
/// put was sent each arrives.
pub(crate) async fn fan_out(members: &Members, events: usize) -> anyhow::Result<Figures> {
    let channels = connect(&members.endpoints, STREAMS).await?;
    let mut streams = Vec::new();
    for channel in channels.iter().cycle().take(STREAMS) {
        streams.push(watch(channel).await?);
    }
    let sent = Rc::new(RefCell::new(Vec::<Instant>::with_capacity(events)));
    let latencies = Rc::new(RefCell::new(Histogram::<u64>::new(3)?));
    let expected = events * WATCHERS / STREAMS;
    let local = LocalSet::new();
    let readers: Vec<_> = streams
        .into_iter()
        .map(|(open, stream)| {
            let (sent, latencies) = (Rc::clone(&sent), Rc::clone(&latencies));
            local.spawn_local(async move {
                read(stream, expected, &sent, &latencies).await?;
                drop(open);
                anyhow::Ok(())
            })
        })
        .collect();
    local
        .run_until(async move {
            let (before, own_before) = (members.usage()?.cpu, cpu_of("/proc/self/stat")?);
            let started = Instant::now();
            let mut kv = kv(&channels[0]);
            let value = value(256);
            for number in 0..events {
                sent.borrow_mut().push(Instant::now());
                kv.put(put(Bytes::from(format!("/watched/{number:08}")), value.clone()))
                    .await?;
            }
            for reader in readers {
                reader.await??;
            }
            let took = started.elapsed();
            let (after, own_after) = (members.usage()?.cpu, cpu_of("/proc/self/stat")?);
            let figures = Figures::of_load(&latencies.borrow(), took);
            Ok(figures.with_cpu(
                after.saturating_sub(before),
                own_after.saturating_sub(own_before),
                took,
            ))
        })
        .await
}

/// A stream with its share of the watches, all of them created.
async fn watch(
    channel: &Channel,
) -> anyhow::Result<(tokio::sync::mpsc::Sender<WatchRequest>, Streaming<WatchResponse>)> {
    let (ask, asked) = tokio::sync::mpsc::channel(WATCHERS / STREAMS);
    let create = WatchCreateRequest {
        key: Bytes::from_static(b"/watched/"),
        range_end: end_of("/watched/"),
        ..WatchCreateRequest::default()
    };
    for _ in 0..WATCHERS / STREAMS {
        let request = RequestUnion::CreateRequest(create.clone());
        ask.send(WatchRequest {
            request_union: Some(request),
        })
        .await?;
    }
    let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let mut stream = client.watch(ReceiverStream::new(asked)).await?.into_inner();
    for _ in 0..WATCHERS / STREAMS {
        let answer = stream.message().await?.context("the stream goes on")?;
        anyhow::ensure!(answer.created, "a watch is not created: {}", answer.cancel_reason);
    }
    Ok((ask, stream))
}

async fn read(
    mut stream: Streaming<WatchResponse>,
    expected: usize,
    sent: &RefCell<Vec<Instant>>,
    latencies: &RefCell<Histogram<u64>>,
) -> anyhow::Result<()> {
    let mut seen = 0;
    while seen < expected {
        let answer = stream.message().await?.context("the stream goes on")?;
        for event in &answer.events {
            let key = &event.kv.as_ref().context("an event has a key")?.key;
            let number: usize = std::str::from_utf8(&key[b"/watched/".len()..])?.parse()?;
            let waited = sent.borrow()[number].elapsed();
            latencies.borrow_mut().record(waited.as_micros() as u64)?;
            seen += 1;
        }
    }
    Ok(())
}
