//! Long reads: whole, in order, of one revision whatever happens meanwhile, a page at a time.

use bytes::Bytes;
use capstan_store::{KeyValue, RangeRequest, RangeStream, Sort, SortTarget, Store};

use super::Fixture;

const KEYS: usize = 5_000;

async fn drain(mut stream: RangeStream) -> Vec<KeyValue> {
    let mut kvs = Vec::new();
    while let Some(page) = stream.pages.recv().await {
        let page = page.unwrap();
        let bytes: usize = page.iter().map(|kv| kv.value.len()).sum();
        assert!(!page.is_empty() && page.len() <= 1_000 && (bytes <= 512 * 1024 || page.len() == 1));
        kvs.extend(page);
    }
    kvs
}

/// Bytes of a protobuf varint field of etcd's `KeyValue`, straight from protobuf's rules.
fn wire_bytes(kvs: &[KeyValue]) -> u64 {
    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value > 127 {
            out.push(value as u8 | 128);
            value >>= 7;
        }
        out.push(value as u8);
    }
    let mut all = Vec::new();
    for kv in kvs {
        let mut one = Vec::new();
        let numbers = [
            (2, kv.create_revision),
            (3, kv.mod_revision),
            (4, kv.version),
            (6, kv.lease),
        ];
        for (field, value) in numbers.into_iter().filter(|(_, value)| *value != 0) {
            varint(field << 3, &mut one);
            varint(value as u64, &mut one);
        }
        for (field, bytes) in [(1, &kv.key), (5, &kv.value)] {
            if !bytes.is_empty() {
                varint(field << 3 | 2, &mut one);
                varint(bytes.len() as u64, &mut one);
                one.extend_from_slice(bytes);
            }
        }
        varint(2 << 3 | 2, &mut all);
        varint(one.len() as u64, &mut all);
        all.extend_from_slice(&one);
    }
    all.len() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_the_answer_in_pages() {
    let fixture = Fixture::new(|_| {}).await;
    fixture.fill("a/", KEYS, 10).await;
    fixture.fill("b/", 30, 100_000).await;
    let (lease, _) = fixture.store.lease_grant(0, 100).await.unwrap();
    for n in [3, 17, 4_711] {
        let put = capstan_store::Put {
            lease,
            ..capstan_store::Put::new(format!("a/{n:07}"), "newer")
        };
        fixture.store.put(put).await.unwrap();
    }
    let all = RangeRequest::prefix("");
    let sorted = |target, descending| RangeRequest {
        sort: Some(Sort { target, descending }),
        ..all.clone()
    };
    let requests = [
        all.clone(),
        RangeRequest {
            limit: 1_234,
            ..all.clone()
        },
        RangeRequest {
            keys_only: true,
            ..all.clone()
        },
        RangeRequest {
            count_only: true,
            ..all.clone()
        },
        RangeRequest {
            min_mod_revision: 50,
            ..all.clone()
        },
        RangeRequest {
            max_create_revision: 20,
            limit: 7,
            ..all.clone()
        },
        RangeRequest {
            revision: 30,
            ..all.clone()
        },
        RangeRequest {
            limit: 1,
            ..RangeRequest::prefix("none")
        },
        RangeRequest {
            limit: 1_500,
            ..sorted(SortTarget::Key, true)
        },
        RangeRequest {
            limit: 4,
            ..sorted(SortTarget::ModRevision, true)
        },
        RangeRequest {
            limit: 2,
            keys_only: true,
            ..sorted(SortTarget::Version, true)
        },
        RangeRequest {
            limit: 9,
            ..sorted(SortTarget::Value, true)
        },
        sorted(SortTarget::CreateRevision, false),
    ];
    for request in requests {
        let whole = fixture.store.range(request.clone()).await.unwrap();
        let stream = fixture.store.range_stream(request.clone()).await.unwrap();
        assert_eq!(
            (stream.revision, stream.count, stream.more),
            (whole.revision, whole.count, whole.more),
            "{request:?}"
        );
        let wire = stream.kvs_wire_bytes;
        let kvs = if wire.is_some() {
            drain(stream).await
        } else {
            whole.kvs.clone()
        };
        assert!(
            kvs == whole.kvs,
            "{request:?}: {} and {} keys",
            kvs.len(),
            whole.kvs.len()
        );
        assert!(wire.is_none_or(|wire| wire == wire_bytes(&kvs)), "{request:?}");
    }
    fixture.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_in_the_middle_takes_nothing_away() {
    let fixture = Fixture::new(|_| {}).await;
    fixture.fill("k/", KEYS, 500).await;
    let by_revision = RangeRequest {
        sort: Some(Sort {
            target: SortTarget::ModRevision,
            descending: true,
        }),
        ..RangeRequest::prefix("k/")
    };
    let before = fixture.store.range(RangeRequest::prefix("k/")).await.unwrap().kvs;
    let mut plain = fixture
        .store
        .range_stream(RangeRequest::prefix("k/"))
        .await
        .unwrap();
    let sorted = fixture.store.range_stream(by_revision).await.unwrap();
    let first = plain.pages.recv().await.unwrap().unwrap();
    // Everything that they read is overwritten or deleted, and then forgotten.
    fixture.fill("k/", KEYS / 2, 500).await;
    fixture
        .store
        .delete(capstan_store::KeyRange::Prefix("k/0003".into()), false)
        .await
        .unwrap();
    let now = fixture.store.status().await.unwrap().revision;
    fixture.store.compact(now, false).await.unwrap();
    let rest = drain(plain).await;
    assert!(first.into_iter().chain(rest).eq(before.iter().cloned()));
    let mut again = drain(sorted).await;
    again.sort_by(|one, other| one.key.cmp(&other.key));
    assert!(again == before);
    // And with the readers gone it is forgotten.
    fixture.store.compact(now + 1, true).await.unwrap_err();
    fixture.store.defragment().await.unwrap();
    let in_use = fixture.store.sizes().db_size_in_use_bytes;
    let live = fixture.count("").await as u64;
    assert!(in_use < live * 600, "{in_use} bytes for {live} keys");
    fixture.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_dropped_holds_nothing_back() {
    let fixture = Fixture::new(|_| {}).await;
    fixture.fill("k/", KEYS, 100).await;
    let stream = fixture
        .store
        .range_stream(RangeRequest::prefix("k/"))
        .await
        .unwrap();
    fixture.fill("k/", KEYS, 100).await;
    let now = fixture.store.status().await.unwrap().revision;
    drop(stream);
    fixture.store.compact(now, true).await.unwrap();
    let key: Bytes = "k/0000001".into();
    assert_eq!(
        fixture.store.range(RangeRequest::key(key)).await.unwrap().kvs[0].version,
        2
    );
    assert!(fixture.store.sizes().db_size_in_use_bytes < KEYS as u64 * 200);
    fixture.store.shutdown().await;
}
