//! Reading a pod's spec: the questions that planner, status and volumes ask of it.
//!
//! Pure. Names and defaults are the original's; nothing here knows the runtime.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// The grace that a pod gets where it names none, in seconds.
const GRACE_SECONDS_DEFAULT: i64 = 30;

/// When a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended so is started again.
    pub(crate) fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`, as the original's messages have it.
pub(crate) fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or(&[])
}

pub(crate) fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

pub(crate) fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(containers(pod))
}

/// What of an ephemeral container is as of any other.
pub(crate) fn ephemeral_containers(pod: &Pod) -> impl Iterator<Item = Container> {
    let all = spec(pod).ephemeral_containers.iter().flatten();
    all.filter_map(|container| serde_json::from_value(serde_json::to_value(container).ok()?).ok())
}

/// The container whose processes an ephemeral one is to see.
pub(crate) fn target_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let mut all = spec(pod).ephemeral_containers.iter().flatten();
    let target = all.find(|one| one.name == name)?.target_container_name.as_deref();
    target.filter(|target| !target.is_empty())
}

/// A container of any sort.
pub(crate) fn any_container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    let own = container(pod, name).map(Cow::Borrowed);
    own.or_else(|| {
        let mut ephemeral = ephemeral_containers(pod);
        ephemeral.find(|container| container.name == name).map(Cow::Owned)
    })
}

pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    all_containers(pod).find(|container| container.name == name)
}

/// Whether an init container runs beside the others to the pod's end.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The policy for one of the regular containers.
pub(crate) fn restart_policy(pod: &Pod, container: &Container) -> RestartPolicy {
    match container.restart_policy.as_deref() {
        Some(own) => RestartPolicy::parse(Some(own)),
        None => pod_restart_policy(pod),
    }
}

pub(crate) fn pod_restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::parse(spec(pod).restart_policy.as_deref())
}

/// Seconds between SIGTERM and SIGKILL.
pub(crate) fn grace_seconds(pod: &Pod) -> i64 {
    let deletion = pod.metadata.deletion_grace_period_seconds;
    deletion
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(GRACE_SECONDS_DEFAULT)
}

pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the API already calls it Failed or Succeeded: it never runs again.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

pub(crate) fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}
