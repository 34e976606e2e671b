//! Watches on one stream.

use bytes::Bytes;
use capstan_etcd::face::FaceOptions;
use capstan_etcd::proto::etcdserverpb as pb;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::server::{PATIENCE, Server};

const REQUESTS_MAX: usize = 64;

struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Stream {
    async fn open(server: &Server) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let answers = server.watch().watch(ReceiverStream::new(receiver)).await;
        let answers = answers.expect("a stream").into_inner();
        Self { requests, answers }
    }

    async fn ask(&self, request: RequestUnion) {
        let request = pb::WatchRequest {
            request_union: Some(request),
        };
        self.requests.send(request).await.expect("an open stream");
    }

    async fn next(&mut self) -> pb::WatchResponse {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        answer.expect("in time").expect("no error").expect("not the end")
    }

    /// Creates a watch; returns the answer.
    async fn create(&mut self, create: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.ask(RequestUnion::CreateRequest(create)).await;
        let answer = self.next().await;
        assert!(answer.created, "{answer:?}");
        answer
    }

    async fn cancel(&self, watch_id: i64) {
        let cancel = pb::WatchCancelRequest { watch_id };
        self.ask(RequestUnion::CancelRequest(cancel)).await;
    }

    async fn ask_progress(&self) {
        self.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
            .await;
    }
}

fn on(key: &'static str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.into(),
        ..Default::default()
    }
}

fn on_all() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    }
}

fn revision(answer: &pb::WatchResponse) -> i64 {
    answer.header.expect("a header").revision
}

/// Type, key and value of each event.
fn events(answer: &pb::WatchResponse) -> Vec<(i32, String, String)> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let event = |event: &capstan_etcd::proto::mvccpb::Event| {
        let kv = event.kv.clone().unwrap_or_default();
        (event.r#type, text(&kv.key), text(&kv.value))
    };
    answer.events.iter().map(event).collect()
}

#[tokio::test]
async fn ids_are_the_clients_or_the_streams() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server).await;
    assert_eq!(stream.create(on("a")).await.watch_id, 0);
    assert_eq!(
        stream
            .create(pb::WatchCreateRequest {
                watch_id: 2,
                ..on("a")
            })
            .await
            .watch_id,
        2
    );
    assert_eq!(stream.create(on("a")).await.watch_id, 1);
    assert_eq!(stream.create(on("a")).await.watch_id, 3);
    let refusals = [
        (
            pb::WatchCreateRequest {
                watch_id: 2,
                ..on("b")
            },
            "mvcc: duplicate watch ID provided on the WatchStream",
        ),
        (
            pb::WatchCreateRequest {
                range_end: "a".into(),
                ..on("b")
            },
            "mvcc: watcher range is empty",
        ),
        (
            pb::WatchCreateRequest {
                start_revision: -1,
                ..on("b")
            },
            "etcdserver: mvcc: required revision has been compacted",
        ),
    ];
    for (create, reason) in refusals {
        let answer = stream.create(create).await;
        assert_eq!(
            (answer.watch_id, answer.canceled, &answer.cancel_reason[..]),
            (-1, true, reason)
        );
    }
    stream.cancel(99).await;
    stream.cancel(2).await;
    let answer = stream.next().await;
    assert_eq!(
        (answer.watch_id, answer.canceled, answer.compact_revision),
        (2, true, 0)
    );
    assert_eq!(
        stream
            .create(pb::WatchCreateRequest {
                watch_id: 2,
                ..on("b")
            })
            .await
            .watch_id,
        2
    );
    server.put("b", "v").await;
    let answer = stream.next().await;
    assert_eq!(
        (answer.watch_id, events(&answer)),
        (2, vec![(0, "b".into(), "v".into())])
    );
}

#[tokio::test]
async fn events_are_those_asked_for() {
    let server = Server::start().await;
    let first = server.put("k", "1").await;
    server.put("k", "2").await;
    let delete = capstan_etcd::proto::etcdserverpb::DeleteRangeRequest {
        key: "k".into(),
        ..Default::default()
    };
    server.kv().delete_range(delete).await.expect("a deletion");
    let filters = |filter: FilterType| vec![filter.into()];
    let cases = [
        (
            pb::WatchCreateRequest {
                prev_kv: true,
                ..on("k")
            },
            "0:k=1<, 0:k=2<1, 1:k=<2",
        ),
        (
            pb::WatchCreateRequest {
                filters: filters(FilterType::Noput),
                ..on("k")
            },
            "1:k=<",
        ),
        (
            pb::WatchCreateRequest {
                filters: filters(FilterType::Nodelete),
                ..on("k")
            },
            "0:k=1<, 0:k=2<",
        ),
        (on_all(), "0:k=1<, 0:k=2<, 1:k=<"),
        (
            pb::WatchCreateRequest {
                key: Bytes::new(),
                ..on_all()
            },
            "0:k=1<, 0:k=2<, 1:k=<",
        ),
    ];
    for (create, wanted) in cases {
        let mut stream = Stream::open(&server).await;
        stream
            .create(pb::WatchCreateRequest {
                start_revision: first,
                ..create
            })
            .await;
        let mut seen = Vec::new();
        while seen.len() < wanted.split(", ").count() {
            let answer = stream.next().await;
            for ((kind, key, value), event) in events(&answer).into_iter().zip(&answer.events) {
                let before = event.prev_kv.clone().unwrap_or_default().value;
                seen.push(format!(
                    "{kind}:{key}={value}<{}",
                    String::from_utf8_lossy(&before)
                ));
            }
        }
        assert_eq!(seen.join(", "), wanted);
    }
}

#[tokio::test]
async fn a_compacted_start_ends_the_watch_alone() {
    let server = Server::start().await;
    for value in ["1", "2", "3"] {
        server.put("k", value).await;
    }
    let compact = pb::CompactionRequest {
        revision: 4,
        physical: true,
    };
    server.kv().compact(compact).await.expect("a compaction");
    let mut stream = Stream::open(&server).await;
    let answer = stream
        .create(pb::WatchCreateRequest {
            start_revision: 2,
            ..on("k")
        })
        .await;
    assert!(!answer.canceled);
    let answer = stream.next().await;
    assert_eq!(
        (answer.watch_id, answer.canceled, answer.compact_revision),
        (0, true, 4)
    );
    stream
        .create(pb::WatchCreateRequest {
            start_revision: 4,
            ..on("k")
        })
        .await;
    assert_eq!(events(&stream.next().await), [(0, "k".into(), "3".into())]);
}

#[tokio::test]
async fn progress_is_never_ahead_of_events() {
    const WRITES: i64 = 200;
    let server = Server::start().await;
    let mut stream = Stream::open(&server).await;
    for key in ["a", "b", "none"] {
        stream.create(on(key)).await;
    }
    let (mut last_event, mut progress) = (0, 0);
    let write = async {
        for at in 0..WRITES {
            server.put(if at % 2 == 0 { "a" } else { "b" }, "v").await;
        }
    };
    let requests = stream.requests.clone();
    let ask = async {
        for _ in 0..50 {
            let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
            let request = pb::WatchRequest {
                request_union: Some(request),
            };
            requests.send(request).await.expect("an open stream");
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        // Revisions start at 2.
        while last_event < WRITES + 1 {
            let answer = stream.next().await;
            if answer.watch_id == -1 {
                assert!(answer.events.is_empty());
                progress = revision(&answer);
                continue;
            }
            for event in &answer.events {
                let at = event.kv.as_ref().expect("a key").mod_revision;
                assert!(at > progress, "event {at} after progress {progress}");
                last_event = last_event.max(at);
            }
        }
    };
    tokio::join!(write, ask, read);
    stream.ask_progress().await;
    while progress < WRITES + 1 {
        let answer = stream.next().await;
        assert_eq!(answer.watch_id, -1);
        progress = revision(&answer);
    }
}

#[tokio::test]
async fn idle_watches_are_told_how_far_they_are() {
    let options = FaceOptions {
        progress_interval: Duration::from_millis(100),
        ..FaceOptions::default()
    };
    let server = Server::start_with(options, None).await;
    let mut stream = Stream::open(&server).await;
    stream.create(on("quiet")).await;
    stream
        .create(pb::WatchCreateRequest {
            progress_notify: true,
            ..on("told")
        })
        .await;
    let written = server.put("other", "v").await;
    loop {
        let answer = stream.next().await;
        assert_eq!((answer.watch_id, answer.events.len()), (1, 0));
        if revision(&answer) == written {
            break;
        }
    }
}

#[tokio::test]
async fn fragments_carry_one_write_in_parts() {
    const VALUE_BYTES: usize = 10_000;
    let options = FaceOptions {
        request_bytes_max: 0,
        ..FaceOptions::default()
    };
    let server = Server::start_with(options, None).await;
    let mut whole = Stream::open(&server).await;
    let mut parts = Stream::open(&server).await;
    whole.create(on_all()).await;
    parts
        .create(pb::WatchCreateRequest {
            fragment: true,
            ..on_all()
        })
        .await;
    let puts = (0..100).map(|at| {
        capstan_store::Op::Put(capstan_store::Put::new(
            format!("{at:03}"),
            vec![b'v'; VALUE_BYTES],
        ))
    });
    let txn = capstan_store::Txn {
        success: puts.collect(),
        ..Default::default()
    };
    capstan_store::Store::txn(&*server.store, txn)
        .await
        .expect("a transaction");
    let all = whole.next().await;
    assert_eq!((all.events.len(), all.fragment), (100, false));
    let mut seen = Vec::new();
    let mut answers = 0;
    loop {
        let answer = parts.next().await;
        answers += 1;
        seen.extend(events(&answer));
        if !answer.fragment {
            break;
        }
    }
    assert_eq!(answers, 2);
    assert_eq!(seen, events(&all));
}

#[tokio::test]
async fn a_busy_watch_leaves_room_for_the_others() {
    const WRITES: usize = 3_000;
    let server = Server::start().await;
    for at in 0..WRITES {
        let put = capstan_store::Put::new("busy", format!("{at}"));
        capstan_store::Store::put(&*server.store, put)
            .await
            .expect("a put");
    }
    let mut stream = Stream::open(&server).await;
    // It has all of history to send; the other begins after it and has one event.
    stream
        .ask(RequestUnion::CreateRequest(pb::WatchCreateRequest {
            start_revision: 1,
            ..on("busy")
        }))
        .await;
    stream.ask(RequestUnion::CreateRequest(on("calm"))).await;
    let mut before = 0;
    let mut calm_since = None;
    loop {
        let answer = stream.next().await;
        if answer.created && answer.watch_id == 1 {
            server.put("calm", "v").await;
            calm_since = Some(before);
        }
        if answer.watch_id == 0 {
            before += answer.events.len();
        } else if !answer.events.is_empty() {
            break;
        }
    }
    assert!(calm_since.expect("created") <= before);
    stream.cancel(0).await;
    while !stream.next().await.canceled {}
}

#[tokio::test]
async fn a_store_that_stops_ends_its_streams() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server).await;
    stream.create(on("k")).await;
    server.store.shutdown().await;
    let end = tokio::time::timeout(PATIENCE, stream.answers.message())
        .await
        .expect("in time");
    let status = end.expect_err("the end");
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::Unavailable, "etcdserver: server stopped")
    );
}
