//! What is to be done next for a pod: pure, from what is seen and remembered to a list of actions.
//!
//! Invariants: nothing is planned on what is already busy; one container never runs twice; init containers
//! run in order and before the others; nothing starts in a pod that ends. Called by the pod's worker after
//! every event. Not here: doing it (`perform.rs`), saying it (`status.rs`).

use capstan_runtime::{ContainerState, ContainerStatus, LinuxContainerResources, SandboxState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::memory::{Key, Memory, Volumes};
use super::resize::{self, Due};
use super::seen::{self, PodRuntime};
use super::spec::{self, RestartPolicy};
use crate::probe::Verdicts;

/// Ended attempts of a container that are kept: the newest, and the one shown as its last state.
const ATTEMPTS_KEPT: usize = 2;
/// Longest grace of a container when the kubelet itself stops, in seconds.
const SHUTDOWN_GRACE_SECONDS_MAX: i64 = 3;

/// Why a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was deleted: everything goes, at last the object.
    Deleted,
    /// The object is gone already.
    Removed,
    /// It outran `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// The API calls it Failed or Succeeded already.
    Terminal,
    /// The kubelet itself stops.
    Shutdown,
}

/// All that a decision rests on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) runtime: &'a PodRuntime,
    pub(crate) memory: &'a Memory,
    pub(crate) verdicts: &'a Verdicts,
    pub(crate) ending: Option<Ending>,
    pub(crate) now: Timestamp,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    MakeVolumes,
    RunSandbox {
        attempt: u32,
    },
    /// Pull where needed, create, start.
    Start {
        container: String,
        attempt: u32,
        /// When the attempt before it ended.
        after: Option<Timestamp>,
    },
    Stop {
        container: String,
        id: String,
        grace_seconds: i64,
        reason: String,
    },
    /// Change what it may use while it runs.
    Resize {
        container: String,
        id: String,
        resources: LinuxContainerResources,
    },
    RemoveContainer {
        id: String,
    },
    StopSandbox {
        id: String,
    },
    RemoveSandbox {
        id: String,
    },
    /// Everything in the runtime is gone: remove files and the object.
    Finish,
}

/// What to do now, and when to look again though nothing happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }
}

/// Decides.
pub(crate) fn plan(seen: &Seen<'_>) -> Plan {
    let mut plan = Plan::default();
    match seen.ending {
        Some(ending) => wind_down(seen, ending, &mut plan),
        None if is_finished(seen) => wind_down(seen, Ending::Terminal, &mut plan),
        None => bring_up(seen, &mut plan),
    }
    plan
}

/// Why this pod is to end now, as far as its object and the clock say.
pub(crate) fn ending(pod: &Pod, started: Option<Timestamp>, now: Timestamp) -> Option<Ending> {
    if spec::is_terminating(pod) {
        return Some(Ending::Deleted);
    }
    if spec::is_terminal(pod) {
        return Some(Ending::Terminal);
    }
    deadline(pod, started)
        .filter(|deadline| *deadline <= now)
        .map(|_| Ending::DeadlineExceeded)
}

/// When `activeDeadlineSeconds` is over.
pub(crate) fn deadline(pod: &Pod, started: Option<Timestamp>) -> Option<Timestamp> {
    let seconds = spec::spec(pod).active_deadline_seconds?;
    started?.saturating_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether nothing of it will run again.
pub(crate) fn is_finished(seen: &Seen<'_>) -> bool {
    let ended_for_good = |container: &Container| {
        let policy = spec::restart_policy(seen.pod, container);
        let latest = seen.runtime.latest(&container.name);
        latest.is_some_and(|status| seen::has_ended(status) && !policy.restarts(status.exit_code))
    };
    let containers = spec::containers(seen.pod);
    (!containers.is_empty() && containers.iter().all(ended_for_good)) || init_failed(seen)
}

/// Whether an init container failed in a pod that does not try again.
pub(crate) fn init_failed(seen: &Seen<'_>) -> bool {
    spec::pod_restart_policy(seen.pod) == RestartPolicy::Never
        && !any_regular_started(seen)
        && spec::init_containers(seen.pod)
            .iter()
            .filter(|container| !spec::is_sidecar(container))
            .any(|container| {
                let latest = seen.runtime.latest(&container.name);
                latest.is_some_and(|status| seen::has_ended(status) && status.exit_code != 0)
            })
}

fn any_regular_started(seen: &Seen<'_>) -> bool {
    spec::containers(seen.pod)
        .iter()
        .any(|container| seen.runtime.latest(&container.name).is_some())
}

fn bring_up(seen: &Seen<'_>, plan: &mut Plan) {
    collect_garbage(seen, plan);
    if let Some(deadline) = deadline(seen.pod, super::status::start_time(seen.pod)) {
        plan.wake(deadline);
    }
    let volumes_ready = volumes(seen, plan);
    let Some(sandbox) = seen.runtime.sandbox() else {
        run_sandbox(seen, plan);
        return;
    };
    if volumes_ready {
        containers(seen, &sandbox.id, plan);
    }
}

/// Plans the making of volumes where due; whether containers may start.
fn volumes(seen: &Seen<'_>, plan: &mut Plan) -> bool {
    let due = match &seen.memory.volumes {
        Volumes::Pending => true,
        Volumes::Failed { retry_at } => {
            plan.wake(*retry_at);
            *retry_at <= seen.now
        }
        Volumes::Ready { refresh_at, .. } => {
            if let Some(at) = refresh_at {
                plan.wake(*at);
            }
            refresh_at.is_some_and(|at| at <= seen.now)
        }
    };
    if due && !seen.memory.is_busy(&Key::Volumes) {
        plan.actions.push(Action::MakeVolumes);
    }
    matches!(seen.memory.volumes, Volumes::Ready { .. })
}

fn run_sandbox(seen: &Seen<'_>, plan: &mut Plan) {
    if seen.memory.is_busy(&Key::Sandbox) {
        return;
    }
    if let Some(at) = seen.memory.sandbox_retry_at.filter(|at| *at > seen.now) {
        plan.wake(at);
        return;
    }
    let newest = seen.runtime.sandboxes.first();
    if let Some(dead) = newest
        && seen
            .runtime
            .containers()
            .any(|status| status.sandbox_id == dead.id && seen::is_alive(status))
    {
        plan.actions.push(Action::StopSandbox { id: dead.id.clone() });
        return;
    }
    plan.actions.push(Action::RunSandbox {
        attempt: newest.map_or(0, |sandbox| sandbox.metadata.attempt + 1),
    });
}

fn containers(seen: &Seen<'_>, sandbox: &str, plan: &mut Plan) {
    let regular = spec::containers(seen.pod);
    let regular_began = regular.iter().any(|container| {
        seen.runtime
            .latest(&container.name)
            .is_some_and(|status| status.sandbox_id == sandbox)
    });
    for container in spec::ephemeral_containers(seen.pod) {
        // Once, whatever becomes of it, and beside whatever else the pod is at.
        if seen.runtime.latest(&container.name).is_none() && !seen.memory.container_busy(&container.name) {
            start(seen, &container, None, plan);
        }
    }
    for container in spec::init_containers(seen.pod) {
        if !init_container(seen, sandbox, container, regular_began, plan) {
            return;
        }
    }
    for container in regular {
        keep_running(
            seen,
            sandbox,
            container,
            spec::restart_policy(seen.pod, container),
            plan,
        );
    }
}

/// Moves one init container on; whether the next may begin.
fn init_container(
    seen: &Seen<'_>,
    sandbox: &str,
    container: &Container,
    regular_began: bool,
    plan: &mut Plan,
) -> bool {
    let here = seen
        .runtime
        .latest(&container.name)
        .filter(|status| status.sandbox_id == sandbox);
    if spec::is_sidecar(container) {
        keep_running(seen, sandbox, container, RestartPolicy::Always, plan);
        let runs = here.is_some_and(|status| status.state == ContainerState::Running);
        return regular_began || (runs && seen.verdicts.started(&container.name));
    }
    if regular_began || here.is_some_and(|status| seen::has_ended(status) && status.exit_code == 0) {
        return true;
    }
    // A failed one is tried again by OnFailure as by Always; with Never the pod is finished already. One
    // that succeeded in a sandbox that is gone runs again in the new one.
    keep_running(seen, sandbox, container, RestartPolicy::Always, plan);
    false
}

fn keep_running(
    seen: &Seen<'_>,
    sandbox: &str,
    container: &Container,
    policy: RestartPolicy,
    plan: &mut Plan,
) {
    if seen.memory.container_busy(&container.name) {
        return;
    }
    let Some(latest) = seen.runtime.latest(&container.name) else {
        start(seen, container, None, plan);
        return;
    };
    match latest.state {
        ContainerState::Running if latest.sandbox_id == sandbox => {
            if let Some(unhealthy) = seen.verdicts.unhealthy(&container.name, &latest.id) {
                plan.actions.push(Action::Stop {
                    container: container.name.clone(),
                    id: latest.id.clone(),
                    grace_seconds: unhealthy
                        .grace_seconds
                        .unwrap_or_else(|| spec::grace_seconds(seen.pod)),
                    reason: format!(
                        "Container {} failed {} probe, will be restarted",
                        container.name, unhealthy.probe
                    ),
                });
                return;
            }
            resize(seen, container, &latest.id, plan);
        }
        // Left behind by a start that never came to its end.
        ContainerState::Created if latest.sandbox_id == sandbox => {
            plan.actions.push(Action::RemoveContainer {
                id: latest.id.clone(),
            });
        }
        _ if policy.restarts(latest.exit_code) => start(seen, container, Some(latest), plan),
        _ => {}
    }
}

fn resize(seen: &Seen<'_>, container: &Container, id: &str, plan: &mut Plan) {
    match resize::due(seen, container) {
        Some(Due::Update(resources)) => plan.actions.push(Action::Resize {
            container: container.name.clone(),
            id: id.to_owned(),
            resources,
        }),
        Some(Due::Restart) => plan.actions.push(Action::Stop {
            container: container.name.clone(),
            id: id.to_owned(),
            grace_seconds: spec::grace_seconds(seen.pod),
            reason: format!("Container {} resize requires restart", container.name),
        }),
        Some(Due::Later(at)) => plan.wake(at),
        None => {}
    }
}

fn start(seen: &Seen<'_>, container: &Container, after: Option<&ContainerStatus>, plan: &mut Plan) {
    if let Some(failure) = seen.memory.failure(&container.name)
        && failure.retry_at > seen.now
    {
        plan.wake(failure.retry_at);
        if failure.back_off_shown_at() > seen.now {
            plan.wake(failure.back_off_shown_at());
        }
        return;
    }
    if let Some(status) = after
        && let Some((until, _)) = crash_pause(seen, status)
    {
        plan.wake(until);
        return;
    }
    plan.actions.push(Action::Start {
        container: container.name.clone(),
        attempt: next_attempt(seen, &container.name),
        after: after.map(seen::finished_at),
    });
}

/// The pause that an ended container is in, and its length.
pub(crate) fn crash_pause(seen: &Seen<'_>, status: &ContainerStatus) -> Option<(Timestamp, SignedDuration)> {
    seen.memory
        .containers
        .get(&status.metadata.name)?
        .crash
        .waiting(seen::finished_at(status), seen.now)
}

fn next_attempt(seen: &Seen<'_>, name: &str) -> u32 {
    seen.runtime
        .latest(name)
        .map_or(0, |status| status.metadata.attempt + 1)
}

fn wind_down(seen: &Seen<'_>, ending: Ending, plan: &mut Plan) {
    let grace_seconds = match ending {
        Ending::Deleted | Ending::Removed => spec::grace_seconds(seen.pod).max(1),
        Ending::Shutdown => spec::grace_seconds(seen.pod).min(SHUTDOWN_GRACE_SECONDS_MAX),
        _ => spec::grace_seconds(seen.pod),
    };
    if seen.memory.busy.iter().any(|key| matches!(key, Key::Sandbox)) {
        return;
    }
    stop_containers(seen, grace_seconds, plan);
    // A kubelet started again takes the sandbox up as it is.
    if ending == Ending::Shutdown {
        return;
    }
    if seen.runtime.any_alive()
        || seen
            .memory
            .busy
            .iter()
            .any(|key| matches!(key, Key::Container(_)))
    {
        return;
    }
    let going = matches!(ending, Ending::Deleted | Ending::Removed);
    for sandbox in &seen.runtime.sandboxes {
        let id = sandbox.id.clone();
        if seen.memory.is_busy(&Key::Garbage(id.clone())) {
            continue;
        }
        if sandbox.state == SandboxState::Ready {
            plan.actions.push(Action::StopSandbox { id });
        } else if going {
            plan.actions.push(Action::RemoveSandbox { id });
        }
    }
    let quiet = !seen.memory.is_busy(&Key::Delete) && !seen.memory.is_busy(&Key::Volumes);
    if going && quiet && seen.runtime.sandboxes.is_empty() {
        plan.actions.push(Action::Finish);
    }
}

/// Regular containers first, all at once; sidecars after them, last started first.
fn stop_containers(seen: &Seen<'_>, grace_seconds: i64, plan: &mut Plan) {
    let stop = |container: &Container, plan: &mut Plan| -> bool {
        let alive: Vec<_> = seen
            .runtime
            .attempts(&container.name)
            .iter()
            .filter(|status| seen::is_alive(status))
            .collect();
        let busy = seen.memory.container_busy(&container.name);
        if let Some(status) = alive.first()
            && !busy
        {
            plan.actions.push(Action::Stop {
                container: container.name.clone(),
                id: status.id.clone(),
                grace_seconds,
                reason: format!("Stopping container {}", container.name),
            });
        }
        !alive.is_empty() || busy
    };
    let sidecar = |container: &&Container| spec::is_sidecar(container);
    let init = spec::init_containers(seen.pod);
    let mut waiting = false;
    for container in spec::ephemeral_containers(seen.pod) {
        waiting |= stop(&container, plan);
    }
    for container in spec::containers(seen.pod)
        .iter()
        .chain(init.iter().filter(|container| !sidecar(container)))
    {
        waiting |= stop(container, plan);
    }
    for container in init.iter().rev().filter(sidecar) {
        if waiting {
            return;
        }
        waiting |= stop(container, plan);
    }
}

fn collect_garbage(seen: &Seen<'_>, plan: &mut Plan) {
    let mut needed: Vec<&str> = Vec::new();
    for container in spec::all_containers(seen.pod) {
        for (place, status) in seen.runtime.attempts(&container.name).iter().enumerate() {
            let real = !status.sandbox_id.is_empty();
            if place < ATTEMPTS_KEPT || !seen::has_ended(status) {
                needed.push(&status.sandbox_id);
            } else if real && !seen.memory.is_busy(&Key::Garbage(status.id.clone())) {
                plan.actions.push(Action::RemoveContainer {
                    id: status.id.clone(),
                });
            }
        }
    }
    for sandbox in seen.runtime.sandboxes.iter().skip(1) {
        if seen.memory.is_busy(&Key::Garbage(sandbox.id.clone())) {
            continue;
        }
        if sandbox.state == SandboxState::Ready {
            plan.actions.push(Action::StopSandbox {
                id: sandbox.id.clone(),
            });
        } else if !needed.contains(&sandbox.id.as_str()) {
            plan.actions.push(Action::RemoveSandbox {
                id: sandbox.id.clone(),
            });
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
