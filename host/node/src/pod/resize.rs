//! Resources that change while a container runs: what is due, and how it is told. Pure.
//!
//! What was applied last is remembered, and read from the status by a kubelet that starts anew. Whether the node
//! has room for it is `room`'s to say; until it has, the pod keeps what it holds.

use capstan_kinds::pod_resources;
use capstan_runtime::{ContainerState, ContainerStatus as Run, LinuxContainerResources};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodStatus};
use serde_json::json;

use super::container_config::resources;
use super::plan::Seen;
use super::room::{Amounts, NoRoom, Room};
use super::spec;

const IN_PROGRESS: &str = "PodResizeInProgress";
const PENDING: &str = "PodResizePending";
/// Pause before a change that the node has no room for is asked for again.
const ROOM_RETRY: SignedDuration = SignedDuration::from_secs(2);

/// What was applied to a container, and how the newest change failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) resources: Option<LinuxContainerResources>,
    pub(crate) failure: Option<(Timestamp, String)>,
}

/// What a change of resources needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    Update(LinuxContainerResources),
    Restart,
    /// It failed, or there is no room; not before then.
    Later(Timestamp),
}

/// Asks for what the pod's spec does.
pub(crate) fn ask(room: &Room, pod: &Pod) -> Option<NoRoom> {
    let held = held(pod);
    let before = (held != *pod).then(|| requests(&held));
    room.ask(spec::uid(pod), requests(pod), before).err()
}

/// The pod with the resources that its containers were said to have.
pub(crate) fn held(pod: &Pod) -> Pod {
    let mut held = pod.clone();
    let Some(spec) = &mut held.spec else { return held };
    let containers = spec.containers.iter_mut();
    for container in containers.chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(resources) = shown(pod, container).and_then(|shown| shown.resources.clone()) {
            container.resources = Some(resources);
        }
    }
    held
}

fn requests(pod: &Pod) -> Amounts {
    let sum = pod_resources::requests_of(&json!({ "spec": pod.spec }));
    Amounts::of(|name| sum.get(name))
}

/// The container's own status, as it was said last.
fn shown<'a>(pod: &'a Pod, container: &Container) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses);
    lists.flatten().find(|shown| shown.name == container.name)
}

/// The container with the resources that it was said to have.
fn as_shown(seen: &Seen<'_>, container: &Container) -> Option<Container> {
    let resources = shown(seen.pod, container)?.resources.clone()?;
    Some(Container {
        resources: Some(resources),
        ..container.clone()
    })
}

/// What is due for a running container.
pub(crate) fn due(seen: &Seen<'_>, container: &Container) -> Option<Due> {
    let wanted = resources(container).ok()?;
    let applied = seen
        .memory
        .containers
        .get(&container.name)
        .map(|memory| &memory.applied);
    let before = applied.and_then(|applied| applied.resources.clone());
    let before = before.or_else(|| resources(&as_shown(seen, container)?).ok())?;
    if before == wanted {
        return None;
    }
    if seen.memory.no_room.is_some() {
        return Some(Due::Later(
            seen.now.saturating_add(ROOM_RETRY).unwrap_or(seen.now),
        ));
    }
    let failure = applied.and_then(|applied| applied.failure.as_ref());
    if let Some((retry_at, _)) = failure.filter(|(retry_at, _)| *retry_at > seen.now) {
        return Some(Due::Later(*retry_at));
    }
    let memory = before.memory_limit_bytes != wanted.memory_limit_bytes;
    let cpu = (before.cpu_quota_us, before.cpu_shares) != (wanted.cpu_quota_us, wanted.cpu_shares);
    let policies = container.resize_policy.iter().flatten();
    let mut restarting = policies.filter(|policy| policy.restart_policy == "RestartContainer");
    let restarts = restarting.any(|policy| match policy.resource_name.as_str() {
        "memory" => memory,
        _ => cpu,
    });
    Some(if restarts {
        Due::Restart
    } else {
        Due::Update(wanted)
    })
}

/// Says which resources a container really has: those of the spec once they are applied.
pub(crate) fn show(seen: &Seen<'_>, container: &Container, run: Option<&Run>, status: &mut ContainerStatus) {
    let runs = run.is_some_and(|run| run.state == ContainerState::Running);
    if !runs {
        return;
    }
    if due(seen, container).is_none() {
        status.resources = container.resources.clone();
        status.allocated_resources = container.resources.as_ref().and_then(|all| all.requests.clone());
        return;
    }
    let before = shown(seen.pod, container);
    if let Some(before) = before {
        status.resources = before.resources.clone();
        status.allocated_resources = before.allocated_resources.clone();
    }
}

/// The condition that tells of changes under way, where there are some.
pub(crate) fn tell(seen: &Seen<'_>, status: &PodStatus, conditions: &mut Vec<PodCondition>) {
    conditions.retain(|condition| condition.type_ != IN_PROGRESS && condition.type_ != PENDING);
    if let Some(NoRoom { reason, message }) = &seen.memory.no_room {
        return conditions.push(PodCondition {
            type_: PENDING.into(),
            status: "True".into(),
            reason: Some((*reason).to_owned()),
            message: Some(message.clone()),
            observed_generation: seen.pod.metadata.generation,
            ..Default::default()
        });
    }
    let runs = |container: &&Container| {
        let lists = status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses);
        let own = lists.flatten().find(|shown| shown.name == container.name);
        own.is_some_and(|own| own.state.as_ref().is_some_and(|state| state.running.is_some()))
    };
    let mut pending = spec::all_containers(seen.pod)
        .filter(runs)
        .filter(|container| due(seen, container).is_some())
        .peekable();
    if pending.peek().is_none() {
        return;
    }
    let failure = pending.find_map(|container| {
        let memory = seen.memory.containers.get(&container.name)?;
        memory
            .applied
            .failure
            .as_ref()
            .map(|(_, message)| message.clone())
    });
    conditions.push(PodCondition {
        type_: IN_PROGRESS.into(),
        status: "True".into(),
        reason: failure.as_ref().map(|_| "Error".to_owned()),
        message: failure,
        observed_generation: seen.pod.metadata.generation,
        ..Default::default()
    });
}
