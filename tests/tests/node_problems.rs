//! Problem daemons and remedies: a real kernel line turns a condition, the remedy acts, and both clear.

use std::io::Write;

use capstan_tests::{Cluster, until};
use serde_json::Value;

const HUNG: &str = "task docker:7 blocked for more than 300 seconds.";

/// In the form of node-problem-detector's own `kernel-monitor.json`.
const RULES: &str = r#"{
  "plugin": "kmsg",
  "logPath": "PATH",
  "lookback": "5m",
  "bufferSize": 10,
  "source": "kernel-monitor",
  "conditions": [
    { "type": "KernelDeadlock", "reason": "KernelHasNoDeadlock", "message": "kernel has no deadlock" }
  ],
  "rules": [
    { "type": "temporary", "reason": "OOMKilling", "pattern": "Killed process \\d+ (.+) total-vm:\\d+kB.*" },
    { "type": "permanent", "condition": "KernelDeadlock", "reason": "DockerHung",
      "pattern": "task docker:\\w+ blocked for more than \\w+ seconds\\.", "clearAfter": "2s" }
  ]
}"#;

const PLUGIN: &str = "
apiVersion: plugins.capstan.dev/v1
kind: Plugin
metadata: { name: kernel-monitor }
spec:
  source: { bundled: problem-log-monitor }
  configFrom: { configMap: { namespace: kube-system, name: kernel-monitor, key: kernel-monitor.json } }
  capabilities: [{ name: node-logs, paths: ['PATH'] }]
  bind: { nodes: { selector: {} } }
";

fn status_of(node: &Value, kind: &str) -> String {
    let conditions = node["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == kind);
    found
        .and_then(|one| one["status"].as_str())
        .unwrap_or("absent")
        .to_owned()
}

fn tainted(node: &Value) -> bool {
    node["spec"]["taints"]
        .as_array()
        .is_some_and(|taints| !taints.is_empty())
}

#[test]
fn a_kernel_line_turns_a_condition_and_the_remedy_acts_and_lifts() {
    let cluster = Cluster::start();
    let log = cluster.file("kern.log", "");
    let path = log.to_str().expect("a plain path");
    let rules = cluster.file("kernel-monitor.json", &RULES.replace("PATH", path));
    let from = format!("--from-file={}", rules.display());
    cluster
        .kubectl(&[
            "create",
            "configmap",
            "kernel-monitor",
            "-n",
            "kube-system",
            &from,
        ])
        .clean();
    cluster.apply(&PLUGIN.replace("PATH", path)).clean();
    let node = || cluster.get(&["node", "capstan"]);
    until("the condition to be known and false", || {
        match status_of(&node()?, "KernelDeadlock").as_str() {
            "False" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&log)
        .expect("the log");
    writeln!(file, "kernel: [1000.000000] {HUNG}").expect("a line");
    until("the condition and the remedy's taint", || {
        let node = node()?;
        let seen = (status_of(&node, "KernelDeadlock"), tainted(&node));
        if seen == ("True".to_owned(), true) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    until("both to clear", || {
        let node = node()?;
        let seen = (status_of(&node, "KernelDeadlock"), tainted(&node));
        if seen == ("False".to_owned(), false) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    writeln!(
        file,
        "kernel: [1001.000000] Killed process 77 (hog) total-vm:9kB, anon-rss:8kB"
    )
    .expect("a line");
    until("the temporary problem's event", || {
        let events = cluster
            .kubectl(&["get", "events", "-A", "--field-selector", "reason=OOMKilling"])
            .out;
        if events.contains("Killed process 77") {
            Ok(())
        } else {
            Err(events)
        }
    });
}
