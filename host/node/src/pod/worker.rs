//! The loop of one pod: after every event it looks at the runtime, plans, begins what is to be done and
//! publishes the status if that changed.
//!
//! Invariants: the worker alone owns its pod's memory; it never waits for an action, actions report back as
//! events; a status patch is an action too, so at most one is under way and the newest status wins. Started
//! and fed by `pods.rs`.

mod running;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capstan_runtime::ContainerStatus as Run;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::memory::{Failure, FailureKind, Key, Volumes, short_pause};
use super::perform::{self, Holds, Outcome, Start};
use super::plan::{self, Action, Ending, Plan, Seen};
use super::resize::{self, Applied};
use super::seen::{self, PodRuntime};
use super::{publish, spec, status};
use crate::context::Node;
use crate::pod::memory::Memory;
use crate::probe::{Report, Verdicts};

/// Events that wait for one worker.
const EVENTS_MAX: usize = 256;
/// Pause after the runtime or the API server failed a call that will be repeated.
const RETRY: SignedDuration = SignedDuration::from_secs(1);
/// Pause after a configuration did not resolve; a change of what it refers to ends the pause early.
const CONFIG_RETRY: SignedDuration = SignedDuration::from_secs(10);

/// All that can happen to a pod.
#[derive(Debug)]
pub(crate) enum Event {
    /// Its object is new or different.
    Object(Arc<Pod>),
    /// Its object is gone.
    Removed,
    /// The runtime has news of it.
    Runtime,
    /// An object that it refers to changed.
    Reference,
    /// A probe's verdict turned.
    Probe(Report),
    /// An action ended.
    Done(Key, Outcome),
    /// The kubelet stops.
    Shutdown,
}

/// The worker of one pod.
pub(crate) struct Worker {
    node: Arc<Node>,
    pod: Arc<Pod>,
    holds: Arc<Holds>,
    /// How each container last ended, since the runtime forgets it with the sandbox.
    past: BTreeMap<String, Run>,
    memory: Memory,
    verdicts: Verdicts,
    probes: BTreeMap<String, JoinSet<()>>,
    removed: bool,
    shutdown: bool,
    finished: bool,
    /// The generation whose resources were asked for.
    asked: Option<i64>,
    /// Something that the volumes show changed while they were being made.
    volumes_stale: bool,
    retry_at: Option<Timestamp>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    _watching: JoinSet<()>,
}

impl Worker {
    /// Starts a pod's worker; it is told of events through the sender and ends when the pod is gone.
    pub(crate) fn start(
        node: Arc<Node>,
        pod: Arc<Pod>,
    ) -> (mpsc::Sender<Event>, impl Future<Output = ()> + Send + 'static) {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let holds = Arc::new(perform::hold_references(&node, &pod));
        let watching = watch_references(&holds, &sender);
        let worker = Self {
            past: seen::past(&pod, Timestamp::now()),
            node,
            pod,
            holds,
            memory: Memory::default(),
            verdicts: Verdicts::default(),
            probes: BTreeMap::new(),
            removed: false,
            shutdown: false,
            finished: false,
            asked: None,
            volumes_stale: false,
            retry_at: None,
            events,
            sender: sender.clone(),
            _watching: watching,
        };
        (sender, worker.run())
    }

    async fn run(mut self) {
        loop {
            let wake_at = self.step().await;
            if self.finished {
                return;
            }
            let wake = async {
                match wake_at {
                    Some(at) => tokio::time::sleep(until(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                () = wake => {}
            }
            while let Ok(event) = self.events.try_recv() {
                self.take(event);
            }
        }
    }

    /// Looks, plans, acts, says; when to look again though nothing happens.
    async fn step(&mut self) -> Option<Timestamp> {
        let now = Timestamp::now();
        let mut runtime = match PodRuntime::observe(self.node.cri.as_ref(), spec::uid(&self.pod)).await {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::warn!(pod = spec::full_name(&self.pod), %error, "runtime did not answer");
                return now.saturating_add(RETRY).ok();
            }
        };
        runtime.recall(&self.past);
        self.past = runtime.ended();
        self.follow_probes(&runtime);
        let ending = self.ending(now);
        self.ask_for_room(ending.is_some());
        let (plan, status) = {
            let seen = Seen {
                pod: &self.pod,
                runtime: &runtime,
                memory: &self.memory,
                verdicts: &self.verdicts,
                ending,
                now,
            };
            (plan::plan(&seen), status::build(&seen, &self.node.ip))
        };
        let Plan { actions, mut wake_at } = plan;
        let said = self.publish(status, ending, now);
        for action in actions {
            if said || action != Action::Finish {
                self.begin(action, &runtime, now);
            }
        }
        if self.shutdown && !runtime.any_alive() {
            self.finished = true;
        }
        self.retry_at = self.retry_at.filter(|at| *at > now);
        if let Some(at) = self.retry_at {
            wake_at = Some(wake_at.map_or(at, |before| before.min(at)));
        }
        wake_at
    }

    /// What the pod asks for newly, or still.
    fn ask_for_room(&mut self, ends: bool) {
        if spec::is_terminal(&self.pod) {
            self.node.room.release(spec::uid(&self.pod));
        }
        if ends || spec::is_terminal(&self.pod) {
            self.memory.no_room = None;
            return;
        }
        let generation = self.pod.metadata.generation;
        if self.asked.is_none() || self.asked != generation || self.memory.no_room.is_some() {
            self.asked = generation;
            self.memory.no_room = resize::ask(&self.node.room, &self.pod);
        }
    }

    fn ending(&self, now: Timestamp) -> Option<Ending> {
        if self.shutdown {
            return Some(Ending::Shutdown);
        }
        if self.removed {
            return Some(Ending::Removed);
        }
        plan::ending(&self.pod, status::start_time(&self.pod), now)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Object(pod) => {
                if version(&pod) >= version(&self.pod) {
                    self.pod = pod;
                }
            }
            Event::Removed => self.removed = true,
            Event::Shutdown => self.shutdown = true,
            Event::Runtime => {}
            Event::Reference => self.reference_changed(),
            Event::Probe(report) => {
                if let Some(container) = spec::container(&self.pod, &report.container) {
                    self.verdicts.record(container, &report);
                }
            }
            Event::Done(key, outcome) => {
                self.memory.busy.remove(&key);
                self.done(outcome);
            }
        }
    }

    /// Volumes are written again, and what failed for want of the object is tried again at once.
    fn reference_changed(&mut self) {
        let now = Timestamp::now();
        self.volumes_stale = self.memory.is_busy(&Key::Volumes);
        match &mut self.memory.volumes {
            Volumes::Pending => {}
            Volumes::Failed { retry_at } => *retry_at = now,
            Volumes::Ready { refresh_at, .. } => *refresh_at = Some(now),
        }
        for memory in self.memory.containers.values_mut() {
            if let Some(failure) = memory
                .failure
                .as_mut()
                .filter(|failure| failure.kind == FailureKind::Config)
            {
                failure.retry_at = now;
            }
        }
    }

    fn done(&mut self, outcome: Outcome) {
        let now = Timestamp::now();
        let retry = now.saturating_add(RETRY).unwrap_or(now);
        match outcome {
            Outcome::Volumes(Ok(made)) => {
                for warning in made.warnings {
                    self.say(None, true, "FailedMount", warning);
                }
                self.memory.volume_failures = 0;
                let refresh_at = if std::mem::take(&mut self.volumes_stale) {
                    Some(now)
                } else {
                    made.refresh_at
                };
                self.memory.volumes = Volumes::Ready {
                    paths: made.paths,
                    refresh_at,
                };
            }
            Outcome::Volumes(Err(message)) => {
                self.say(None, true, "FailedMount", message);
                let retry_at = pause(now, &mut self.memory.volume_failures);
                // A pod that has its volumes keeps them as they are.
                match &mut self.memory.volumes {
                    Volumes::Ready { refresh_at, .. } => *refresh_at = Some(retry_at),
                    volumes => *volumes = Volumes::Failed { retry_at },
                }
            }
            Outcome::Sandbox(Ok(())) => self.memory.sandbox_failures = 0,
            Outcome::Sandbox(Err(message)) => {
                let message = format!("Failed to create pod sandbox: {message}");
                self.say(None, true, "FailedCreatePodSandBox", message);
                self.memory.sandbox_retry_at = Some(pause(now, &mut self.memory.sandbox_failures));
            }
            Outcome::Started {
                container,
                result,
                resources,
            } => {
                self.memory.container(&container).applied = Applied {
                    resources,
                    failure: None,
                };
                self.started(&container, result.err(), now);
            }
            Outcome::Resized { container, result } => {
                let applied = &mut self.memory.container(&container).applied;
                match result {
                    Ok(resources) => {
                        *applied = Applied {
                            resources: Some(resources),
                            failure: None,
                        };
                    }
                    Err(message) => {
                        applied.failure = Some((retry, message.clone()));
                        self.say(Some(&container), true, "ResizeError", message);
                    }
                }
            }
            Outcome::Done(Ok(())) => {}
            Outcome::Done(Err(message)) => {
                tracing::warn!(pod = spec::full_name(&self.pod), message, "runtime call failed");
                self.retry_at = Some(retry);
            }
            Outcome::Status(result) => match *result {
                Ok(pod) if version(&pod) >= version(&self.pod) => self.pod = Arc::new(pod),
                Ok(_) => {}
                // Gone, or another of the same name by now: the watch tells.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    self.retry_at = Some(retry)
                }
                Err(error) => {
                    tracing::warn!(pod = spec::full_name(&self.pod), %error, "status not written");
                    self.retry_at = Some(retry);
                }
            },
            Outcome::Finished(Ok(())) => self.finished = true,
            Outcome::Finished(Err(message)) => {
                tracing::warn!(pod = spec::full_name(&self.pod), message, "pod not finished");
                self.retry_at = Some(retry);
            }
        }
    }

    fn started(&mut self, container: &str, failure: Option<perform::StartFailure>, now: Timestamp) {
        let image = spec::any_container(&self.pod, container).and_then(|container| container.image.clone());
        let memory = self.memory.container(container);
        let Some(failure) = failure else {
            memory.failure = None;
            memory.start = Default::default();
            return;
        };
        let retry_at = if failure.kind == FailureKind::Config {
            now.saturating_add(CONFIG_RETRY).unwrap_or(now)
        } else {
            memory.start.attempt(now);
            memory.start.waiting(now, now).map_or(now, |(until, _)| until)
        };
        memory.failure = Some(Failure {
            kind: failure.kind,
            reason: failure.reason,
            message: failure.message,
            image: image.unwrap_or_default(),
            failed_at: now,
            retry_at,
        });
    }

    fn say(&self, container: Option<&str>, warning: bool, reason: &str, message: String) {
        self.node
            .recorder
            .pod(&self.pod, container, warning, reason, message);
    }

    /// Publishes if something changed; whether the API server has it all.
    fn publish(&mut self, status: PodStatus, ending: Option<Ending>, now: Timestamp) -> bool {
        if matches!(ending, Some(Ending::Removed | Ending::Shutdown)) {
            return true;
        }
        if self.memory.is_busy(&Key::Status) {
            return false;
        }
        if self.retry_at.is_some_and(|at| at > now) {
            return false;
        }
        let before = self.pod.status.clone().unwrap_or_default();
        let patch = match publish::patch(spec::uid(&self.pod), &before, &status) {
            Ok(Some(patch)) => patch,
            Ok(None) => return true,
            Err(error) => {
                tracing::error!(%error, "status is no JSON");
                return false;
            }
        };
        self.say_pauses(&before, &status);
        let pods: Api<Pod> = Api::namespaced(self.node.client.clone(), spec::namespace(&self.pod));
        let name = spec::name(&self.pod).to_owned();
        self.spawn(Key::Status, async move {
            let patched = pods
                .patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch))
                .await;
            Outcome::Status(Box::new(patched))
        });
        false
    }

    fn begin(&mut self, action: Action, runtime: &PodRuntime, _now: Timestamp) {
        let (node, pod) = (Arc::clone(&self.node), Arc::clone(&self.pod));
        match action {
            Action::MakeVolumes => {
                let holds = Arc::clone(&self.holds);
                self.spawn(Key::Volumes, perform::make_volumes(node, pod, holds));
            }
            Action::RunSandbox { attempt } => {
                self.memory.sandbox_retry_at = None;
                self.spawn(Key::Sandbox, perform::run_sandbox(node, pod, attempt));
            }
            Action::Start {
                container,
                attempt,
                after,
            } => self.begin_start(&container, attempt, after, runtime),
            Action::Stop {
                container,
                id,
                grace_seconds,
                reason,
            } => {
                let key = Key::Container(container.clone());
                self.spawn(
                    key,
                    perform::stop(node, pod, container, id, grace_seconds, reason),
                );
            }
            Action::Resize {
                container,
                id,
                resources,
            } => {
                let key = Key::Container(container.clone());
                self.spawn(key, perform::resize(node, container, id, resources));
            }
            Action::RemoveContainer { id } => self.spawn(Key::Garbage(id.clone()), async move {
                let removed = node.cri.remove_container(&id).await;
                Outcome::Done(removed.map_err(|error| format!("removing container {id}: {error}")))
            }),
            Action::StopSandbox { id } => self.spawn(Key::Garbage(id.clone()), async move {
                let stopped = node.cri.stop_pod_sandbox(&id).await;
                Outcome::Done(stopped.map_err(|error| format!("stopping sandbox {id}: {error}")))
            }),
            Action::RemoveSandbox { id } => self.spawn(Key::Garbage(id.clone()), async move {
                let removed = node.cri.remove_pod_sandbox(&id).await;
                Outcome::Done(removed.map_err(|error| format!("removing sandbox {id}: {error}")))
            }),
            Action::Finish => {
                let removed = self.removed;
                self.spawn(Key::Delete, perform::finish(node, pod, removed));
            }
        }
    }

    fn begin_start(&mut self, name: &str, attempt: u32, after: Option<Timestamp>, runtime: &PodRuntime) {
        let pod = match self.memory.no_room {
            Some(_) => Arc::new(resize::held(&self.pod)),
            None => Arc::clone(&self.pod),
        };
        let Some(container) = spec::any_container(&pod, name).map(Cow::into_owned) else {
            return;
        };
        let (Some(sandbox), Volumes::Ready { paths, .. }) = (runtime.sandbox(), &self.memory.volumes) else {
            return;
        };
        let start = Start {
            node: Arc::clone(&self.node),
            pod,
            holds: Arc::clone(&self.holds),
            container,
            attempt,
            sandbox: sandbox.id.clone(),
            pod_ip: if spec::host_network(&self.pod) {
                self.node.ip.clone()
            } else {
                sandbox.ip.clone()
            },
            volumes: paths.clone(),
            target: spec::target_of(&self.pod, name)
                .and_then(|target| runtime.latest(target))
                .map(|target| target.id.clone()),
        };
        // A pause is begun by the attempt that follows an end, once, however often its start fails.
        if let Some(ended) = after
            && self.memory.failure(name).is_none()
        {
            self.memory.container(name).crash.attempt(ended);
        }
        self.spawn(Key::Container(name.to_owned()), start.run());
    }

    fn spawn(&mut self, key: Key, work: impl Future<Output = Outcome> + Send + 'static) {
        self.memory.busy.insert(key.clone());
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let outcome = work.await;
            // A worker that ended wants no news.
            let _ = sender.send(Event::Done(key, outcome)).await;
        });
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.node.room.release(spec::uid(&self.pod));
    }
}

fn watch_references(holds: &Arc<Holds>, sender: &mpsc::Sender<Event>) -> JoinSet<()> {
    let mut watching = JoinSet::new();
    for hold in holds.values() {
        let (hold, sender) = (hold.clone(), sender.clone());
        watching.spawn(async move {
            let mut changes = hold.changes();
            while changes.changed().await.is_ok() {
                let tick = *changes.borrow_and_update();
                if hold.is_news(tick) && sender.send(Event::Reference).await.is_err() {
                    return;
                }
            }
        });
    }
    watching
}

fn pause(now: Timestamp, failures: &mut u32) -> Timestamp {
    let pause = short_pause(*failures);
    *failures = failures.saturating_add(1);
    now.saturating_add(pause).unwrap_or(now)
}

/// Resource versions rise in this API, as in the original's.
fn version(pod: &Pod) -> u64 {
    pod.metadata
        .resource_version
        .as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or(u64::MAX)
}

/// How long until then.
pub(crate) fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
}
