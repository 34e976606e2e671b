//! What one member's state knows and does, through the store's public face: users and permissions, alarms and
//! quota, long reads, hashes and backups, compaction under load, and the bugs of etcd's history.

#![allow(clippy::unwrap_used)]

mod auth;
mod compaction;
mod history;
mod maintenance;
mod streams;

use std::time::Duration;

use capstan_store::{
    KeyRange, LocalStore, Op, Options, Put, RangeRequest, Revision, Store, Txn, Watch, WatchMessage,
    WatchRequest,
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store in a folder of its own.
struct Fixture {
    dir: tempfile::TempDir,
    store: LocalStore,
}

impl Fixture {
    async fn new(adjust: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path());
        options.bcrypt_cost = 4;
        adjust(&mut options);
        let store = LocalStore::open(options).await.unwrap();
        Self { dir, store }
    }

    /// Stops it and starts it again.
    async fn reopened(self) -> Self {
        self.store.shutdown().await;
        let store = LocalStore::open(Options::new(self.dir.path())).await.unwrap();
        Self { store, ..self }
    }

    async fn put(&self, key: &str, value: &str) -> Revision {
        self.store
            .put(Put::new(key.to_owned(), value.to_owned()))
            .await
            .unwrap()
            .0
    }

    async fn delete(&self, key: &str) -> Revision {
        let range = KeyRange::Key(key.to_owned().into());
        self.store.delete(range, false).await.unwrap().0
    }

    /// Writes `count` keys of one length, many at a time.
    async fn fill(&self, prefix: &str, count: usize, value_bytes: usize) {
        let keys: Vec<usize> = (0..count).collect();
        for chunk in keys.chunks((1_000_000 / (value_bytes + 50)).clamp(1, 100)) {
            let puts = chunk
                .iter()
                .map(|n| Op::Put(Put::new(format!("{prefix}{n:07}"), vec![7; value_bytes])));
            let txn = Txn {
                success: puts.collect(),
                ..Txn::default()
            };
            self.store.txn(txn).await.unwrap();
        }
    }

    async fn watch(&self, prefix: &str, start_revision: Revision) -> Watch {
        let request = WatchRequest {
            range: KeyRange::Prefix(prefix.to_owned().into()),
            start_revision,
            prev_kv: true,
            progress_notify: false,
        };
        self.store.watch(request).await.unwrap()
    }

    async fn count(&self, prefix: &str) -> i64 {
        let request = RangeRequest {
            count_only: true,
            ..RangeRequest::prefix(prefix.to_owned())
        };
        self.store.range(request).await.unwrap().count
    }
}

/// The next message, or a panic when none comes.
async fn next(watch: &mut Watch) -> WatchMessage {
    let message = tokio::time::timeout(PATIENCE, watch.messages.recv()).await;
    message
        .expect("a message must come")
        .expect("the watch must not end")
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("waited too long: {what}"));
}
