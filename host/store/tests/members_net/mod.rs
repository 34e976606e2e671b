//! A cluster in this process: stores, and a network between them that loses, delays and cuts what it is told to.

#![allow(clippy::unwrap_used, dead_code)]

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use capstan_store::{
    ClusterOptions, Error, InitialCluster, LocalStore, Options, Peer, PeerCall, PeerCallKind, PeerChunks,
    PeerError, PeerHandler, PeerTransport, Put, RangeRequest, SNAPSHOT_COUNT, Store,
};
use futures::StreamExt;
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Faults {
    /// Cut from the first to the second.
    cut: HashSet<(String, String)>,
    /// Of a hundred messages so many are lost, before they arrive or on the way back.
    lost_percent: u8,
    delay_max: Duration,
    /// What goes to them and comes from them waits, and arrives later.
    held: HashSet<String>,
    /// Messages of this kind arrive, and no answer comes back.
    unanswered: Option<PeerCallKind>,
    random: fastrand::Rng,
}

/// The network.
#[derive(Default)]
pub(crate) struct Net {
    handlers: Mutex<HashMap<String, PeerHandler>>,
    faults: Mutex<Faults>,
    calls: Mutex<HashMap<PeerCallKind, u64>>,
    pub(crate) streamed_bytes: AtomicU64,
}

pub(crate) fn url(name: &str) -> String {
    format!("http://{name}:2380")
}

impl Net {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        println!("seed {seed}");
        // `RUST_LOG=capstan_store=debug,openraft=info` tells what goes on.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
        let net = Self::default();
        net.faults.lock().unwrap().random = fastrand::Rng::with_seed(seed);
        Arc::new(net)
    }

    /// Cuts both ways between a member and all of the others.
    pub(crate) fn isolate(&self, name: &str, others: &[&str]) {
        let mut faults = self.faults.lock().unwrap();
        for other in others.iter().filter(|other| **other != name) {
            faults.cut.insert((url(name), url(other)));
            faults.cut.insert((url(other), url(name)));
        }
    }

    /// Nothing gets through from the first to the second, answers to the second's messages neither.
    pub(crate) fn cut_one_way(&self, from: &str, to: &str) {
        self.faults.lock().unwrap().cut.insert((url(from), url(to)));
    }

    pub(crate) fn heal(&self) {
        let mut faults = self.faults.lock().unwrap();
        faults.cut.clear();
        faults.held.clear();
        faults.unanswered = None;
        faults.lost_percent = 0;
        faults.delay_max = Duration::ZERO;
    }

    /// What goes to a member and comes from it waits until all is healed, and then arrives: as if it stood still.
    pub(crate) fn hold(&self, name: &str) {
        self.faults.lock().unwrap().held.insert(url(name));
    }

    /// Messages of this kind are carried out, and nobody hears of it.
    pub(crate) fn swallow_answers(&self, kind: PeerCallKind) {
        self.faults.lock().unwrap().unanswered = Some(kind);
    }

    async fn while_held(&self, from: &str, to: &str) {
        let is_held = || {
            let held = &self.faults.lock().unwrap().held;
            held.contains(from) || held.contains(to)
        };
        while is_held() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Loses messages and delays others, so that they overtake one another.
    pub(crate) fn disturb(&self, lost_percent: u8, delay_max: Duration) {
        let mut faults = self.faults.lock().unwrap();
        faults.lost_percent = lost_percent;
        faults.delay_max = delay_max;
    }

    pub(crate) fn count(&self, kind: PeerCallKind) -> u64 {
        self.calls.lock().unwrap().get(&kind).copied().unwrap_or(0)
    }

    fn handler(&self, from: &str, to: &Peer) -> Result<(String, PeerHandler), PeerError> {
        let handlers = self.handlers.lock().unwrap();
        let found = to
            .peer_urls
            .iter()
            .find_map(|url| Some((url.clone(), handlers.get(url)?.clone())));
        let (to, handler) = found.ok_or_else(|| PeerError::Unreachable("connection refused".into()))?;
        if self.is_cut(from, &to) {
            return Err(PeerError::Unreachable("no route".into()));
        }
        Ok((to, handler))
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.faults
            .lock()
            .unwrap()
            .cut
            .contains(&(from.to_owned(), to.to_owned()))
    }

    /// Whether this message gets lost, and how long it takes.
    fn luck(&self) -> (bool, Duration) {
        let faults = &mut *self.faults.lock().unwrap();
        let delay = faults.random.f64() * faults.delay_max.as_secs_f64();
        (
            faults.random.u8(0..100) < faults.lost_percent,
            Duration::from_secs_f64(delay),
        )
    }

    async fn call(&self, from: &str, to: &Peer, call: PeerCall) -> Result<Bytes, PeerError> {
        *self.calls.lock().unwrap().entry(call.kind).or_default() += 1;
        let (to_url, handler) = self.handler(from, to)?;
        let lost = || PeerError::Failed("lost".into());
        let pass = async || {
            let (is_lost, delay) = self.luck();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            is_lost
        };
        self.while_held(from, &to_url).await;
        if pass().await {
            return Err(lost());
        }
        let answer = handler.handle(to.cluster_id, call.kind, call.body).await?;
        self.while_held(from, &to_url).await;
        let is_swallowed = self.faults.lock().unwrap().unanswered == Some(call.kind);
        if pass().await || is_swallowed || self.is_cut(&to_url, from) {
            return Err(lost());
        }
        Ok(answer)
    }
}

/// One member's way into the network.
struct Port {
    net: Arc<Net>,
    own: String,
}

#[async_trait]
impl PeerTransport for Port {
    async fn call(&self, to: &Peer, call: PeerCall) -> Result<Bytes, PeerError> {
        let deadline = call.deadline;
        // What was sent is carried out, whether its sender still waits or not.
        let (net, own, to) = (self.net.clone(), self.own.clone(), to.clone());
        let sent = tokio::spawn(async move { net.call(&own, &to, call).await });
        let answer = tokio::time::timeout(deadline, sent).await;
        answer.map_or_else(
            |_| Err(PeerError::Failed("timed out".into())),
            |answer| answer.unwrap_or_else(|error| Err(PeerError::Failed(error.to_string()))),
        )
    }

    async fn send_stream(
        &self,
        to: &Peer,
        kind: PeerCallKind,
        chunks: PeerChunks,
    ) -> Result<Bytes, PeerError> {
        *self.net.calls.lock().unwrap().entry(kind).or_default() += 1;
        let (to_url, handler) = self.net.handler(&self.own, to)?;
        let (net, own) = (self.net.clone(), self.own.clone());
        let chunks = chunks.map(move |chunk| {
            if net.is_cut(&own, &to_url) {
                return Err(PeerError::Failed("cut".into()));
            }
            let chunk = chunk?;
            net.streamed_bytes
                .fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Ok(chunk)
        });
        handler.handle_stream(to.cluster_id, kind, chunks.boxed()).await
    }
}

/// Members by name.
pub(crate) struct Cluster {
    pub(crate) net: Arc<Net>,
    dirs: HashMap<String, TempDir>,
    pub(crate) stores: HashMap<String, Arc<LocalStore>>,
    founders: Vec<String>,
    snapshot_count: usize,
}

pub(crate) const THREE: [&str; 3] = ["a", "b", "c"];

impl Cluster {
    /// A new cluster, all of whose members are started and one of which leads.
    pub(crate) async fn found(names: &[&str]) -> Self {
        Self::found_with_short_logs(names, SNAPSHOT_COUNT).await
    }

    /// The same, with logs of twice so many entries.
    pub(crate) async fn found_with_short_logs(names: &[&str], snapshot_count: usize) -> Self {
        let mut this = Self {
            net: Net::new(fastrand::u64(..)),
            dirs: HashMap::new(),
            stores: HashMap::new(),
            founders: names.iter().map(ToString::to_string).collect(),
            snapshot_count,
        };
        this.start_all(names).await;
        this.leader().await;
        this
    }

    fn options(&self, name: &str) -> Options {
        let listed = |names: &[String]| names.iter().map(|name| (name.clone(), vec![url(name)])).collect();
        let initial = if self.founders.iter().any(|founder| founder == name) {
            InitialCluster::New(listed(&self.founders))
        } else {
            InitialCluster::Existing(listed(&self.founders))
        };
        Options {
            cluster: ClusterOptions {
                name: name.into(),
                token: "test".into(),
                peer_urls: vec![url(name)],
                client_urls: vec![format!("http://{name}:2379")],
                initial,
                heartbeat: Duration::from_millis(50),
                election: Duration::from_millis(500),
                transport: Some(Arc::new(Port {
                    net: self.net.clone(),
                    own: url(name),
                })),
                snapshot_count: self.snapshot_count,
                ..ClusterOptions::default()
            },
            ..Options::new(self.dir(name))
        }
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.dirs[name].path().to_owned()
    }

    pub(crate) async fn start(&mut self, name: &str) {
        self.dirs
            .entry(name.into())
            .or_insert_with(|| tempfile::tempdir().unwrap());
        let options = self.options(name);
        self.start_with(name, options).await;
    }

    /// Tries to start one with the data that it has.
    pub(crate) async fn try_start(&self, name: &str) -> Result<LocalStore, Error> {
        LocalStore::open(self.options(name)).await
    }

    /// Starts some together.
    pub(crate) async fn start_all(&mut self, names: &[&str]) {
        for name in names {
            self.dirs
                .entry((*name).into())
                .or_insert_with(|| tempfile::tempdir().unwrap());
        }
        let opening = names.iter().map(|name| LocalStore::open(self.options(name)));
        let stores = futures::future::join_all(opening).await;
        for (name, store) in names.iter().zip(stores) {
            self.admit(name, store.unwrap());
        }
    }

    /// Starts one by itself, with the data that it has, as the only member.
    pub(crate) async fn start_forced(&mut self, name: &str) {
        let mut options = self.options(name);
        options.cluster.force_new_cluster = true;
        self.start_with(name, options).await;
    }

    async fn start_with(&mut self, name: &str, options: Options) {
        let store = LocalStore::open(options).await.unwrap();
        self.admit(name, store);
    }

    fn admit(&mut self, name: &str, store: LocalStore) {
        self.net.handlers.lock().unwrap().insert(url(name), store.peers());
        self.stores.insert(name.into(), Arc::new(store));
    }

    /// Stops all together.
    pub(crate) async fn stop_all(&mut self) {
        self.net.handlers.lock().unwrap().clear();
        let stopping = self
            .stores
            .drain()
            .map(|(_, store)| async move { store.shutdown().await });
        futures::future::join_all(stopping.collect::<Vec<_>>()).await;
    }

    pub(crate) async fn stop(&mut self, name: &str) {
        self.net.handlers.lock().unwrap().remove(&url(name));
        if let Some(store) = self.stores.remove(name) {
            store.shutdown().await;
        }
    }

    /// Stops one and forgets all that it had.
    pub(crate) async fn destroy(&mut self, name: &str) {
        self.stop(name).await;
        self.dirs.remove(name);
    }

    pub(crate) fn store(&self, name: &str) -> Arc<LocalStore> {
        self.stores[name].clone()
    }

    pub(crate) fn id(&self, name: &str) -> u64 {
        self.stores[name].identity().member_id
    }

    /// The member that all that run agree to be led by.
    pub(crate) async fn leader(&self) -> String {
        let names: Vec<&str> = self.stores.keys().map(String::as_str).collect();
        self.leader_among(&names).await
    }

    /// The same for some of them.
    pub(crate) async fn leader_among(&self, names: &[&str]) -> String {
        let ids: HashMap<u64, &str> = names.iter().map(|name| (self.id(name), *name)).collect();
        let found = eventually("a leader", || async {
            let seen: HashSet<u64> = names
                .iter()
                .map(|name| self.stores[*name].raft().leader)
                .collect();
            let one = (seen.len() == 1).then(|| seen.into_iter().next()).flatten()?;
            ids.get(&one).map(ToString::to_string)
        });
        found.await
    }

    /// One that does not lead.
    pub(crate) async fn follower(&self) -> String {
        let leader = self.leader().await;
        let mut names: Vec<_> = self.stores.keys().filter(|name| **name != leader).collect();
        names.sort();
        names[0].clone()
    }

    /// All but one.
    pub(crate) fn others(&self, name: &str) -> Vec<String> {
        let mut others: Vec<_> = self
            .stores
            .keys()
            .filter(|other| *other != name)
            .cloned()
            .collect();
        others.sort();
        others
    }

    pub(crate) async fn shutdown(mut self) {
        self.stop_all().await;
    }
}

/// Writes counters, each to a key of its own, until told to stop.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    running: Vec<(String, tokio::task::JoinHandle<u64>)>,
}

impl Writers {
    /// So many writers at each of these members.
    pub(crate) fn start(cluster: &Cluster, names: &[&str], prefix: &str, each: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let places = names.iter().flat_map(|name| (0..each).map(move |at| (*name, at)));
        let running = places.map(|(name, at)| {
            let key = format!("{prefix}/{name}/{at}");
            let writing = write(cluster.store(name), key.clone(), stop.clone());
            (key, tokio::spawn(writing))
        });
        Self {
            running: running.collect(),
            stop,
        }
    }

    /// Each key and the last counter that was acknowledged.
    pub(crate) async fn stop(self) -> Vec<(String, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for (key, writer) in self.running {
            acknowledged.push((key, writer.await.unwrap()));
        }
        acknowledged
    }
}

async fn write(store: Arc<LocalStore>, key: String, stop: Arc<AtomicBool>) -> u64 {
    let mut acknowledged = 0;
    for count in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match store.put(Put::new(key.clone(), count.to_string())).await {
            Ok(_) => acknowledged = count,
            Err(Error::Corrupt(text)) => panic!("{text}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
    acknowledged
}

/// Reads at these members that nothing acknowledged is lost.
pub(crate) async fn check_kept(cluster: &Cluster, names: &[&str], acknowledged: &[(String, u64)]) {
    for (key, acknowledged) in acknowledged {
        for name in names {
            let kept: u64 = value(&cluster.store(name), key, false)
                .await
                .map_or(0, |kept| kept.parse().unwrap());
            assert!(
                kept >= *acknowledged,
                "{key} on {name}: {acknowledged} acknowledged, {kept} kept"
            );
        }
    }
}

/// A key's value.
pub(crate) async fn value(store: &LocalStore, key: &str, serializable: bool) -> Option<String> {
    let request = RangeRequest {
        serializable,
        ..RangeRequest::key(key.to_owned())
    };
    let answer = store.range(request).await.unwrap();
    answer
        .kvs
        .first()
        .map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
}

/// Waits for a condition.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
