//! The five conditions that the kubelet keeps on a pod, as the original words them. Pure.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodCondition, PodStatus};

use super::plan::Seen;
use super::spec;

/// All five, without times and generation.
pub(crate) fn of(seen: &Seen<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let sandbox = seen
        .runtime
        .sandbox()
        .is_some_and(|sandbox| !sandbox.ip.is_empty() || spec::host_network(seen.pod));
    let scheduled = PodCondition {
        type_: "PodScheduled".into(),
        status: "True".into(),
        ..Default::default()
    };
    let containers_ready = containers_ready(seen, status);
    let ready = ready(seen, status, &containers_ready);
    vec![
        PodCondition {
            type_: "PodReadyToStartContainers".into(),
            status: if sandbox { "True" } else { "False" }.into(),
            ..Default::default()
        },
        initialized(seen, status),
        ready,
        containers_ready,
        scheduled,
    ]
}

fn condition(type_: &str, fault: Option<(&str, String)>) -> PodCondition {
    let (status, reason, message) = match fault {
        None => ("True", None, None),
        Some((reason, message)) => (
            "False",
            Some(reason.to_owned()),
            (!message.is_empty()).then_some(message),
        ),
    };
    PodCondition {
        type_: type_.into(),
        status: status.into(),
        reason,
        message,
        ..Default::default()
    }
}

fn initialized(seen: &Seen<'_>, status: &PodStatus) -> PodCondition {
    if status.phase.as_deref() == Some("Succeeded") {
        return PodCondition {
            reason: Some("PodCompleted".into()),
            ..condition("Initialized", None)
        };
    }
    let began = status
        .container_statuses
        .iter()
        .flatten()
        .any(|status| status.container_id.is_some());
    let statuses = status.init_container_statuses.as_deref().unwrap_or(&[]);
    let incomplete: Vec<&str> = spec::init_containers(seen.pod)
        .iter()
        .zip(statuses)
        .filter(|(container, status)| {
            let done = if spec::is_sidecar(container) {
                status.started == Some(true)
            } else {
                status.ready
            };
            !done && !began
        })
        .map(|(container, _)| container.name.as_str())
        .collect();
    let fault = (!incomplete.is_empty()).then(|| {
        (
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{}]", incomplete.join(" ")),
        )
    });
    condition("Initialized", fault)
}

fn containers_ready(seen: &Seen<'_>, status: &PodStatus) -> PodCondition {
    condition("ContainersReady", unready(seen, status))
}

fn unready(seen: &Seen<'_>, status: &PodStatus) -> Option<(&'static str, String)> {
    match status.phase.as_deref() {
        Some("Succeeded") => return Some(("PodCompleted", String::new())),
        Some("Failed") => return Some(("PodFailed", String::new())),
        _ => {}
    }
    let sidecars = spec::init_containers(seen.pod)
        .iter()
        .zip(status.init_container_statuses.as_deref().unwrap_or(&[]))
        .filter(|(container, _)| spec::is_sidecar(container));
    let regular = spec::containers(seen.pod)
        .iter()
        .zip(status.container_statuses.as_deref().unwrap_or(&[]));
    let named =
        |(container, status): (&Container, &ContainerStatus)| (!status.ready).then(|| container.name.clone());
    let names: Vec<String> = sidecars.chain(regular).filter_map(named).collect();
    (!names.is_empty()).then(|| {
        (
            "ContainersNotReady",
            format!("containers with unready status: [{}]", names.join(" ")),
        )
    })
}

fn ready(seen: &Seen<'_>, status: &PodStatus, containers: &PodCondition) -> PodCondition {
    if containers.status != "True" {
        return PodCondition {
            type_: "Ready".into(),
            ..containers.clone()
        };
    }
    let known = seen
        .pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or(&[]);
    let _ = status;
    for gate in spec::spec(seen.pod).readiness_gates.iter().flatten() {
        let fault = match known
            .iter()
            .find(|condition| condition.type_ == gate.condition_type)
        {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(condition) if condition.status != "True" => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, condition.status
            )),
            Some(_) => None,
        };
        if let Some(message) = fault {
            return condition("Ready", Some(("ReadinessGatesNotReady", message)));
        }
    }
    condition("Ready", None)
}
