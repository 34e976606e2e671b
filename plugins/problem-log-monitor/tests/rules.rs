//! A rule file in node-problem-detector's form, on lines as the kernel writes them.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::{
    Config, HandOff, Plugin,
    problem::{ConditionStatus, Finding, Line, Monitor, Source},
};
use problem_log_monitor::LogMonitor;

const RULES: &str = r#"{
    "plugin": "kmsg", "logPath": "/dev/kmsg", "lookback": "5m", "bufferSize": 10, "source": "kernel-monitor",
    "metricsReporting": true,
    "conditions": [{"type": "KernelDeadlock", "reason": "KernelHasNoDeadlock", "message": "kernel has no deadlock"}],
    "rules": [
        {"type": "temporary", "reason": "OOMKilling",
         "pattern": "Killed process \\d+ (.+) total-vm:\\d+kB, anon-rss:\\d+kB, file-rss:\\d+kB.*"},
        {"type": "permanent", "condition": "KernelDeadlock", "reason": "TaskHung",
         "pattern": "task \\S+:\\w+ blocked for more than \\w+ seconds\\.", "clearPattern": "task unblocked", "clearAfter": "1m"}
    ]
}"#;
const HUNG: &str = "INFO: task dockerd:20744 blocked for more than 120 seconds.";

fn monitor(rules: &str) -> LogMonitor {
    LogMonitor::new(Config::read(rules).unwrap()).unwrap()
}

fn line(monitor: &mut LogMonitor, text: &str, now_ms: u64) -> Vec<String> {
    let mut found = Vec::new();
    monitor
        .on_line(
            0,
            Line {
                time_ms: now_ms,
                text: text.into(),
            },
            now_ms,
            &mut found,
        )
        .unwrap();
    found.iter().map(short).collect()
}

fn tick(monitor: &mut LogMonitor, now_ms: u64) -> Vec<String> {
    let mut found = Vec::new();
    monitor.on_tick(now_ms, &mut found).unwrap();
    found.iter().map(short).collect()
}

fn short(finding: &Finding) -> String {
    match finding {
        Finding::Condition(c) => format!(
            "{}={} {}",
            c.type_name,
            c.status == ConditionStatus::Yes,
            c.reason
        ),
        Finding::Event(event) => format!("event {}: {}", event.reason, event.message),
    }
}

#[test]
fn the_kernel_log_is_watched_as_the_file_says() {
    let Source::Lines(source) = &monitor(RULES).sources()[0] else {
        panic!()
    };
    assert_eq!((source.path.as_str(), source.lookback_ms), ("/dev/kmsg", 300_000));
}

#[test]
fn conditions_are_set_and_cleared_and_events_made() {
    let mut monitor = monitor(RULES);
    assert_eq!(
        tick(&mut monitor, 0),
        ["KernelDeadlock=false KernelHasNoDeadlock"]
    );
    assert_eq!(tick(&mut monitor, 1), Vec::<String>::new());
    let oom = "Killed process 1012 (heapster) total-vm:327128kB, anon-rss:306328kB, file-rss:11132kB";
    assert_eq!(line(&mut monitor, oom, 2), [format!("event OOMKilling: {oom}")]);
    assert_eq!(
        line(&mut monitor, HUNG, 3),
        [
            "KernelDeadlock=true TaskHung".to_owned(),
            format!("event TaskHung: {}", &HUNG[6..])
        ]
    );
    assert_eq!(line(&mut monitor, HUNG, 4), Vec::<String>::new());
    assert_eq!(
        line(&mut monitor, "task unblocked", 5),
        ["KernelDeadlock=false KernelHasNoDeadlock"]
    );
    assert_eq!(line(&mut monitor, HUNG, 10).len(), 2);
    assert_eq!(line(&mut monitor, HUNG, 50_000), Vec::<String>::new());
    assert_eq!(tick(&mut monitor, 60_010), Vec::<String>::new());
    assert_eq!(
        tick(&mut monitor, 110_000),
        ["KernelDeadlock=false KernelHasNoDeadlock"]
    );
}

#[test]
fn a_set_condition_survives_a_swap_and_is_cleared_by_the_next_revision() {
    let mut old = monitor(RULES);
    line(&mut old, HUNG, 3);
    let mut next = monitor(RULES);
    next.restore(&old.save()).unwrap();
    assert_eq!(tick(&mut next, 4), ["KernelDeadlock=true TaskHung"]);
    assert_eq!(
        line(&mut next, "task unblocked", 5),
        ["KernelDeadlock=false KernelHasNoDeadlock"]
    );
    let mut other = monitor(r#"{"rules": []}"#);
    other.restore(&old.save()).unwrap();
    assert_eq!(
        tick(&mut other, 6),
        [
            "KernelDeadlock=true TaskHung",
            "KernelDeadlock=false NoLongerWatched"
        ]
    );
}

#[test]
fn mistakes_name_their_field() {
    for (rules, message) in [
        (
            r#"{"plugin": "journald", "rules": []}"#,
            "plugin: \"journald\" is not supported; use kmsg or filelog",
        ),
        (
            r#"{"rules": [{"type": "permanent", "condition": "X", "reason": "R", "pattern": "p"}]}"#,
            "rules[0].condition: \"X\" is not one of the conditions",
        ),
    ] {
        assert_eq!(
            LogMonitor::new(Config::read(rules).unwrap())
                .err()
                .unwrap()
                .message,
            message
        );
    }
    let fault = LogMonitor::new(
        Config::read(r#"{"rules": [{"type": "temporary", "reason": "R", "pattern": "("}]}"#).unwrap(),
    );
    assert!(
        fault
            .err()
            .unwrap()
            .message
            .starts_with("rules[0].pattern: \"(\" is not a regular expression")
    );
}

#[test]
fn a_rule_with_a_count_speaks_when_lines_come_too_close_together() {
    let rules = r#"{
        "conditions": [{"type": "GpuErrors", "reason": "GpuWell", "message": "the GPU makes no errors"}],
        "rules": [
            {"type": "permanent", "condition": "GpuErrors", "reason": "GpuErrorsFrequent",
             "pattern": "NVRM: Xid \\(.*\\): (13|31|43), .*", "count": 3, "window": "1m", "clearAfter": "5m"},
            {"type": "temporary", "reason": "LinkFlaps", "pattern": "Link is Down", "count": 2, "window": "10s"}
        ]
    }"#;
    let mut monitor = monitor(rules);
    assert_eq!(tick(&mut monitor, 0), ["GpuErrors=false GpuWell"]);
    let xid = "NVRM: Xid (PCI:0000:3b:00): 31, pid=71, name=python, Ch 00000008";
    for (at, found) in [(0, 0), (50_000, 0), (100_000, 0), (105_000, 2), (106_000, 0)] {
        assert_eq!(line(&mut monitor, xid, at).len(), found, "at {at}");
    }
    assert_eq!(tick(&mut monitor, 405_000), Vec::<String>::new());
    assert_eq!(tick(&mut monitor, 406_000), ["GpuErrors=false GpuWell"]);
    let link = "eth0: Link is Down";
    for (at, found) in [
        (500_000, 0),
        (511_000, 0),
        (512_000, 1),
        (513_000, 0),
        (514_000, 1),
    ] {
        assert_eq!(line(&mut monitor, link, at).len(), found, "at {at}");
    }
    let half = r#"{"rules": [{"type": "temporary", "reason": "R", "pattern": "p", "count": 2}]}"#;
    let fault = LogMonitor::new(Config::read(half).unwrap()).err().unwrap();
    assert_eq!(fault.message, "rules[0].window: count needs one, such as 10m");
}
