//! A pod's status, built purely from what is seen; the words are the original kubelet's.
//!
//! Invariants: the phase never leaves Failed or Succeeded; a condition's transition time moves only with its
//! status; conditions of others are kept. Not here: writing it (`publish.rs`).

use capstan_runtime::{ContainerState as RunState, ContainerStatus as Run};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{self, Ending, Seen};
use super::resize;
use super::seen::{self, CONTAINER_ID_SCHEME};
use super::spec;

/// When the kubelet first saw the pod.
pub(crate) fn start_time(pod: &Pod) -> Option<Timestamp> {
    pod.status.as_ref()?.start_time.as_ref().map(|time| time.0)
}

/// The whole status. `host_ip` is the node's address.
pub(crate) fn build(seen: &Seen<'_>, host_ip: &str) -> PodStatus {
    let before = seen.pod.status.clone().unwrap_or_default();
    let init: Vec<_> = spec::init_containers(seen.pod)
        .iter()
        .map(|c| container(seen, c, true))
        .collect();
    let regular: Vec<_> = spec::containers(seen.pod)
        .iter()
        .map(|c| container(seen, c, false))
        .collect();
    let ephemeral: Vec<_> = spec::ephemeral_containers(seen.pod)
        .map(|c| ContainerStatus {
            ready: false,
            started: None,
            ..container(seen, &c, true)
        })
        .collect();
    let phase = phase(seen, &init, &regular);
    let address = address(seen, host_ip).or(before.pod_ip.clone());
    let mut status = PodStatus {
        conditions: None,
        host_ip: some(host_ip),
        host_ips: some(host_ip).map(|ip| vec![HostIP { ip }]),
        pod_ip: address.clone(),
        pod_ips: address.map(|ip| vec![PodIP { ip }]),
        start_time: before.start_time.clone().or(Some(Time(seconds(seen.now)))),
        qos_class: before
            .qos_class
            .clone()
            .or_else(|| Some(super::qos::class(seen.pod).to_owned())),
        observed_generation: seen.pod.metadata.generation,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(regular),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        phase: Some(phase.to_owned()),
        ..before.clone()
    };
    if seen.ending == Some(Ending::DeadlineExceeded) {
        status.phase = Some("Failed".into());
        status.reason = Some("DeadlineExceeded".into());
        status.message = Some("Pod was active on the node longer than the specified deadline".into());
    }
    if spec::is_terminal(seen.pod) {
        status.phase = before.phase.clone();
    }
    status.conditions = Some(conditions(seen, &status, before.conditions.unwrap_or_default()));
    status
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The API keeps whole seconds.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn address(seen: &Seen<'_>, host_ip: &str) -> Option<String> {
    let sandbox = seen.runtime.sandbox()?;
    if spec::host_network(seen.pod) {
        some(host_ip)
    } else {
        some(&sandbox.ip)
    }
}

fn container(seen: &Seen<'_>, container: &Container, init: bool) -> ContainerStatus {
    let attempts = seen.runtime.attempts(&container.name);
    let latest = attempts.first();
    let (state, last) = states(seen, container, attempts, init);
    let running = state.running.is_some();
    let endless = !init || spec::is_sidecar(container);
    let ready = if endless {
        running && seen.verdicts.ready(&container.name)
    } else {
        state.terminated.as_ref().is_some_and(|end| end.exit_code == 0)
    };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: latest.map(|run| run.image_ref.clone()).unwrap_or_default(),
        container_id: latest.map(container_id),
        ready,
        started: Some(running && (!endless || seen.verdicts.started(&container.name))),
        restart_count: latest.map_or(0, |run| i32::try_from(run.metadata.attempt).unwrap_or(i32::MAX)),
        state: Some(state),
        last_state: Some(last.unwrap_or_default()),
        ..Default::default()
    };
    resize::show(seen, container, latest, &mut status);
    status
}

fn container_id(run: &Run) -> String {
    format!("{CONTAINER_ID_SCHEME}{}", run.id)
}

/// The state and, where there is one, the last state.
fn states(
    seen: &Seen<'_>,
    container: &Container,
    attempts: &[Run],
    init: bool,
) -> (ContainerState, Option<ContainerState>) {
    let ended_at = |place: usize| {
        attempts
            .get(place)
            .filter(|run| seen::has_ended(run))
            .map(terminated)
    };
    let latest = attempts.first();
    match latest {
        Some(run) if run.state == RunState::Running => {
            let running = ContainerStateRunning {
                started_at: seen::timestamp(run.started_at_ns).map(|t| Time(seconds(t))),
            };
            (
                ContainerState {
                    running: Some(running),
                    ..Default::default()
                },
                ended_at(1),
            )
        }
        Some(run) if seen::has_ended(run) => match pause(seen, container, run, init) {
            Some(reason) => (waiting(reason), Some(terminated(run))),
            None => (terminated(run), ended_at(1)),
        },
        _ => (waiting(first_wait(seen, container)), ended_at(1)),
    }
}

/// Why a container that ended does not run again yet; `None` where its end is all there is to say.
fn pause(seen: &Seen<'_>, container: &Container, run: &Run, init: bool) -> Option<(String, String)> {
    if seen.ending.is_some() || plan::is_finished(seen) {
        return None;
    }
    if let Some(failure) = seen.memory.failure(&container.name) {
        return Some(failure.shown(seen.now));
    }
    let is_ephemeral = spec::container(seen.pod, &container.name).is_none();
    let restarts = if is_ephemeral {
        false
    } else if init {
        spec::is_sidecar(container) || run.exit_code != 0
    } else {
        spec::restart_policy(seen.pod, container).restarts(run.exit_code)
    };
    let (_, length) = plan::crash_pause(seen, run).filter(|_| restarts)?;
    let message = format!(
        "back-off {} restarting failed container={} pod={}",
        go_duration(length.as_secs()),
        container.name,
        spec::full_name(seen.pod)
    );
    Some(("CrashLoopBackOff".into(), message))
}

/// As Go prints a duration of whole seconds: `10s`, `2m40s`, `5m0s`.
pub(crate) fn go_duration(seconds: i64) -> String {
    if seconds < 60 {
        format!("{seconds}s")
    } else {
        format!("{}m{}s", seconds / 60, seconds % 60)
    }
}

fn first_wait(seen: &Seen<'_>, container: &Container) -> (String, String) {
    if let Some(failure) = seen.memory.failure(&container.name) {
        return failure.shown(seen.now);
    }
    let reason = if spec::init_containers(seen.pod).is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    };
    (reason.into(), String::new())
}

fn waiting((reason, message): (String, String)) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason),
        message: some(&message),
    };
    ContainerState {
        waiting: Some(waiting),
        ..Default::default()
    }
}

fn terminated(run: &Run) -> ContainerState {
    let reason = match run.reason.as_str() {
        "" if run.exit_code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    let time = |nanoseconds| seen::timestamp(nanoseconds).map(|time| Time(seconds(time)));
    let terminated = ContainerStateTerminated {
        container_id: Some(container_id(run)),
        exit_code: run.exit_code,
        finished_at: time(run.finished_at_ns),
        started_at: time(run.started_at_ns),
        reason: Some(reason.to_owned()),
        message: some(&run.message),
        signal: None,
    };
    ContainerState {
        terminated: Some(terminated),
        ..Default::default()
    }
}

/// The original's `getPhase`, for pods that are not terminal yet.
fn phase(seen: &Seen<'_>, init: &[ContainerStatus], regular: &[ContainerStatus]) -> &'static str {
    if plan::init_failed(seen) {
        return "Failed";
    }
    let began = regular.iter().any(|status| status.container_id.is_some());
    let pending = spec::init_containers(seen.pod)
        .iter()
        .zip(init)
        .any(|(container, status)| {
            if spec::is_sidecar(container) {
                status.started != Some(true) && !began
            } else {
                !status.ready && !began
            }
        });
    if pending {
        return "Pending";
    }
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in regular {
        let state = status.state.clone().unwrap_or_default();
        let ended_before = status
            .last_state
            .as_ref()
            .is_some_and(|last| last.terminated.is_some());
        match (state.running, state.terminated) {
            (Some(_), _) => running += 1,
            (_, Some(end)) => {
                stopped += 1;
                succeeded += u32::from(end.exit_code == 0);
            }
            _ if ended_before => stopped += 1,
            _ => waiting += 1,
        }
    }
    if waiting > 0 {
        return "Pending";
    }
    if running > 0 || stopped == 0 {
        return if running > 0 { "Running" } else { "Pending" };
    }
    if !plan::is_finished(seen) && seen.ending.is_none() {
        return "Running";
    }
    if seen.ending == Some(Ending::Shutdown) {
        return "Running";
    }
    if succeeded == stopped {
        "Succeeded"
    } else {
        "Failed"
    }
}

fn conditions(seen: &Seen<'_>, status: &PodStatus, before: Vec<PodCondition>) -> Vec<PodCondition> {
    let ours = super::conditions::of(seen, status);
    let mut all = before;
    for mut condition in ours {
        condition.observed_generation = seen.pod.metadata.generation;
        condition.last_transition_time = Some(Time(seconds(seen.now)));
        match all.iter_mut().find(|known| known.type_ == condition.type_) {
            Some(known) => {
                if known.status == condition.status && known.last_transition_time.is_some() {
                    condition.last_transition_time = known.last_transition_time.take();
                }
                *known = condition;
            }
            None => all.push(condition),
        }
    }
    resize::tell(seen, status, &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::memory::Memory;
    use crate::pod::seen::PodRuntime;
    use crate::probe::Verdicts;
    use capstan_runtime::{ContainerMetadata, PodSandboxStatus};
    use serde_json::{Value, json};

    fn run(name: &str, state: RunState, exit_code: i32) -> Run {
        Run {
            id: format!("id-{name}"),
            sandbox_id: "s".into(),
            metadata: ContainerMetadata {
                name: name.into(),
                attempt: 0,
            },
            state,
            exit_code,
            started_at_ns: 1,
            finished_at_ns: 2,
            ..Default::default()
        }
    }

    fn status(spec: Value, runs: Vec<Run>, ending: Option<Ending>) -> PodStatus {
        let pod: Pod =
            serde_json::from_value(json!({ "metadata": { "generation": 3 }, "spec": spec })).unwrap();
        let sandbox = PodSandboxStatus {
            id: "s".into(),
            ip: "10.0.0.1".into(),
            ..Default::default()
        };
        let mut verdicts = Verdicts::default();
        for run in runs.iter().filter(|run| run.state == RunState::Running) {
            verdicts.begin(spec::container(&pod, &run.metadata.name).unwrap(), &run.id);
        }
        let runtime = PodRuntime::new(vec![sandbox], runs);
        let (memory, now) = (Memory::default(), Timestamp::from_second(100).unwrap());
        build(
            &Seen {
                pod: &pod,
                runtime: &runtime,
                memory: &memory,
                verdicts: &verdicts,
                ending,
                now,
            },
            "192.0.2.1",
        )
    }

    #[test]
    fn phases() {
        let two = |policy: &str| json!({ "restartPolicy": policy, "containers": [{ "name": "a" }, { "name": "b" }] });
        let a = |state, code| run("a", state, code);
        let b = |state, code| run("b", state, code);
        use RunState::{Exited, Running};
        let cases = [
            (two("Always"), vec![], None, "Pending"),
            (two("Always"), vec![a(Running, 0)], None, "Pending"),
            (two("Always"), vec![a(Running, 0), b(Running, 0)], None, "Running"),
            (two("Always"), vec![a(Exited, 0), b(Exited, 1)], None, "Running"),
            (two("Never"), vec![a(Exited, 0), b(Running, 0)], None, "Running"),
            (two("Never"), vec![a(Exited, 0), b(Exited, 0)], None, "Succeeded"),
            (two("Never"), vec![a(Exited, 0), b(Exited, 1)], None, "Failed"),
            (
                two("OnFailure"),
                vec![a(Exited, 0), b(Exited, 1)],
                None,
                "Running",
            ),
            (
                two("Always"),
                vec![a(Exited, 143), b(Exited, 0)],
                Some(Ending::Deleted),
                "Failed",
            ),
            (
                two("Always"),
                vec![a(Running, 0)],
                Some(Ending::DeadlineExceeded),
                "Failed",
            ),
        ];
        for (spec, runs, ending, expected) in cases {
            let shown = format!("{spec} {ending:?}");
            assert_eq!(
                status(spec, runs, ending).phase.as_deref(),
                Some(expected),
                "{shown}"
            );
        }
    }

    #[test]
    fn conditions_name_what_is_missing() {
        let spec = json!({ "initContainers": [{ "name": "i" }],
            "containers": [{ "name": "a", "readinessProbe": {} }], "readinessGates": [{ "conditionType": "x/y" }] });
        let before = status(spec.clone(), vec![run("i", RunState::Running, 0)], None);
        let find = |status: &PodStatus, type_: &str| {
            status
                .conditions
                .iter()
                .flatten()
                .find(|condition| condition.type_ == type_)
                .cloned()
                .unwrap()
        };
        assert_eq!(
            find(&before, "Initialized").message.as_deref(),
            Some("containers with incomplete status: [i]")
        );
        assert_eq!(
            find(&before, "Ready").message.as_deref(),
            Some("containers with unready status: [a]")
        );
        assert_eq!(find(&before, "PodReadyToStartContainers").status, "True");
        assert_eq!(find(&before, "Ready").observed_generation, Some(3));
        let waiting = before.container_statuses.unwrap()[0]
            .state
            .clone()
            .unwrap()
            .waiting
            .unwrap();
        assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));

        let gated =
            json!({ "containers": [{ "name": "a" }], "readinessGates": [{ "conditionType": "x/y" }] });
        let after = status(gated, vec![run("a", RunState::Running, 0)], None);
        assert_eq!(find(&after, "ContainersReady").status, "True");
        assert_eq!(
            find(&after, "Ready").reason.as_deref(),
            Some("ReadinessGatesNotReady")
        );
    }
}
