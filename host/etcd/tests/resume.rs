//! Connections that break, again and again: watches lose nothing and get nothing twice, reads go on, and a write
//! of unknown outcome is said to be one.

#![allow(clippy::unwrap_used)]

mod rig;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use capstan_etcd::remote::{RemoteOptions, RemoteStore};
use capstan_store::{Error, KeyRange, Put, RangeRequest, Store, WatchMessage, WatchRequest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(60);
const WRITES: usize = 400;
const CUTS: usize = 12;

/// Passes bytes on to a member until its connections are cut.
struct Proxy {
    address: SocketAddr,
    cut: watch::Sender<usize>,
}

impl Proxy {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, cuts) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(to).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut }
    }

    fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn watch_all(prefix: &'static str, start_revision: i64) -> WatchRequest {
    WatchRequest {
        range: KeyRange::Prefix(prefix.into()),
        start_revision,
        prev_kv: false,
        progress_notify: true,
    }
}

/// Reads a watch until it has all revisions up to the last one; each once, in order.
async fn read_all(store: &RemoteStore, first: i64, last: i64, slow: bool) {
    let mut watch = store.watch(watch_all("k/", first)).await.unwrap();
    let mut next = first;
    while next <= last {
        let message = tokio::time::timeout(PATIENCE, watch.messages.recv()).await;
        match message
            .expect("a message must come")
            .expect("the watch must not end")
        {
            WatchMessage::Events { revision, events } => {
                assert_eq!((revision, events.len()), (next, 1));
                next += 1;
                if slow && next % 50 == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            WatchMessage::Progress { revision } => assert!(revision < next, "progress ahead of events"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_outlive_their_connections() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::seed(seed);
    let member = rig::Member::start(&[]).await;
    let direct = RemoteStore::connect(RemoteOptions::new([member.url()]))
        .await
        .unwrap();
    let proxy = Proxy::start(member.process().client_addresses()[0]).await;
    let broken = RemoteStore::connect(RemoteOptions::new([proxy.url()]))
        .await
        .unwrap();
    let broken = Arc::new(broken);
    let first = direct.put(Put::new("k/0", "0")).await.unwrap().0;
    let last = first + WRITES as i64;
    let readers: Vec<_> = (0..8)
        .map(|n| {
            let store = broken.clone();
            tokio::spawn(async move { read_all(&store, first, last, n % 2 == 0).await })
        })
        .collect();
    let writer = async {
        for n in 1..=WRITES {
            direct
                .put(Put::new(format!("k/{}", n % 7), n.to_string()))
                .await
                .unwrap();
            if n % (WRITES / CUTS) == 0 {
                proxy.cut();
                // Reads are tried again until they are answered.
                broken.range(RangeRequest::key("k/0")).await.unwrap();
            }
        }
    };
    writer.await;
    for reader in readers {
        reader.await.unwrap();
    }
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_happens_once_or_its_outcome_is_unknown() {
    let member = rig::Member::start(&[]).await;
    let direct = RemoteStore::connect(RemoteOptions::new([member.url()]))
        .await
        .unwrap();
    let proxy = Proxy::start(member.process().client_addresses()[0]).await;
    let broken = RemoteStore::connect(RemoteOptions::new([proxy.url()]))
        .await
        .unwrap();
    let cutter = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(5..30))).await;
            proxy.cut();
        }
    };
    let writer = async {
        let (mut done, mut unknown) = (0_i64, 0_i64);
        for n in 0..600 {
            match broken.put(Put::new("counted", n.to_string())).await {
                Ok(_) => done += 1,
                Err(Error::Unknown(_)) => unknown += 1,
                Err(error) => panic!("{error}"),
            }
        }
        (done, unknown)
    };
    let ((), (done, unknown)) = tokio::join!(cutter, writer);
    let version = direct.range(RangeRequest::key("counted")).await.unwrap().kvs[0].version;
    println!("{done} done, {unknown} unknown, {version} happened");
    assert!((done..=done + unknown).contains(&version));
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_do_not_answer_are_passed_by() {
    let member = rig::Member::start(&[]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = [
        format!("http://127.0.0.1:{}", rig::free_port()),
        format!("http://{}", silent.local_addr().unwrap()),
        member.url(),
    ];
    let mut options = RemoteOptions::new(urls);
    options.request_timeout = Duration::from_secs(1);
    let store = RemoteStore::connect(options.clone()).await.unwrap();
    store.range(RangeRequest::key("a")).await.unwrap();
    let mut watch = store.watch(watch_all("a", 0)).await.unwrap();
    RemoteStore::connect(RemoteOptions::new([member.url()]))
        .await
        .unwrap()
        .put(Put::new("a", "b"))
        .await
        .unwrap();
    let message = tokio::time::timeout(PATIENCE, watch.messages.recv()).await;
    assert!(matches!(message, Ok(Some(WatchMessage::Events { .. }))));
    member.stop().await;

    options.endpoints.pop();
    options.request_timeout = Duration::from_millis(200);
    let nobody = RemoteStore::connect(options).await;
    assert!(matches!(nobody, Err(Error::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_read_comes_in_pages_of_one_revision() {
    const KEYS: usize = 3_000;
    let member = rig::Member::start(&[]).await;
    let store = RemoteStore::connect(RemoteOptions::new([member.url()]))
        .await
        .unwrap();
    for n in (0..KEYS).collect::<Vec<_>>().chunks(100) {
        let put = |n: &usize| capstan_store::Op::Put(Put::new(format!("p/{n:05}"), vec![7; 2_000]));
        let txn = capstan_store::Txn {
            success: n.iter().map(put).collect(),
            ..capstan_store::Txn::default()
        };
        store.txn(txn).await.unwrap();
    }
    for limit in [0, 1, 499, 500, 501, 2_999, 3_000, 9_000] {
        let request = RangeRequest {
            limit,
            ..RangeRequest::prefix("p/")
        };
        let mut stream = store.range_stream(request).await.unwrap();
        let expected = if limit == 0 { KEYS } else { limit.min(KEYS) };
        assert_eq!(
            (stream.count, stream.more),
            (KEYS as i64, expected < KEYS),
            "limit {limit}"
        );
        store
            .delete(KeyRange::Key("p/02000".into()), false)
            .await
            .unwrap();
        let mut keys = Vec::new();
        while let Some(page) = stream.pages.recv().await {
            let page = page.unwrap();
            assert!(page.iter().map(|kv| kv.value.len()).sum::<usize>() <= 2 * 1024 * 1024);
            keys.extend(page.into_iter().map(|kv| kv.key));
        }
        assert!(keys.is_sorted());
        assert_eq!(keys.len(), expected, "limit {limit}");
        store.put(Put::new("p/02000", vec![7; 2_000])).await.unwrap();
    }
    member.stop().await;
}
