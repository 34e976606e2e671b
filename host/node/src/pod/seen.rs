//! What the runtime has of one pod, newest first, completed from the pod's own status where the runtime
//! lost it (a Wasm container ends with the process that ran it).
//!
//! Invariant: `attempts` of a container are in falling order, without doubles. Pure but for
//! [`PodRuntime::observe`].

use std::collections::BTreeMap;

use capstan_runtime::{
    ContainerMetadata, ContainerState, ContainerStatus, Cri, PodSandboxStatus, SandboxState,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::core::v1::Pod;

/// Name of the scheme in `containerID`, as the original's `containerd://`.
pub(crate) const CONTAINER_ID_SCHEME: &str = "capstan://";

/// The exit code shown for a container whose end nobody saw.
const EXIT_CODE_UNKNOWN: i32 = 137;

/// One pod as the runtime has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodRuntime {
    /// Newest first.
    pub(crate) sandboxes: Vec<PodSandboxStatus>,
    containers: BTreeMap<String, Vec<ContainerStatus>>,
}

impl PodRuntime {
    /// Asks the runtime.
    pub(crate) async fn observe(cri: &dyn Cri, uid: &str) -> capstan_runtime::Result<Self> {
        let sandboxes = cri.list_pod_sandbox().await?;
        let containers = cri.list_containers().await?;
        Ok(Self::new(
            sandboxes
                .into_iter()
                .filter(|sandbox| sandbox.metadata.uid == uid)
                .collect(),
            containers,
        ))
    }

    /// From the pod's sandboxes and any containers; those of other sandboxes are left out.
    pub(crate) fn new(mut sandboxes: Vec<PodSandboxStatus>, all: Vec<ContainerStatus>) -> Self {
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.metadata.attempt, sandbox.created_at_ns)));
        let mut containers: BTreeMap<String, Vec<ContainerStatus>> = BTreeMap::new();
        for container in all {
            if sandboxes.iter().any(|sandbox| sandbox.id == container.sandbox_id) {
                containers
                    .entry(container.metadata.name.clone())
                    .or_default()
                    .push(container);
            }
        }
        let mut runtime = Self {
            sandboxes,
            containers,
        };
        runtime.order();
        runtime
    }

    fn order(&mut self) {
        for attempts in self.containers.values_mut() {
            attempts.sort_by_key(|status| std::cmp::Reverse((status.metadata.attempt, status.created_at_ns)));
        }
    }

    /// Adds what is known from before where the runtime has nothing as new.
    pub(crate) fn recall(&mut self, past: &BTreeMap<String, ContainerStatus>) {
        for (name, status) in past {
            let attempts = self.containers.entry(name.clone()).or_default();
            if attempts
                .iter()
                .all(|known| known.metadata.attempt < status.metadata.attempt)
            {
                attempts.push(status.clone());
            }
        }
        self.order();
    }

    /// The newest end of each container, to be recalled once the runtime has removed it.
    pub(crate) fn ended(&self) -> BTreeMap<String, ContainerStatus> {
        let newest = |(name, attempts): (&String, &Vec<ContainerStatus>)| {
            let ended = attempts.iter().find(|status| has_ended(status))?;
            let sandbox_id = String::new();
            Some((
                name.clone(),
                ContainerStatus {
                    sandbox_id,
                    ..ended.clone()
                },
            ))
        };
        self.containers.iter().filter_map(newest).collect()
    }

    /// The sandbox in which containers may run.
    pub(crate) fn sandbox(&self) -> Option<&PodSandboxStatus> {
        self.sandboxes
            .first()
            .filter(|sandbox| sandbox.state == SandboxState::Ready)
    }

    /// A container's newest attempt.
    pub(crate) fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.attempts(name).first()
    }

    /// A container's attempts, newest first.
    pub(crate) fn attempts(&self, name: &str) -> &[ContainerStatus] {
        self.containers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Every container of the pod, of any name.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers.values().flatten()
    }

    /// Whether any container may still be running.
    pub(crate) fn any_alive(&self) -> bool {
        self.containers().any(is_alive)
    }
}

/// Whether it runs, or may begin to.
pub(crate) fn is_alive(status: &ContainerStatus) -> bool {
    !status.sandbox_id.is_empty() && matches!(status.state, ContainerState::Running | ContainerState::Created)
}

/// Whether it has ended.
pub(crate) fn has_ended(status: &ContainerStatus) -> bool {
    matches!(status.state, ContainerState::Exited | ContainerState::Unknown)
}

/// When it ended; now if the runtime does not say.
pub(crate) fn finished_at(status: &ContainerStatus) -> Timestamp {
    timestamp(status.finished_at_ns)
        .or_else(|| timestamp(status.created_at_ns))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A runtime's time; `None` for "not yet".
pub(crate) fn timestamp(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds != 0)
        .then(|| Timestamp::from_nanosecond(nanoseconds.into()).ok())
        .flatten()
}

/// What the pod's status says of containers that ran before this process.
///
/// A container that was running then and is unknown to the runtime now has ended unseen.
pub(crate) fn past(pod: &Pod, now: Timestamp) -> BTreeMap<String, ContainerStatus> {
    let Some(status) = &pod.status else {
        return BTreeMap::new();
    };
    let all = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses)
        .chain(&status.ephemeral_container_statuses)
        .flatten();
    all.filter_map(|shown| Some((shown.name.clone(), ended(shown, now)?)))
        .collect()
}

fn ended(shown: &core::ContainerStatus, now: Timestamp) -> Option<ContainerStatus> {
    let id = shown
        .container_id
        .as_deref()?
        .trim_start_matches(CONTAINER_ID_SCHEME)
        .to_owned();
    let nanoseconds = |time: Timestamp| i64::try_from(time.as_nanosecond()).unwrap_or(0);
    let base = ContainerStatus {
        id,
        metadata: ContainerMetadata {
            name: shown.name.clone(),
            attempt: u32::try_from(shown.restart_count).unwrap_or(0),
        },
        state: ContainerState::Exited,
        image: shown.image.clone(),
        image_ref: shown.image_id.clone(),
        ..Default::default()
    };
    let state = shown.state.as_ref()?;
    let terminated = state.terminated.as_ref().or_else(|| {
        state.waiting.as_ref()?;
        shown.last_state.as_ref()?.terminated.as_ref()
    });
    if let Some(terminated) = terminated {
        return Some(ContainerStatus {
            started_at_ns: terminated
                .started_at
                .as_ref()
                .map_or(0, |time| nanoseconds(time.0)),
            finished_at_ns: terminated
                .finished_at
                .as_ref()
                .map_or(0, |time| nanoseconds(time.0)),
            exit_code: terminated.exit_code,
            reason: terminated.reason.clone().unwrap_or_default(),
            message: terminated.message.clone().unwrap_or_default(),
            ..base
        });
    }
    let running = state.running.as_ref()?;
    Some(ContainerStatus {
        started_at_ns: running.started_at.as_ref().map_or(0, |time| nanoseconds(time.0)),
        finished_at_ns: nanoseconds(now),
        exit_code: EXIT_CODE_UNKNOWN,
        reason: "ContainerStatusUnknown".into(),
        message: "The container could not be located when the kubelet started".into(),
        ..base
    })
}
