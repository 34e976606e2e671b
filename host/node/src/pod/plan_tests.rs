//! Scripted pods: what is seen on the left, what is planned on the right.

use capstan_runtime::{ContainerMetadata, PodSandboxMetadata, PodSandboxStatus};
use serde_json::{Value, json};

use super::*;
use crate::pod::memory::{Failure, FailureKind};
use crate::probe::{Kind, Report};

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn ns(second: i64) -> i64 {
    i64::try_from(now().as_nanosecond()).unwrap() + second * 1_000_000_000
}

/// `name#attempt@sandbox:state`, where the state is `run`, `new` or an exit code.
fn container(text: &str) -> ContainerStatus {
    let (name, rest) = text.split_once('#').unwrap();
    let (attempt, rest) = rest.split_once('@').unwrap();
    let (sandbox, state) = rest.split_once(':').unwrap();
    ContainerStatus {
        id: format!("{name}{attempt}"),
        sandbox_id: sandbox.to_owned(),
        metadata: ContainerMetadata {
            name: name.into(),
            attempt: attempt.parse().unwrap(),
        },
        state: match state {
            "run" => ContainerState::Running,
            "new" => ContainerState::Created,
            _ => ContainerState::Exited,
        },
        exit_code: state.parse().unwrap_or(0),
        started_at_ns: ns(-60),
        finished_at_ns: ns(-1),
        ..Default::default()
    }
}

/// `s0`, `s1` are ready, `!s0` is not.
fn sandbox(text: &str) -> PodSandboxStatus {
    let id = text.trim_start_matches('!');
    PodSandboxStatus {
        id: id.to_owned(),
        metadata: PodSandboxMetadata {
            attempt: id[1..].parse().unwrap(),
            ..Default::default()
        },
        state: if text.starts_with('!') {
            SandboxState::NotReady
        } else {
            SandboxState::Ready
        },
        ip: "10.0.0.1".into(),
        ..Default::default()
    }
}

struct Case {
    pod: Pod,
    runtime: PodRuntime,
    memory: Memory,
    verdicts: Verdicts,
    ending: Option<Ending>,
}

fn case(spec: Value, seen: &str) -> Case {
    let pod: Pod = serde_json::from_value(
        json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" }, "spec": spec }),
    )
    .unwrap();
    let words: Vec<&str> = seen.split_whitespace().collect();
    let sandboxes = words
        .iter()
        .filter(|word| !word.contains('#'))
        .map(|word| sandbox(word))
        .collect();
    let containers: Vec<ContainerStatus> = words
        .iter()
        .filter(|word| word.contains('#'))
        .map(|word| container(word))
        .collect();
    let mut verdicts = Verdicts::default();
    for run in containers
        .iter()
        .filter(|run| run.state == ContainerState::Running)
    {
        verdicts.begin(spec::container(&pod, &run.metadata.name).unwrap(), &run.id);
    }
    let memory = Memory {
        volumes: Volumes::Ready {
            paths: Default::default(),
            refresh_at: None,
        },
        ..Default::default()
    };
    Case {
        pod,
        runtime: PodRuntime::new(sandboxes, containers),
        memory,
        verdicts,
        ending: None,
    }
}

impl Case {
    fn plan(&self) -> Plan {
        plan(&Seen {
            pod: &self.pod,
            runtime: &self.runtime,
            memory: &self.memory,
            verdicts: &self.verdicts,
            ending: self.ending,
            now: now(),
        })
    }

    fn actions(&self) -> String {
        let words: Vec<String> = self.plan().actions.iter().map(word).collect();
        words.join(" ")
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::MakeVolumes => "volumes".into(),
        Action::RunSandbox { attempt } => format!("sandbox{attempt}"),
        Action::Start {
            container, attempt, ..
        } => format!("start:{container}{attempt}"),
        Action::Stop {
            id, grace_seconds, ..
        } => format!("stop:{id}/{grace_seconds}"),
        Action::RemoveContainer { id } => format!("remove:{id}"),
        Action::StopSandbox { id } => format!("stop:{id}"),
        Action::RemoveSandbox { id } => format!("remove:{id}"),
        Action::Resize { id, .. } => format!("resize:{id}"),
        Action::Finish => "finish".into(),
    }
}

fn two(policy: &str) -> Value {
    json!({ "restartPolicy": policy, "containers": [{ "name": "a" }, { "name": "b" }], "terminationGracePeriodSeconds": 7 })
}

fn with_init(policy: &str) -> Value {
    json!({ "restartPolicy": policy, "containers": [{ "name": "a" }],
        "initContainers": [{ "name": "i" }, { "name": "s", "restartPolicy": "Always" }, { "name": "j" }],
        "terminationGracePeriodSeconds": 7 })
}

#[test]
fn bringing_up() {
    for (spec, seen, expected) in [
        (two("Always"), "", "sandbox0"),
        (two("Always"), "s0", "start:a0 start:b0"),
        (two("Always"), "s0 a#0@s0:run", "start:b0"),
        (two("Always"), "s0 a#0@s0:new b#0@s0:run", "remove:a0"),
        (two("Always"), "s0 a#0@s0:0 b#0@s0:run", "start:a1"),
        (two("OnFailure"), "s0 a#0@s0:0 b#0@s0:1", "start:b1"),
        (two("Never"), "s0 a#0@s0:1 b#0@s0:run", ""),
        (two("Never"), "s0 a#0@s0:1 b#0@s0:0", "stop:s0"),
        (two("Never"), "!s0 a#0@s0:1 b#0@s0:0", ""),
        (two("Always"), "!s0 a#0@s0:1 b#0@s0:0", "sandbox1"),
        (two("Always"), "!s0 s1 a#0@s0:1 b#1@s1:run", "start:a1"),
        (
            two("Always"),
            "s0 a#0@s0:1 a#1@s0:1 a#2@s0:run b#0@s0:run",
            "remove:a0",
        ),
        (with_init("Always"), "s0", "start:i0"),
        (with_init("Always"), "s0 i#0@s0:run", ""),
        (with_init("Always"), "s0 i#0@s0:1", "start:i1"),
        (with_init("Never"), "s0 i#0@s0:1", "stop:s0"),
        (with_init("Always"), "s0 i#0@s0:0", "start:s0"),
        (with_init("Always"), "s0 i#0@s0:0 s#0@s0:run", "start:j0"),
        (with_init("Always"), "s0 i#0@s0:0 s#0@s0:run j#0@s0:0", "start:a0"),
        (
            with_init("Always"),
            "s0 i#0@s0:0 s#0@s0:1 j#0@s0:0 a#0@s0:run",
            "start:s1",
        ),
        (
            with_init("Never"),
            "s0 i#0@s0:0 s#0@s0:run j#0@s0:0 a#0@s0:0",
            "stop:s0/7",
        ),
        (
            with_init("Always"),
            "!s0 s1 i#0@s0:0 s#0@s0:1 j#0@s0:0 a#0@s0:1",
            "start:i1",
        ),
    ] {
        assert_eq!(case(spec.clone(), seen).actions(), expected, "{spec} {seen}");
    }
}

#[test]
fn winding_down() {
    for (ending, spec, seen, expected) in [
        (
            Ending::Deleted,
            two("Always"),
            "s0 a#0@s0:run b#0@s0:0",
            "stop:a0/7",
        ),
        (Ending::Deleted, two("Always"), "s0 a#0@s0:0 b#0@s0:0", "stop:s0"),
        (
            Ending::Deleted,
            two("Always"),
            "!s0 a#0@s0:0 b#0@s0:0",
            "remove:s0",
        ),
        (Ending::Deleted, two("Always"), "", "finish"),
        (
            Ending::DeadlineExceeded,
            two("Always"),
            "s0 a#0@s0:run b#0@s0:run",
            "stop:a0/7 stop:b0/7",
        ),
        (Ending::DeadlineExceeded, two("Always"), "!s0", ""),
        (
            Ending::Deleted,
            with_init("Always"),
            "s0 s#0@s0:run a#0@s0:run",
            "stop:a0/7",
        ),
        (
            Ending::Deleted,
            with_init("Always"),
            "s0 s#0@s0:run a#0@s0:0",
            "stop:s0/7",
        ),
    ] {
        let case = Case {
            ending: Some(ending),
            ..case(spec.clone(), seen)
        };
        assert_eq!(case.actions(), expected, "{ending:?} {seen}");
    }
}

#[test]
fn pauses_are_kept_and_wake() {
    let mut crashed = case(two("Always"), "s0 a#0@s0:1 b#0@s0:run");
    crashed.memory.container("a").crash.attempt(now());
    let later = |second: i64| Some(now().saturating_add(SignedDuration::from_secs(second)).unwrap());
    assert_eq!(
        crashed.plan(),
        Plan {
            actions: Vec::new(),
            wake_at: later(9)
        }
    );

    let mut failed = case(two("Always"), "s0 b#0@s0:run");
    failed.memory.container("a").failure = Some(Failure {
        kind: FailureKind::Runtime,
        reason: "RunContainerError".into(),
        message: String::new(),
        image: String::new(),
        failed_at: now(),
        retry_at: later(5).unwrap(),
    });
    assert_eq!(failed.plan().actions, []);
    failed.memory.busy.insert(Key::Container("a".into()));
    assert_eq!(failed.plan().actions, [], "busy");
}

#[test]
fn what_fails_its_probe_is_stopped_by_its_own_grace() {
    let spec =
        json!({ "containers": [{ "name": "a", "livenessProbe": { "terminationGracePeriodSeconds": 3 } }] });
    let mut case = case(spec, "s0 a#0@s0:run");
    let report = |id: &str| Report {
        container: "a".into(),
        id: id.into(),
        kind: Kind::Liveness,
        passed: false,
    };
    let container = spec::containers(&case.pod)[0].clone();
    case.verdicts.record(&container, &report("an earlier run"));
    assert_eq!(case.actions(), "");
    case.verdicts.record(&container, &report("a0"));
    assert_eq!(case.actions(), "stop:a0/3");
}

#[test]
fn a_deadline_ends_a_pod() {
    let pod: Pod =
        serde_json::from_value(json!({ "spec": { "activeDeadlineSeconds": 60, "containers": [] } })).unwrap();
    let started = |ago: i64| Some(now().saturating_sub(SignedDuration::from_secs(ago)).unwrap());
    assert_eq!(ending(&pod, started(59), now()), None);
    assert_eq!(ending(&pod, started(60), now()), Some(Ending::DeadlineExceeded));
    assert_eq!(ending(&pod, None, now()), None);
}
