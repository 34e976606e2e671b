//! Rules of what the kubelet calls in a container: probes and lifecycle hooks.
//! Invariants: one handler each. Called by the rules of containers.

use crate::validate::at::At;
use crate::validate::names;

const SIGNALS_WINDOWS: [&str; 2] = ["SIGKILL", "SIGTERM"];
const SIGNALS_LINUX: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

pub(super) fn lifecycle(container: &At, spec: &At) {
    let Some(lifecycle) = container.some("lifecycle") else {
        return;
    };
    for kind in ["postStart", "preStop"] {
        if let Some(hook) = lifecycle.some(kind) {
            one_of(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], spec);
        }
    }
    if lifecycle.has("stopSignal") {
        match spec.text("os.name") {
            "" => lifecycle.forbidden(
                "stopSignal",
                "may not be set for containers with empty `spec.os.name`",
            ),
            "windows" => lifecycle.exactly_one_of("stopSignal", &SIGNALS_WINDOWS),
            _ => lifecycle.exactly_one_of("stopSignal", &SIGNALS_LINUX),
        }
    }
}

pub(super) fn probes(container: &At, spec: &At) {
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.some(kind) else {
            continue;
        };
        one_of(&probe, &["exec", "httpGet", "tcpSocket", "grpc"], spec);
        probe.not_negative(&[
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ]);
        let grace = "terminationGracePeriodSeconds";
        if probe.int(grace).is_some_and(|seconds| seconds <= 0) {
            probe.invalid(grace, "must be greater than 0");
        }
        if kind == "readinessProbe" {
            if probe.has(grace) {
                probe.invalid(grace, "must not be set for readinessProbes");
            }
        } else if probe.number("successThreshold") != 1 {
            probe.invalid_as("successThreshold", probe.number("successThreshold"), "must be 1");
        }
    }
}

fn one_of(at: &At, kinds: &[&str], spec: &At) {
    let mut count = 0;
    for kind in kinds {
        let Some(action) = at.some(kind) else { continue };
        count += 1;
        if count > 1 {
            at.forbidden(kind, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" if action.count("command") == 0 => action.required("command", ""),
            "httpGet" => http_get(&action),
            "tcpSocket" | "grpc" => action.port("port"),
            "sleep" => sleep(&action, spec),
            _ => {}
        }
    }
    if count == 0 {
        at.required("", "must specify a handler type");
    }
}

fn http_get(at: &At) {
    at.need(&["path"]);
    at.port("port");
    at.exactly_one_of("scheme", &["HTTP", "HTTPS"]);
    for header in at.each("httpHeaders") {
        let name = header.text("name");
        for why in names::http_header(name) {
            at.invalid_as("httpHeaders", name, &why);
        }
    }
}

fn sleep(at: &At, spec: &At) {
    let seconds = at.number("seconds");
    if let Some(grace) = spec.int("terminationGracePeriodSeconds")
        && !(0..=grace).contains(&seconds)
    {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        at.invalid_as("", seconds, &why);
    }
}
