//! Watches.

use super::{Case, PATIENCE, next};
use crate::{Event, KeyRange, Op, Put, Revision, Txn, Watch, WatchMessage, WatchRequest};

fn request(case: &Case, start_revision: Revision) -> WatchRequest {
    WatchRequest {
        range: case.all(),
        start_revision,
        prev_kv: false,
        progress_notify: false,
    }
}

async fn watch(case: &Case, start_revision: Revision) -> Watch {
    case.store.watch(request(case, start_revision)).await.unwrap()
}

/// The next events as `+key=value` and `-key`, with their revision.
async fn events(case: &Case, watch: &mut Watch) -> (Revision, Vec<String>) {
    let WatchMessage::Events { revision, events } = next(watch).await else {
        panic!("events must come")
    };
    let text = |event: &Event| {
        let kv = event.kv();
        let key = String::from_utf8_lossy(&kv.key[case.prefix.len()..]).into_owned();
        match event {
            Event::Put { .. } => format!("+{key}={}", String::from_utf8_lossy(&kv.value)),
            Event::Delete { .. } => format!("-{key}"),
        }
    };
    assert!(events.iter().all(|event| event.kv().mod_revision <= revision));
    (revision, events.iter().map(text).collect())
}

pub(super) async fn from_now(case: &Case) {
    let before = case.put("a", "old").await;
    let mut watch = watch(case, 0).await;
    assert!(watch.revision >= before);
    case.put("a", "1").await;
    let last = case.delete("a").await;
    assert_eq!(events(case, &mut watch).await, (last - 1, vec!["+a=1".into()]));
    assert_eq!(events(case, &mut watch).await, (last, vec!["-a".into()]));
}

pub(super) async fn from_the_past(case: &Case) {
    let first = case.put("a", "1").await;
    case.put("b", "2").await;
    case.delete("a").await;
    let mut watch = watch(case, first).await;
    case.put("c", "3").await;
    for (after, expected) in ["+a=1", "+b=2", "-a", "+c=3"].into_iter().enumerate() {
        let revision = first + after as i64;
        assert_eq!(
            events(case, &mut watch).await,
            (revision, vec![expected.to_owned()])
        );
    }
}

pub(super) async fn from_a_compacted_revision(case: &Case) {
    let first = case.put("a", "1").await;
    case.put("a", "2").await;
    case.store.compact(first + 1, false).await.unwrap();
    let mut ended = watch(case, first).await;
    assert_eq!(
        next(&mut ended).await,
        WatchMessage::Compacted {
            compact_revision: first + 1
        }
    );
    assert_eq!(ended.messages.recv().await, None);
    let mut watch = watch(case, first + 1).await;
    assert_eq!(events(case, &mut watch).await, (first + 1, vec!["+a=2".into()]));
}

pub(super) async fn from_the_compact_revision_sees_its_delete(case: &Case) {
    case.put("a", "1").await;
    let deleted = case.delete("a").await;
    case.store.compact(deleted, true).await.unwrap();
    let mut watch = watch(case, deleted).await;
    assert_eq!(events(case, &mut watch).await, (deleted, vec!["-a".into()]));
}

pub(super) async fn from_a_future_revision(case: &Case) {
    let now = case.put("a", "1").await;
    let mut watch = watch(case, now + 2).await;
    case.put("a", "2").await;
    let seen = case.put("a", "3").await;
    assert_eq!(events(case, &mut watch).await, (seen, vec!["+a=3".into()]));
}

pub(super) async fn a_revision_is_not_split(case: &Case) {
    let put = |name: &str| Op::Put(Put::new(case.key(name), "1"));
    let mut live = watch(case, 0).await;
    let puts: Vec<Op> = (0..100).map(|n| put(&format!("{n:03}"))).collect();
    let revision = case
        .store
        .txn(Txn {
            success: puts,
            ..Txn::default()
        })
        .await
        .unwrap()
        .revision;
    let mut late = watch(case, revision).await;
    for watch in [&mut live, &mut late] {
        let (seen, events) = events(case, watch).await;
        assert_eq!((seen, events.len()), (revision, 100));
    }
}

pub(super) async fn previous_values(case: &Case) {
    let first = case.put("a", "1").await;
    let asked = WatchRequest {
        prev_kv: true,
        ..request(case, first)
    };
    let mut late = None;
    let mut live = case
        .store
        .watch(WatchRequest {
            start_revision: 0,
            ..asked.clone()
        })
        .await
        .unwrap();
    case.put("a", "2").await;
    case.delete("a").await;
    for watch in [
        &mut live,
        late.get_or_insert(case.store.watch(asked).await.unwrap()),
    ] {
        let mut previous = Vec::new();
        while previous.len() < 2 {
            let WatchMessage::Events { events, .. } = next(watch).await else {
                panic!("events")
            };
            previous.extend(
                events
                    .iter()
                    .filter_map(|event| event.prev_kv().map(|kv| kv.value.clone())),
            );
        }
        assert_eq!(previous, ["1", "2"]);
    }
}

pub(super) async fn ranges(case: &Case) {
    let key = |name: &str| case.key(name);
    let watched = [
        (KeyRange::Key(key("b")), vec!["+b=1"]),
        (KeyRange::Prefix(key("b")), vec!["+b=1", "+ba=1"]),
        (KeyRange::Span(key("b"), key("c")), vec!["+b=1", "+ba=1"]),
        (KeyRange::From(key("ba")), vec!["+ba=1", "+c=1"]),
    ];
    let mut watches = Vec::new();
    for (range, expected) in watched {
        let watch = case
            .store
            .watch(WatchRequest {
                range,
                ..request(case, 0)
            })
            .await
            .unwrap();
        watches.push((watch, expected));
    }
    for name in ["a", "b", "ba", "c"] {
        case.put(name, "1").await;
    }
    for (watch, expected) in &mut watches {
        for event in expected {
            assert_eq!(events(case, watch).await.1, [event.to_owned()]);
        }
    }
}

/// More writes than any queue holds, before the watcher reads the first.
pub(super) async fn a_slow_watcher_misses_nothing(case: &Case) {
    const WRITES: i64 = 2_000;
    let mut watch = watch(case, 0).await;
    let put = |n: i64| {
        let put = Put::new(case.key("a"), n.to_string());
        async { case.store.put(put).await.unwrap().0 }
    };
    let first = put(0).await;
    for n in (1..WRITES).collect::<Vec<_>>().chunks(100) {
        futures::future::join_all(n.iter().map(|n| put(*n))).await;
    }
    for revision in first..first + WRITES {
        let WatchMessage::Events {
            revision: seen,
            events,
        } = next(&mut watch).await
        else {
            panic!("events")
        };
        assert_eq!((seen, events.len()), (revision, 1));
    }
}

pub(super) async fn progress(case: &Case) {
    let range = KeyRange::Key(case.key("quiet"));
    let asked = WatchRequest {
        range,
        progress_notify: true,
        ..request(case, 0)
    };
    let mut watch = case.store.watch(asked).await.unwrap();
    let other = case.put("loud", "1").await;
    loop {
        match next(&mut watch).await {
            WatchMessage::Progress { revision } if revision >= other => break,
            WatchMessage::Progress { .. } => {}
            message => panic!("{message:?}"),
        }
    }
    let seen = case.put("quiet", "1").await;
    assert_eq!(events(case, &mut watch).await, (seen, vec!["+quiet=1".into()]));
}

/// Asked for, progress comes after all events up to the revision that it names.
pub(super) async fn progress_on_request(case: &Case) {
    let mut watch = watch(case, 0).await;
    let last = case.put("a", "1").await;
    match next(&mut watch).await {
        WatchMessage::Events { revision, .. } => assert_eq!(revision, last),
        other => panic!("{other:?}"),
    }
    // A store may leave one unanswered while it has events to send; it is asked again. An old etcd answers
    // with its next notice of progress, which comes in its own time.
    let answered = async {
        loop {
            watch.progress.send();
            let message = tokio::time::timeout(PATIENCE / 100, watch.messages.recv()).await;
            if let Ok(message) = message {
                return message;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Some(WatchMessage::Progress { revision })) => assert!(revision >= last),
        other => panic!("{other:?}"),
    }
}

/// Asked for in the midst of writes, progress names no revision whose events are yet to come.
pub(super) async fn progress_never_overtakes_events(case: &Case) {
    const WRITES: i64 = 500;
    let mut watch = watch(case, 0).await;
    let writes = async {
        let mut last = 0;
        for n in 0..WRITES {
            last = case.put("a", &n.to_string()).await;
        }
        last
    };
    let ask = watch.progress.clone();
    let (mut seen, mut progress) = (0, 0);
    let reads = async {
        while seen < WRITES {
            ask.send();
            match next(&mut watch).await {
                WatchMessage::Events { revision, .. } => {
                    assert!(
                        revision > progress,
                        "{revision} comes after progress of {progress}"
                    );
                    seen += 1;
                }
                WatchMessage::Progress { revision } => progress = revision,
                message => panic!("{message:?}"),
            }
        }
    };
    let (last, ()) = futures::future::join(writes, reads).await;
    assert!(progress <= last);
}
