//! Sidecar logic attached to pods without a container: log lines on their way to storage, metrics pages in
//! another form.
//!
//! A container that a log transform selects when it starts writes its raw log to `<attempt>.raw`; a pump
//! carries the lines through the seats' streams into `<attempt>.log`, which is what anybody reads. Seats may
//! change at any time. A container that is selected only while it runs is cut over (`log/splice.rs`): its lines
//! from then on are transformed, those before stay as they were.

mod adapter;
mod chain;
mod pump;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capstan_points::Seats;
use capstan_points::sidecar::{Sidecar, StreamContext};
use capstan_runtime::{ContainerState, ContainerStatus};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::context::Node;
use crate::log::splice;
use crate::pod::spec;
use pump::{Asked, Pump};

/// Longest wait of a reader for lines that are still on their way.
const SETTLE_MAX: Duration = Duration::from_secs(1);

struct Pumping {
    uid: String,
    asked: watch::Sender<Asked>,
    settled: watch::Receiver<u64>,
    task: AbortHandle,
}

struct Adapting {
    address: String,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    pumps: HashMap<String, Pumping>,
    adapters: HashMap<String, Adapting>,
}

/// The sidecars of this node's pods.
pub(crate) struct Sidecars {
    seats: Seats<dyn Sidecar>,
    state: Mutex<State>,
}

impl Sidecars {
    pub(crate) fn new(seats: Seats<dyn Sidecar>) -> Self {
        Self {
            seats,
            state: Mutex::default(),
        }
    }

    fn transforms(&self, pod: &Pod) -> bool {
        let row = Arc::clone(&self.seats.borrow());
        let labels = labels(pod);
        row.iter()
            .any(|seat| seat.policy.transforms_logs() && seat.policy.selects(spec::namespace(pod), &labels))
    }

    /// The raw log of a run that needs a pump, the log that readers see, and where in the raw one to begin.
    fn places(&self, node: &Node, pod: &Pod, run: &ContainerStatus) -> Option<(PathBuf, PathBuf, u64)> {
        let folder = node.folders.pod_logs(pod).join(&run.metadata.name);
        let attempt = run.metadata.attempt;
        let log = folder.join(format!("{attempt}.log"));
        if run
            .log_path
            .extension()
            .is_some_and(|extension| extension == "raw")
        {
            return Some((folder.join(format!("{attempt}.raw")), log, 0));
        }
        let cut_before = splice::prefix(&log).is_some();
        if !cut_before && (run.state != ContainerState::Running || !self.transforms(pod)) {
            return None;
        }
        match splice::cut(&log) {
            Ok(begin) => Some((log.clone(), splice::successor(&log), begin)),
            Err(error) => {
                tracing::warn!(%error, log = %log.display(), "log not cut over to its sidecar");
                None
            }
        }
    }

    /// Changes when a plugin took or left a seat.
    pub(crate) fn swaps(&self) -> Seats<dyn Sidecar> {
        self.seats.clone()
    }

    /// Where the runtime writes a container's log, below the pod's log folder.
    pub(crate) fn log_path(&self, pod: &Pod, container: &str, attempt: u32) -> String {
        let transformed = self.transforms(pod);
        format!(
            "{container}/{attempt}.{}",
            if transformed { "raw" } else { "log" }
        )
    }

    /// Begins what a pod's containers need and tells running work of ends. Called at every look at the pod.
    pub(crate) fn follow<'a>(
        &self,
        node: &Arc<Node>,
        pod: &Pod,
        runs: impl Iterator<Item = &'a ContainerStatus>,
        address: Option<&str>,
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for run in runs.filter(|run| !run.sandbox_id.is_empty()) {
            let ended = matches!(run.state, ContainerState::Exited | ContainerState::Unknown);
            if let Some(pumping) = state.pumps.get(&run.id) {
                pumping
                    .asked
                    .send_if_modified(|asked| !std::mem::replace(&mut asked.ended, ended) && ended);
                continue;
            }
            let Some((raw, sink, begin)) = self.places(node, pod, run) else {
                continue;
            };
            let (asked, asking) = watch::channel(Asked { count: 0, ended });
            let (settled, settling) = watch::channel(0);
            let pump = Pump {
                raw,
                sink,
                begin,
                context: context(pod, &run.metadata.name),
                labels: labels(pod),
                seats: self.seats.clone(),
                notify: node.notify.clone(),
                asking,
                settled,
            };
            let task = tokio::spawn(pump.run()).abort_handle();
            let pumping = Pumping {
                uid: spec::uid(pod).to_owned(),
                asked,
                settled: settling,
                task,
            };
            state.pumps.insert(run.id.clone(), pumping);
        }
        self.adapt(&mut state, node, pod, address);
    }

    /// Keeps one adapter a pod address.
    fn adapt(&self, state: &mut State, node: &Arc<Node>, pod: &Pod, address: Option<&str>) {
        let uid = spec::uid(pod);
        let address = address.filter(|address| !address.is_empty());
        if let Some(known) = state.adapters.get(uid) {
            if Some(known.address.as_str()) == address {
                return;
            }
            known.task.abort();
            state.adapters.remove(uid);
        }
        let Some(address) = address else { return };
        let adapter = adapter::Adapter {
            pod: Arc::new(pod.clone()),
            address: address.to_owned(),
            context: context(pod, ""),
            labels: labels(pod),
            seats: self.seats.clone(),
            recorder: node.recorder.clone(),
        };
        let task = tokio::spawn(adapter.run()).abort_handle();
        state.adapters.insert(
            uid.to_owned(),
            Adapting {
                address: address.to_owned(),
                task,
            },
        );
    }

    /// Waits until what a container wrote so far is in the log that readers see.
    pub(crate) async fn settle(&self, id: &str) {
        let (goal, mut settled) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(pumping) = state.pumps.get(id) else {
                return;
            };
            pumping.asked.send_modify(|asked| asked.count += 1);
            (pumping.asked.borrow().count, pumping.settled.clone())
        };
        // A held-back stream is no reason to keep a reader waiting longer.
        let _ = tokio::time::timeout(SETTLE_MAX, settled.wait_for(|count| *count >= goal)).await;
    }

    /// The pod is gone.
    pub(crate) fn forget(&self, uid: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pumps.retain(|_, pumping| {
            let stays = pumping.uid != uid;
            if !stays {
                pumping.task.abort();
            }
            stays
        });
        if let Some(adapting) = state.adapters.remove(uid) {
            adapting.task.abort();
        }
    }
}

impl Drop for Sidecars {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.pumps.values().for_each(|pumping| pumping.task.abort());
        state.adapters.values().for_each(|adapting| adapting.task.abort());
    }
}

fn labels(pod: &Pod) -> BTreeMap<String, String> {
    pod.metadata.labels.clone().unwrap_or_default()
}

fn context(pod: &Pod, container: &str) -> StreamContext {
    StreamContext {
        namespace: spec::namespace(pod).to_owned(),
        pod: spec::name(pod).to_owned(),
        container: container.to_owned(),
        labels: labels(pod).into_iter().collect(),
    }
}
