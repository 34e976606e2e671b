//! The columns of pods, computed as kubectl's users know them.
//! Invariants: the status word follows the original printer's rules: init containers first, then the last
//! container that says something, then deletion. Never fails on odd status documents.

use serde_json::{Value, json};

use super::age;
use super::table::{AGE, NAME, Spec, text, wide};
use super::{flag, list, number, or_none, string};

pub(super) static PODS: [Spec; 9] = [
    NAME,
    text("Ready", |pod, _| {
        let shown = Summary::of(pod);
        json!(format!("{}/{}", shown.ready, shown.total))
    }),
    text("Status", |pod, _| json!(Summary::of(pod).reason)),
    text("Restarts", |pod, now| json!(Summary::of(pod).restarts.shown(now))),
    AGE,
    wide("IP", |pod, _| {
        let first = list(pod, "/status/podIPs")
            .next()
            .map(|address| string(address, "/ip"))
            .unwrap_or_default();
        or_none(if first.is_empty() {
            string(pod, "/status/podIP")
        } else {
            first
        })
    }),
    wide("Node", |pod, _| or_none(string(pod, "/spec/nodeName"))),
    wide("Nominated Node", |pod, _| {
        or_none(string(pod, "/status/nominatedNodeName"))
    }),
    wide("Readiness Gates", |pod, _| {
        let gates: Vec<&str> = list(pod, "/spec/readinessGates")
            .map(|gate| string(gate, "/conditionType"))
            .collect();
        let met = gates.iter().filter(|gate| condition(pod, gate) == "True").count();
        if gates.is_empty() {
            json!("<none>")
        } else {
            json!(format!("{met}/{}", gates.len()))
        }
    }),
];

#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i64,
    last_second: Option<i64>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += number(container, "/restartCount");
        let finished = age::seconds(string(container, "/lastState/terminated/finishedAt"));
        self.last_second = self.last_second.max(finished);
    }

    fn shown(&self, now_seconds: i64) -> String {
        match self.last_second {
            Some(last) if self.count != 0 => {
                format!("{} ({} ago)", self.count, age::human(now_seconds - last))
            }
            _ => self.count.to_string(),
        }
    }
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
}

/// Where the init containers have brought a pod.
struct Initialization {
    /// Set while they are not done.
    reason: Option<String>,
    restarts: Restarts,
    sidecar_restarts: Restarts,
    sidecars_ready: usize,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let phase = string(pod, "/status/phase");
        let said = string(pod, "/status/reason");
        let mut reason = if said.is_empty() { phase } else { said }.to_string();
        let gated = |one: &Value| {
            string(one, "/type") == "PodScheduled" && string(one, "/reason") == "SchedulingGated"
        };
        if list(pod, "/status/conditions").any(gated) {
            reason = "SchedulingGated".to_string();
        }
        let sidecars = list(pod, "/spec/initContainers")
            .filter(|one| is_sidecar(one))
            .count();
        let total = list(pod, "/spec/containers").count() + sidecars;
        let initialization = initialization(pod);
        let (mut ready, mut restarts) = (initialization.sidecars_ready, initialization.restarts);
        let initializing = initialization.reason.is_some();
        if let Some(initial) = initialization.reason {
            reason = initial;
        }
        if !initializing || condition(pod, "Initialized") == "True" {
            restarts = initialization.sidecar_restarts;
            let mut running = false;
            let statuses: Vec<&Value> = list(pod, "/status/containerStatuses").collect();
            for container in statuses.into_iter().rev() {
                restarts.add(container);
                if let Some(word) = container_word(container) {
                    reason = word;
                } else if flag(container, "/ready") && container.pointer("/state/running").is_some() {
                    running = true;
                    ready += 1;
                }
            }
            if reason == "Completed" && running {
                reason = if condition(pod, "Ready") == "True" {
                    "Running"
                } else {
                    "NotReady"
                }
                .to_string();
            }
        }
        if pod
            .pointer("/metadata/deletionTimestamp")
            .is_some_and(Value::is_string)
        {
            if said == "NodeLost" {
                reason = "Unknown".to_string();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                reason = "Terminating".to_string();
            }
        }
        Self {
            ready,
            total,
            reason,
            restarts,
        }
    }
}

fn is_sidecar(container: &Value) -> bool {
    string(container, "/restartPolicy") == "Always"
}

fn initialization(pod: &Value) -> Initialization {
    let specs: Vec<&Value> = list(pod, "/spec/initContainers").collect();
    let mut seen = Initialization {
        reason: None,
        restarts: Restarts::default(),
        sidecar_restarts: Restarts::default(),
        sidecars_ready: 0,
    };
    for (index, container) in list(pod, "/status/initContainerStatuses").enumerate() {
        let sidecar = specs
            .iter()
            .any(|spec| string(spec, "/name") == string(container, "/name") && is_sidecar(spec));
        seen.restarts.add(container);
        if sidecar {
            seen.sidecar_restarts.add(container);
        }
        let ended = container.pointer("/state/terminated");
        if ended.is_some() && number(container, "/state/terminated/exitCode") == 0 {
            continue;
        }
        if sidecar && flag(container, "/started") {
            seen.sidecars_ready += usize::from(flag(container, "/ready"));
            continue;
        }
        let waiting = string(container, "/state/waiting/reason");
        seen.reason = Some(match ended {
            Some(ended) => format!("Init:{}", ended_word(ended)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{}", specs.len()),
        });
        break;
    }
    seen
}

fn ended_word(ended: &Value) -> String {
    let (reason, signal) = (string(ended, "/reason"), number(ended, "/signal"));
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", number(ended, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_string(),
    }
}

fn container_word(container: &Value) -> Option<String> {
    let waiting = string(container, "/state/waiting/reason");
    if !waiting.is_empty() {
        return Some(waiting.to_string());
    }
    container
        .pointer("/state/terminated")
        .filter(|ended| ended.is_object())
        .map(ended_word)
}

/// The status of a condition, empty if it is not there.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    list(object, "/status/conditions")
        .find(|one| string(one, "/type") == kind)
        .map(|one| string(one, "/status"))
        .unwrap_or_default()
}
