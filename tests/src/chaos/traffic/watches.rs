//! Watches of everything, one for each member, that resume where they were until the run's last revision; and
//! several watches on one stream, filtered and of parts, which come and go.

use std::sync::Arc;
use std::time::Duration;

use capstan_etcd::proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use tokio::sync::{mpsc, watch};

use crate::chaos::client::{ANSWER_WITHIN, Client, event};
use crate::chaos::field::Field;
use crate::chaos::history::{Frame, Said, WatchStream};

use super::{AFTER_TROUBLE, any};

/// How long a watch may be silent, though progress is asked for each second, before it tries another member.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// How often progress is asked for.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Requests on their way on a stream.
const REQUESTS_MAX: usize = 16;

/// Watches that share a stream.
const SHARED: i64 = 4;

fn stream_of(client: u32, member: usize, key: &str, end: &str, start: i64) -> WatchStream {
    WatchStream {
        client,
        member,
        key: key.to_owned(),
        end: end.to_owned(),
        start,
        no_put: false,
        no_delete: false,
        frames: Vec::new(),
    }
}

fn create(stream: &WatchStream, id: i64, fragment: bool) -> pb::WatchRequest {
    use pb::watch_create_request::FilterType;
    let mut filters = Vec::new();
    filters.extend(stream.no_put.then_some(FilterType::Noput as i32));
    filters.extend(stream.no_delete.then_some(FilterType::Nodelete as i32));
    let create = pb::WatchCreateRequest {
        key: stream.key.clone().into_bytes().into(),
        range_end: stream.end.clone().into_bytes().into(),
        start_revision: stream.start,
        progress_notify: true,
        filters,
        prev_kv: true,
        watch_id: id,
        fragment,
    };
    pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

fn frame(field: &Field, response: &pb::WatchResponse) -> Frame {
    let said = if response.canceled {
        let reason = response.cancel_reason.clone();
        Said::Canceled {
            compact_revision: response.compact_revision,
            reason,
        }
    } else if response.created {
        Said::Created
    } else if response.events.is_empty() {
        Said::Progress
    } else {
        Said::Events {
            events: response.events.iter().map(event).collect(),
            fragment: response.fragment,
        }
    };
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    Frame {
        received: field.now(),
        revision,
        said,
    }
}

/// A stream of watches: its answers, and where requests go in.
struct Open {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: tonic::Streaming<pb::WatchResponse>,
}

async fn open(client: &Client, first: Vec<pb::WatchRequest>) -> Option<Open> {
    let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
    for request in first {
        requests.send(request).await.ok()?;
    }
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut watches = client.watches();
    let answers = tokio::time::timeout(ANSWER_WITHIN, watches.watch(receiver))
        .await
        .ok()?
        .ok()?;
    Some(Open {
        requests,
        answers: answers.into_inner(),
    })
}

impl Open {
    /// The next answer; asks for progress meanwhile. None when the stream is over or silent.
    async fn next(&mut self) -> Option<pb::WatchResponse> {
        let silent = tokio::time::Instant::now() + SILENCE_MAX;
        loop {
            tokio::select! {
                answer = self.answers.message() => return answer.ok()?,
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    if tokio::time::Instant::now() > silent {
                        return None;
                    }
                    let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                    let _ = self.requests.try_send(pb::WatchRequest { request_union: Some(progress) });
                }
            }
        }
    }
}

/// Watches everything, first on `place`, until the revision in `until` was told.
pub(super) async fn whole(field: Arc<Field>, client: u32, place: usize, until: watch::Receiver<i64>) {
    let (mut member, mut over) = (place, 1);
    while over < *until.borrow() {
        let (stream, reached) = whole_from(&field, client, member, over, place, &until).await;
        if !stream.frames.is_empty() {
            field.history().streams.push(stream);
        }
        over = reached;
        tokio::time::sleep(AFTER_TROUBLE).await;
        let present = field.present();
        let next = present.iter().position(|place| *place > member).unwrap_or(0);
        member = present[next];
    }
}

async fn whole_from(
    field: &Field,
    client: u32,
    member: usize,
    mut over: i64,
    place: usize,
    until: &watch::Receiver<i64>,
) -> (WatchStream, i64) {
    let mut stream = stream_of(client, member, "\0", "\0", over + 1);
    let Some(mut open) = open(
        field.client(member),
        vec![create(&stream, 0, client.is_multiple_of(2))],
    )
    .await
    else {
        return (stream, over);
    };
    while let Some(response) = open.next().await {
        let frame = frame(field, &response);
        let canceled = matches!(frame.said, Said::Canceled { .. });
        match &frame.said {
            Said::Events { events, fragment } => {
                let last = events.last().map_or(over, |event| event.revision);
                over = if *fragment { last - 1 } else { last }.max(over);
            }
            Said::Progress => over = over.max(frame.revision),
            // What was given up is told by the watch that had held it.
            Said::Canceled { compact_revision, .. } if *compact_revision <= field.compacted() => {
                over = over.max(*compact_revision - 1);
            }
            Said::Created | Said::Canceled { .. } => {}
        }
        field.set_watched(place, over);
        stream.frames.push(frame);
        if canceled || over >= *until.borrow() {
            break;
        }
    }
    (stream, over)
}

/// Several watches on one stream, of parts and filtered, from a little ago; again and again.
pub(super) async fn shared(field: Arc<Field>, client: u32, mut random: fastrand::Rng) {
    const PARTS: [(&str, &str); 5] = [
        ("l/", "l0"),
        ("l/3", ""),
        ("r/", "u"),
        ("\0", "\0"),
        ("lease/", "lease0"),
    ];
    while !field.is_stopped() {
        let member = any(&field, &mut random);
        let mut streams: Vec<WatchStream> = Vec::new();
        for _ in 0..SHARED {
            let (key, end) = PARTS[random.usize(..PARTS.len())];
            let start = (field.newest() - random.i64(0..150))
                .max(field.compacted() + 1)
                .max(1);
            let mut stream = stream_of(client, member, key, end, start);
            (stream.no_put, stream.no_delete) =
                [(false, false), (true, false), (false, true)][random.usize(..3)];
            streams.push(stream);
        }
        let first = streams
            .iter()
            .zip(1..)
            .map(|(stream, id)| create(stream, id, random.bool()))
            .collect();
        let ends = tokio::time::Instant::now() + Duration::from_millis(random.u64(3_000..12_000));
        if let Some(mut open) = open(field.client(member), first).await {
            while let Ok(Some(response)) = tokio::time::timeout_at(ends, open.next()).await {
                let told = frame(&field, &response);
                match usize::try_from(response.watch_id - 1)
                    .ok()
                    .and_then(|index| streams.get_mut(index))
                {
                    Some(stream) => stream.frames.push(told),
                    None => progress(&mut streams, &told),
                }
            }
        }
        let told = streams.into_iter().filter(|stream| !stream.frames.is_empty());
        field.history().streams.extend(told);
        tokio::time::sleep(AFTER_TROUBLE).await;
    }
}

/// Progress of a whole stream is that of each watch which is there.
fn progress(streams: &mut [WatchStream], told: &Frame) {
    let there = |stream: &&mut WatchStream| {
        let created = stream.frames.iter().any(|frame| frame.said == Said::Created);
        created
            && !stream
                .frames
                .iter()
                .any(|frame| matches!(frame.said, Said::Canceled { .. }))
    };
    streams
        .iter_mut()
        .filter(there)
        .for_each(|stream| stream.frames.push(told.clone()));
}

/// Watches everything that a member still has up to `last`, once.
///
/// # Errors
/// When the member does not tell it all.
pub async fn whole_once(field: &Field, client: u32, member: usize, last: i64) -> anyhow::Result<()> {
    let (_sender, until) = watch::channel(last);
    let from = field.compacted().max(1);
    let (stream, reached) = whole_from(field, client, member, from, member, &until).await;
    field.history().streams.push(stream);
    anyhow::ensure!(
        reached >= last,
        "member {member} told its history only up to {reached} of {last}"
    );
    Ok(())
}
