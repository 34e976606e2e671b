//! Hot swap under load: a scheduler, an admission and two problem plugins are replaced again and again while
//! objects are created by several clients at once and a watched file grows.
//!
//! No call may be lost: every object carries the label of some revision, every pod is placed, every line is
//! counted once. Load and swaps go through `kubectl proxy`, so that the pauses measured are the cluster's.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use capstan_tests::{Cluster, ClusterOptions, send, until, until_within};
use serde_json::{Value, json};

#[path = "../fixtures/bad-plugins/wrap.rs"]
#[allow(dead_code, reason = "the counter is not one of the fixtures")]
mod wrap;

/// How often each plugin is replaced.
const SWAPS: u64 = 100;
/// Clients that create ConfigMaps as fast as they can.
const CLIENTS: usize = 2;
/// Pods are created this often, and this many at most (two nodes take 110 each).
const POD_INTERVAL: Duration = Duration::from_millis(100);
const PODS_MAX: usize = 150;
/// So many lines are appended this often: 500 a second.
const LINES_INTERVAL: Duration = Duration::from_millis(20);
const LINES_AT_ONCE: u64 = 10;
/// Every so many lines there is one that makes an event; the node's budget of events allows for few.
const FAULT_EVERY: u64 = 250;
const FAULTS_MAX: u64 = 12;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const PLUGINS: &str = "/apis/plugins.capstan.dev/v1/plugins";

/// A daemon that counts lines and says the count as a condition. It traps on a line that the host says was lost.
const COUNTS: &str = r#"
;;wit export capstan:plugin/guest@0.1.0;
(func (export "capstan:plugin/guest@0.1.0#configure") (param i32 i32) (result i32) (i32.const 64))
;;wit export capstan:plugin/hand-off@0.1.0;
;;wit export capstan:problem/monitor@0.1.0;
(global $seen (mut i64) (i64.const 0))
(data (i32.const 128) "\a0\00\00\00\08\00\00\00")
(func (export "capstan:plugin/hand-off@0.1.0#save-state") (result i32)
  (i64.store (i32.const 160) (global.get $seen))
  (i32.const 128))
(func (export "capstan:plugin/hand-off@0.1.0#restore-state") (param $at i32) (param i32) (result i32)
  (global.set $seen (i64.load (local.get $at)))
  (i32.const 64))
;; Two sources: the file, and ticks every 200 ms.
(data (i32.const 216) "\00\04\00\00\02\00\00\00")
(data (i32.const 1032) "\50\04\00\00\LENGTH\00\00\00")
(data (i32.const 1048) "\02\00\00\00\00\00\00\00\c8\00\00\00")
(data (i32.const 1104) "PATH")
(func (export "capstan:problem/monitor@0.1.0#sources") (result i32) (i32.const 216))
(func (export "capstan:problem/monitor@0.1.0#on-lines")
  (param i32 i32) (param $count i32) (param $dropped i64) (param i64) (result i32)
  (if (i64.ne (local.get $dropped) (i64.const 0)) (then (unreachable)))
  (global.set $seen (i64.add (global.get $seen) (i64.extend_i32_u (local.get $count))))
  (i32.const 64))
(func (export "capstan:problem/monitor@0.1.0#on-samples") (param i32 i32 i64) (result i32) (i32.const 64))
;; One finding at 544: the condition LinesCounted is false, because "Counted", its message eight digits.
(data (i32.const 516) "\20\02\00\00\01\00\00\00")
(data (i32.const 548) "\80\05\00\00\0c\00\00\00\01\00\00\00\90\05\00\00\07\00\00\00\a0\05\00\00\08\00\00\00")
(data (i32.const 1408) "LinesCounted\00\00\00\00Counted")
(func (export "capstan:problem/monitor@0.1.0#on-tick") (param i64) (result i32)
  (local $left i64) (local $at i32)
  (local.set $left (global.get $seen))
  (local.set $at (i32.const 1448))
  (loop $digit
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (i64.store8 (local.get $at) (i64.add (i64.const 48) (i64.rem_u (local.get $left) (i64.const 10))))
    (local.set $left (i64.div_u (local.get $left) (i64.const 10)))
    (br_if $digit (i32.gt_u (local.get $at) (i32.const 1440))))
  (i32.const 512))
"#;

/// `kubectl proxy`, ended with the value.
struct Proxy {
    process: Child,
    address: String,
}

impl Proxy {
    fn start(cluster: &Cluster) -> Self {
        let mut command = cluster.kubectl_command(&["proxy", "--port=0"]);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("kubectl starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("its output is piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says where it serves");
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        Self { process, address }
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let (content_type, body) = match method {
            "GET" => ("text/plain", String::new()),
            "PATCH" => ("application/merge-patch+json", body.to_string()),
            _ => ("application/json", body.to_string()),
        };
        let said = send(&self.address, method, path, content_type, &body)?;
        serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        self.send("GET", path, &Value::Null)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a load saw: how many, and the longest wait for one.
#[derive(Default)]
struct Seen {
    count: usize,
    longest: Duration,
}

impl Seen {
    fn note(&mut self, took: Duration) {
        self.count += 1;
        self.longest = self.longest.max(took);
    }
}

fn plugin(name: &str, spec: Value) -> String {
    let metadata = json!({ "name": name });
    json!({ "apiVersion": "plugins.capstan.dev/v1", "kind": "Plugin", "metadata": metadata, "spec": spec })
        .to_string()
}

fn rules(path: &str, turn: u64) -> Value {
    json!({
        "plugin": "filelog", "logPath": path, "source": "test", "bufferSize": turn % 50 + 1, "conditions": [],
        "rules": [{ "type": "temporary", "reason": "SwappedFault", "pattern": "fault \\d+" }],
    })
}

fn plugins(cluster: &Cluster, path: &str) -> String {
    let counts = COUNTS
        .replace("PATH", path)
        .replace("LENGTH", &format!("{:02x}", path.len()));
    let prelude = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bad-plugins/prelude.wat");
    let prelude = std::fs::read_to_string(prelude).expect("the prelude is there");
    let component = cluster.scratch().join("counts.wasm");
    std::fs::write(&component, wrap::component(&prelude, &counts)).expect("a file in a temporary folder");
    let covered = json!({ "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"] });
    let node = json!({ "nodes": { "selector": { "matchLabels": { "kubernetes.io/hostname": "capstan" } } } });
    let reads = json!([{ "name": "node-logs", "paths": [path] }]);
    let specs = [
        plugin(
            "swapped-scorer",
            json!({
                "source": { "bundled": "scheduler-label-preference" }, "config": { "key": "disk", "value": "ssd" },
                "bind": { "scheduler": { "profiles": ["default-scheduler"], "weight": 100 } },
            }),
        ),
        plugin(
            "swapped-policy",
            json!({
                "source": { "bundled": "admission-labels" }, "config": { "defaults": { "turn": "t0" } },
                "bind": { "admission": { "rules": [covered] } },
            }),
        ),
        plugin(
            "swapped-monitor",
            json!({
                "source": { "bundled": "problem-log-monitor" }, "config": rules(path, 0), "bind": node, "capabilities": reads,
            }),
        ),
        plugin(
            "swapped-counter",
            json!({ "source": { "file": component }, "bind": node, "capabilities": reads }),
        ),
    ];
    specs.join("\n")
}

const SWAPPED: [&str; 4] = [
    "swapped-scorer",
    "swapped-policy",
    "swapped-monitor",
    "swapped-counter",
];

fn config(name: &str, path: &str, turn: u64) -> Value {
    match name {
        "swapped-scorer" => {
            json!({ "key": "disk", "value": if turn.is_multiple_of(2) { "ssd" } else { "nvme" } })
        }
        "swapped-policy" => json!({ "defaults": { "turn": format!("t{turn}") } }),
        "swapped-monitor" => rules(path, turn),
        _ => json!({ "weight": turn + 1 }),
    }
}

fn ready(proxy: &Proxy, name: &str) {
    until(&format!("{name} to be ready"), || {
        let plugin = proxy.get(&format!("{PLUGINS}/{name}"))?;
        let status = &plugin["status"];
        let level = plugin["metadata"]["generation"] == status["observedGeneration"];
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions
            .iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True");
        if level && ready {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}

fn swap_again_and_again(proxy: &Proxy, path: &str) {
    for turn in 1..=SWAPS {
        for name in SWAPPED {
            let patch = json!({ "spec": { "config": config(name, path, turn) } });
            proxy
                .send("PATCH", &format!("{PLUGINS}/{name}"), &patch)
                .expect("the plugin is replaced");
        }
        SWAPPED.iter().for_each(|name| ready(proxy, name));
    }
}

fn create_config_maps(proxy: &Proxy, client: usize, done: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !done.load(Ordering::SeqCst) {
        let object = json!({ "metadata": { "name": format!("c{client}-{}", seen.count) }, "data": {} });
        let started = Instant::now();
        let created = proxy.send("POST", CONFIG_MAPS, &object).expect("no create fails");
        seen.note(started.elapsed());
        let label = created["metadata"]["labels"]["turn"].as_str().unwrap_or_default();
        assert!(
            label.starts_with('t'),
            "no revision saw {}",
            created["metadata"]["name"]
        );
    }
    seen
}

/// Creates pods and waits for each to be placed, the next one meanwhile being due.
fn create_pods(proxy: &Proxy, done: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !done.load(Ordering::SeqCst) && seen.count < PODS_MAX {
        let name = format!("p{}", seen.count);
        let container = json!({ "name": "main", "image": "example.org/none:1", "imagePullPolicy": "Never" });
        let pod = json!({ "metadata": { "name": name }, "spec": { "containers": [container] } });
        let started = Instant::now();
        proxy.send("POST", PODS, &pod).expect("no create fails");
        until_within(Duration::from_secs(20), "the pod to be placed", || {
            let pod = proxy.get(&format!("{PODS}/{name}"))?;
            if pod["spec"]["nodeName"].is_string() {
                Ok(())
            } else {
                Err(pod["status"].to_string())
            }
        });
        seen.note(started.elapsed());
        std::thread::sleep(POD_INTERVAL.saturating_sub(started.elapsed()));
    }
    seen
}

/// Appends lines at a steady pace: how many, and how many of them tell a fault.
fn append_lines(path: &str, done: &AtomicBool) -> (u64, u64) {
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(path)
        .expect("the log is there");
    let (mut lines, mut faults) = (0, 0);
    while !done.load(Ordering::SeqCst) {
        let mut text = String::new();
        for _ in 0..LINES_AT_ONCE {
            lines += 1;
            if lines % FAULT_EVERY == 0 && faults < FAULTS_MAX {
                faults += 1;
                text += &format!("fault {faults}\n");
            } else {
                text += &format!("all is well {lines}\n");
            }
        }
        file.write_all(text.as_bytes()).expect("lines");
        std::thread::sleep(LINES_INTERVAL);
    }
    (lines, faults)
}

fn counted(proxy: &Proxy) -> Result<u64, String> {
    let node = proxy.get("/api/v1/nodes/capstan")?;
    let conditions = node["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == "LinesCounted");
    let message = found.and_then(|one| one["message"].as_str()).unwrap_or_default();
    message.parse().map_err(|_| format!("{conditions:?}"))
}

/// Every fault has one event, said once.
fn every_fault_was_told_once(proxy: &Proxy, faults: u64) {
    let path = "/api/v1/namespaces/default/events?fieldSelector=reason%3DSwappedFault";
    let mut told = until("all events", || {
        let events = proxy.get(path)?["items"].as_array().cloned().unwrap_or_default();
        if events.len() as u64 >= faults {
            Ok(events)
        } else {
            Err(format!("{} of {faults}", events.len()))
        }
    });
    told.sort_by_key(|event| {
        event["message"]
            .as_str()
            .and_then(|said| said[6..].parse::<u64>().ok())
    });
    let said: Vec<(String, i64)> = told
        .iter()
        .map(|event| {
            (
                event["message"].as_str().unwrap_or_default().to_owned(),
                event["count"].as_i64().unwrap_or(0),
            )
        })
        .collect();
    let wanted: Vec<(String, i64)> = (1..=faults).map(|fault| (format!("fault {fault}"), 1)).collect();
    assert_eq!(said, wanted);
}

#[test]
fn no_call_is_lost_while_plugins_are_replaced() {
    let cluster = Cluster::with(ClusterOptions {
        nodes: 2,
        ..ClusterOptions::default()
    });
    cluster
        .kubectl(&["label", "node", "capstan-2", "disk=ssd"])
        .clean();
    cluster
        .kubectl(&["label", "node", "capstan", "disk=nvme"])
        .clean();
    let path = cluster.file("watched.log", "");
    let path = path.to_str().expect("a plain path");
    cluster.apply(&plugins(&cluster, path)).clean();
    let proxy = Proxy::start(&cluster);
    SWAPPED.iter().for_each(|name| ready(&proxy, name));
    until("the counter to have begun", || counted(&proxy));
    let done = AtomicBool::new(false);
    let started = Instant::now();
    let (creates, pods, (lines, faults)) = std::thread::scope(|scope| {
        let (proxy, done) = (&proxy, &done);
        let creates: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || create_config_maps(proxy, client, done)))
            .collect();
        let pods = scope.spawn(|| create_pods(proxy, done));
        let lines = scope.spawn(|| append_lines(path, done));
        let swaps = scope.spawn(|| swap_again_and_again(proxy, path)).join();
        done.store(true, Ordering::SeqCst);
        swaps.expect("the swaps go through");
        let creates: Vec<Seen> = creates
            .into_iter()
            .map(|one| one.join().expect("no create is lost"))
            .collect();
        (
            creates,
            pods.join().expect("no pod is lost"),
            lines.join().expect("lines are written"),
        )
    });
    let took = started.elapsed();
    until("every line to be counted", || match counted(&proxy)? {
        counted if counted == lines => Ok(()),
        counted => Err(format!("{counted} of {lines}")),
    });
    every_fault_was_told_once(&proxy, faults);
    let nodes = proxy.get(PODS).expect("pods")["items"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for node in ["capstan", "capstan-2"] {
        assert!(
            nodes.iter().any(|pod| pod["spec"]["nodeName"] == node),
            "no revision of the scorer chose {node}"
        );
    }
    let count: usize = creates.iter().map(|seen| seen.count).sum();
    let longest = creates.iter().map(|seen| seen.longest).max().unwrap_or_default();
    println!(
        "{} swaps in {took:.1?}: {count} ConfigMaps, longest create {longest:.1?}; {} pods, longest to a node {:.1?}; \
         {lines} lines, {faults} events; nothing lost",
        SWAPS * SWAPPED.len() as u64,
        pods.count,
        pods.longest
    );
    for name in SWAPPED {
        let status = &proxy.get(&format!("{PLUGINS}/{name}")).expect("the plugin")["status"];
        assert_eq!(status["traps"].as_i64().unwrap_or(0), 0, "{status}");
    }
}
