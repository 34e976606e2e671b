//! All pods of this node: hears of them from the API server and the runtime, and tells each pod's worker.
//!
//! Invariants: one worker a pod uid; a worker that ended is not started again while its object is still seen
//! (finalizers may keep it); what the runtime has without an object is removed once the first list is in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use capstan_client::{Change, Changes, Informer};
use capstan_runtime::{ContainerState, SandboxState};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};

use crate::context::Node;
use crate::pod::{Event, Worker, spec};

/// The runtime is listed anew at least this often, whatever it says.
const RELIST: Duration = Duration::from_secs(30);
/// Pause after the runtime failed to list.
const RELIST_RETRY: Duration = Duration::from_secs(1);
/// Time for all pods to stop when the kubelet does.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// What of a pod in the runtime makes its worker look again.
type Digest = Vec<(String, u8)>;

/// The task that owns the map of workers.
pub(crate) struct Pods {
    node: Arc<Node>,
    informer: Informer<Pod>,
    feed: Changes<Pod>,
    workers: HashMap<String, mpsc::Sender<Event>>,
    ended: HashSet<String>,
    tasks: JoinSet<()>,
    uids: HashMap<Id, String>,
    digests: BTreeMap<String, Digest>,
    orphans: JoinSet<()>,
}

impl Pods {
    /// To be run after the informer's first list.
    pub(crate) fn new(node: Arc<Node>, informer: Informer<Pod>) -> Self {
        let feed = informer.subscribe();
        Self {
            node,
            informer,
            feed,
            workers: HashMap::new(),
            ended: HashSet::new(),
            tasks: JoinSet::new(),
            uids: HashMap::new(),
            digests: BTreeMap::new(),
            orphans: JoinSet::new(),
        }
    }

    /// Runs until told to stop; then stops the pods, within a bound.
    pub(crate) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        self.relist_pods().await;
        self.sweep().await;
        let cri = Arc::clone(&self.node.cri);
        let mut changed: BoxFuture<'_, ()> = Box::pin(cri.changed());
        let mut relist = tokio::time::Instant::now();
        let mut swaps = self.node.sidecars.swaps();
        let mut row_is_final = false;
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => break,
                change = self.feed.recv() => self.change(change).await,
                Some(ended) = self.tasks.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(error) => {
                            tracing::error!(%error, "a pod's worker failed");
                            error.id()
                        }
                    };
                    self.worker_ended(id);
                }
                () = &mut changed => {
                    changed = Box::pin(cri.changed());
                    // Registers for the next change before looking at this one.
                    while futures::poll!(&mut changed).is_ready() {
                        changed = Box::pin(cri.changed());
                    }
                    relist = tokio::time::Instant::now() + self.runtime_changed().await;
                }
                () = tokio::time::sleep_until(relist) => {
                    relist = tokio::time::Instant::now() + self.runtime_changed().await;
                }
                swapped = swaps.changed(), if !row_is_final => {
                    row_is_final = swapped.is_err();
                    for worker in self.workers.values() {
                        let _ = worker.send(Event::Runtime).await;
                    }
                }
                Some(_) = self.orphans.join_next() => {}
            }
        }
        self.shut_down().await;
    }

    async fn change(&mut self, change: Result<Change<Pod>, RecvError>) {
        match change {
            Ok(Change::Upserted(pod)) => self.upsert(pod).await,
            Ok(Change::Deleted(pod)) => self.removed(spec::uid(&pod)).await,
            Ok(Change::Relisted) | Err(RecvError::Lagged(_)) => self.relist_pods().await,
            // The informer is held, so its feed does not close.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    async fn relist_pods(&mut self) {
        let pods = self.informer.list();
        let present: HashSet<String> = pods.iter().map(|pod| spec::uid(pod).to_owned()).collect();
        for pod in pods {
            self.upsert(pod).await;
        }
        let gone: Vec<String> = self
            .workers
            .keys()
            .filter(|uid| !present.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.removed(&uid).await;
        }
        self.ended.retain(|uid| present.contains(uid));
    }

    async fn upsert(&mut self, pod: Arc<Pod>) {
        let uid = spec::uid(&pod).to_owned();
        if self.ended.contains(&uid) {
            return;
        }
        if let Some(worker) = self.workers.get(&uid) {
            let _ = worker.send(Event::Object(pod)).await;
            return;
        }
        let (sender, run) = Worker::start(Arc::clone(&self.node), pod);
        let task = self.tasks.spawn(run);
        self.uids.insert(task.id(), uid.clone());
        self.workers.insert(uid, sender);
    }

    async fn removed(&mut self, uid: &str) {
        self.ended.remove(uid);
        if let Some(worker) = self.workers.get(uid) {
            let _ = worker.send(Event::Removed).await;
        }
    }

    fn worker_ended(&mut self, id: Id) {
        if let Some(uid) = self.uids.remove(&id) {
            self.workers.remove(&uid);
            self.node.sidecars.forget(&uid);
            let seen = self.informer.list().iter().any(|pod| spec::uid(pod) == uid);
            if seen {
                self.ended.insert(uid);
            }
        }
    }

    /// Tells the workers of pods whose part of the runtime changed; how long until the next look.
    async fn runtime_changed(&mut self) -> Duration {
        let digests = match self.digests().await {
            Ok(digests) => digests,
            Err(error) => {
                tracing::warn!(%error, "runtime did not answer");
                return RELIST_RETRY;
            }
        };
        for (uid, worker) in &self.workers {
            if digests.get(uid) != self.digests.get(uid) {
                let _ = worker.send(Event::Runtime).await;
            }
        }
        self.digests = digests;
        RELIST
    }

    async fn digests(&self) -> capstan_runtime::Result<BTreeMap<String, Digest>> {
        let mut digests: BTreeMap<String, Digest> = BTreeMap::new();
        let sandboxes = self.node.cri.list_pod_sandbox().await?;
        let mut owners = HashMap::new();
        for sandbox in &sandboxes {
            owners.insert(sandbox.id.as_str(), sandbox.metadata.uid.as_str());
            let state = u8::from(sandbox.state == SandboxState::Ready);
            digests
                .entry(sandbox.metadata.uid.clone())
                .or_default()
                .push((sandbox.id.clone(), state));
        }
        for container in self.node.cri.list_containers().await? {
            let Some(uid) = owners.get(container.sandbox_id.as_str()) else {
                continue;
            };
            let state = match container.state {
                ContainerState::Created => 2,
                ContainerState::Running => 3,
                ContainerState::Exited => 4,
                ContainerState::Unknown => 5,
            };
            digests
                .entry((*uid).to_owned())
                .or_default()
                .push((container.id, state));
        }
        digests.values_mut().for_each(|digest| digest.sort());
        Ok(digests)
    }

    /// Removes sandboxes and folders that no pod of this node owns.
    async fn sweep(&mut self) {
        let sandboxes = self.node.cri.list_pod_sandbox().await.unwrap_or_default();
        for sandbox in sandboxes {
            if self.workers.contains_key(&sandbox.metadata.uid) {
                continue;
            }
            let cri = Arc::clone(&self.node.cri);
            self.orphans.spawn(async move {
                let gone = match cri.stop_pod_sandbox(&sandbox.id).await {
                    Ok(()) => cri.remove_pod_sandbox(&sandbox.id).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = gone {
                    tracing::warn!(%error, sandbox = sandbox.id, "orphaned sandbox not removed");
                }
            });
        }
        for folder in [self.node.folders.pods(), self.node.folders.logs()] {
            let known: HashSet<String> = self.workers.keys().cloned().collect();
            self.orphans.spawn_blocking(move || sweep_folder(&folder, &known));
        }
    }

    async fn shut_down(mut self) {
        for worker in self.workers.values() {
            let _ = worker.send(Event::Shutdown).await;
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_MAX, all).await.is_err() {
            tracing::warn!("some pods did not stop in time");
        }
    }
}

/// Entries are named by uid, or end in `_<uid>`.
fn sweep_folder(folder: &std::path::Path, known: &HashSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let uid = name.rsplit('_').next().unwrap_or_default();
        if !known.contains(uid)
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(%error, folder = %entry.path().display(), "orphaned folder not removed");
        }
    }
}
