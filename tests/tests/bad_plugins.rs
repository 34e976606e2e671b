//! Bad plugins at a scheduler's, an admission policy's and a problem daemon's seat, by the real kubectl.
//!
//! Whatever is wrong with a component, the one before it keeps serving, the object's status says why, and the
//! process and all other plugins go on. One cluster is shared: each seat has a thread, each mistake a turn.

use std::io::Write;
use std::path::Path;

use capstan_tests::{Cluster, ClusterOptions, condition, until};
use serde_json::{Value, json};

#[path = "../fixtures/bad-plugins/wrap.rs"]
mod wrap;

/// A seat: its good plugin, how to be bad in its world, and how to see who serves.
struct Point {
    plugin: &'static str,
    world: &'static str,
    good: Value,
    bind: Value,
    /// The core module's body: `BODY` is what its calls do (`REST` those that see no new input), `ANSWER` where
    /// their answer lies.
    module: String,
    /// What its calls do to trap on something new alone.
    picky: &'static str,
}

/// One way to be bad, and what the status says of it.
struct Mistake {
    what: &'static str,
    component: fn(&Point) -> Vec<u8>,
    condition: &'static str,
    reason: &'static str,
    said: &'static str,
}

const MISTAKES: [Mistake; 11] = [
    mistake(
        "no component at all",
        |_| b"not wasm".to_vec(),
        "Verified",
        "NotAComponent",
        "not a WebAssembly component",
    ),
    mistake(
        "code that does not compile",
        does_not_compile,
        "Compiled",
        "CompileFailed",
        "cannot compile",
    ),
    mistake(
        "an import that was not granted",
        wants_clock,
        "Verified",
        "ImportNotGranted",
        "capstan:plugin/clock",
    ),
    mistake(
        "no world",
        |_| wrap::fixture("no-world"),
        "Verified",
        "WrongWorld",
        "exports at least one of",
    ),
    mistake(
        "another seat's world",
        another_world,
        "Configured",
        "InvalidSpec",
        "spec.bind.",
    ),
    mistake(
        "an unknown version",
        unknown_version,
        "Verified",
        "WrongWorld",
        "this host speaks capstan:",
    ),
    mistake(
        "a trap at load",
        traps_at_load,
        "Configured",
        "StartFailed",
        "unreachable",
    ),
    mistake(
        "a trap on each call",
        |p| p.component("(unreachable)"),
        "Ready",
        "ReplayFailed",
        "unreachable",
    ),
    mistake(
        "no end",
        |p| p.component(LOOPS),
        "Ready",
        "ReplayFailed",
        "deadline",
    ),
    mistake(
        "too much memory",
        |p| p.component(EATS),
        "Ready",
        "ReplayFailed",
        "asked for more than",
    ),
    mistake(
        "garbage for an answer",
        garbage,
        "Ready",
        "ReplayFailed",
        "invalid answer: list pointer",
    ),
];

const fn mistake(
    what: &'static str,
    component: fn(&Point) -> Vec<u8>,
    condition: &'static str,
    reason: &'static str,
    said: &'static str,
) -> Mistake {
    Mistake {
        what,
        component,
        condition,
        reason,
        said,
    }
}

const LOOPS: &str = "(loop $forever (br $forever))";
const EATS: &str =
    "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";

/// At 192: an answer whose list lies outside of the memory, in each of the three worlds.
const PRELUDE: &str = r#"
;;wit export capstan:plugin/guest@0.1.0;
(func (export "capstan:plugin/guest@0.1.0#configure") (param i32 i32) (result i32) (i32.const 64))
(data (i32.const 192) "\00\00\00\00\00\00\00\00\f0\ff\ff\7f\f0\ff\ff\7f")
"#;

const SCHEDULER: &str = r#"
;;wit export capstan:scheduler/filter@0.1.0;
(func (export "capstan:scheduler/filter@0.1.0#filter") (param $call i32) (result i32) BODY (i32.const ANSWER))
"#;

const ADMISSION: &str = r#"
;;wit import capstan:admission/documents@0.1.0;
;;wit export capstan:admission/validate@0.1.0;
(import "capstan:admission/documents@0.1.0" "[resource-drop]document" (func $drop (param i32)))
(func (export "capstan:admission/validate@0.1.0#validate") (param $call i32) (result i32)
  BODY
  (if (i32.load8_u offset=104 (local.get $call)) (then (call $drop (i32.load offset=108 (local.get $call)))))
  (if (i32.load8_u offset=112 (local.get $call)) (then (call $drop (i32.load offset=116 (local.get $call)))))
  (i32.const ANSWER))
"#;

const PROBLEM: &str = r#"
;;wit export capstan:problem/monitor@0.1.0;
(data (i32.const 216) "\00\04\00\00\01\00\00\00")
(data (i32.const 1032) "\20\04\00\00\LENGTH\00\00\00")
(data (i32.const 1056) "PATH")
(func (export "capstan:problem/monitor@0.1.0#sources") (result i32) (i32.const 216))
(func (export "capstan:problem/monitor@0.1.0#on-lines")
  (param $source i32) (param $call i32) (param $count i32) (param i64 i64) (result i32) BODY (i32.const ANSWER))
(func (export "capstan:problem/monitor@0.1.0#on-samples") (param $call i32) (param i32 i64) (result i32) REST (i32.const ANSWER))
(func (export "capstan:problem/monitor@0.1.0#on-tick") (param i64) (result i32) (local $call i32) REST (i32.const ANSWER))
"#;

fn does_not_compile(point: &Point) -> Vec<u8> {
    let mut bytes = point.component("(drop (f64.const 1234.5))");
    let mut wanted = vec![0x44];
    wanted.extend(1234.5f64.to_le_bytes());
    let at = bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
        .expect("the constant is there");
    // In place of `drop` an `i32.eqz`, which does not take an `f64`.
    bytes[at + wanted.len()] = 0x45;
    bytes
}

fn wants_clock(point: &Point) -> Vec<u8> {
    let import = "(import \"capstan:plugin/clock@0.1.0\" \"now-ms\" (func $now (result i64)))";
    let wit = ";;wit import capstan:plugin/clock@0.1.0;";
    let module = format!("{}\n{wit}\n{import}\n", point.module);
    build(&module, "(drop (call $now))")
}

fn traps_at_load(point: &Point) -> Vec<u8> {
    // `configure` is the first to answer.
    build(&point.module.replacen("(i32.const 64)", "(unreachable)", 1), "")
}

fn garbage(point: &Point) -> Vec<u8> {
    build(&point.module.replace("ANSWER", "192"), "")
}

fn another_world(point: &Point) -> Vec<u8> {
    let other = if point.world == "admission" {
        SCHEDULER
    } else {
        ADMISSION
    };
    build(&format!("{PRELUDE}{other}"), "")
}

fn unknown_version(point: &Point) -> Vec<u8> {
    let mut bytes = point.component("");
    let at: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(b"@0.1.0"))
        .collect();
    at.into_iter()
        .for_each(|at| bytes[at..at + 6].copy_from_slice(b"@0.9.0"));
    bytes
}

fn build(module: &str, body: &str) -> Vec<u8> {
    let prelude = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bad-plugins/prelude.wat");
    let prelude = std::fs::read_to_string(prelude).expect("the prelude is there");
    // Only `on-lines` sees lines; what a picky body reads there is not in its other calls.
    let rest = if body.contains("$call") { "" } else { body };
    wrap::component(
        &prelude,
        &module
            .replace("BODY", body)
            .replace("REST", rest)
            .replace("ANSWER", "64"),
    )
}

impl Point {
    fn component(&self, body: &str) -> Vec<u8> {
        build(&self.module, body)
    }

    fn manifest(&self, spec: &Value) -> String {
        let mut spec = spec.clone();
        spec["bind"] = self.bind.clone();
        if self.world == "problem" {
            spec["capabilities"] = json!([{ "name": "node-logs", "paths": ["/**"] }]);
        }
        let metadata = json!({ "name": self.plugin });
        json!({ "apiVersion": "plugins.capstan.dev/v1", "kind": "Plugin", "metadata": metadata, "spec": spec })
            .to_string()
    }

    /// Applies a component from a file; the plugin's object once the host has looked at it and `seen` holds.
    fn replace(&self, cluster: &Cluster, what: &str, bytes: &[u8], seen: impl Fn(&Value) -> bool) -> Value {
        let path = cluster
            .scratch()
            .join(format!("{}-{}.wasm", self.plugin, what.replace(' ', "-")));
        std::fs::write(&path, bytes).expect("a file in a temporary folder");
        cluster
            .apply(&self.manifest(&json!({ "source": { "file": path } })))
            .clean();
        self.settled(cluster, what, seen)
    }

    fn settled(&self, cluster: &Cluster, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{} with {what}", self.plugin), || {
            let plugin = cluster.get(&["plugin", self.plugin])?;
            let level = plugin["metadata"]["generation"] == plugin["status"]["observedGeneration"];
            if level && seen(&plugin) {
                Ok(plugin)
            } else {
                Err(plugin["status"].to_string())
            }
        })
    }

    /// Something new for the plugin, and proof that the good one answered.
    fn good_one_serves(&self, cluster: &Cluster, name: &str) {
        match self.world {
            "scheduler" => {
                cluster.apply(&pod(name, "")).clean();
                assert_eq!(
                    node_of(cluster, name),
                    "capstan-2",
                    "{name}: the good scorer's choice"
                );
            }
            "admission" => {
                let manifest = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {name} }}\n");
                let label = ["create", "-f", "-", "-o", "jsonpath={.metadata.labels.turn}"];
                assert_eq!(
                    cluster.run(&label, &manifest).clean(),
                    "good",
                    "{name}: the good policy's label"
                );
            }
            _ => {
                log(cluster, &format!("fault {name}"));
                heard(cluster, &format!("fault {name}"));
            }
        }
    }

    /// What the picky component traps on; ends once the good one has answered it after all.
    fn something_new(&self, cluster: &Cluster) {
        match self.world {
            "scheduler" => {
                let names = ["new-1", "new-2", "new-3"];
                let pods: Vec<String> = names.iter().map(|name| pod(name, ", b: b, c: c")).collect();
                cluster.apply(&pods.join("---")).clean();
                for name in names {
                    assert_eq!(node_of(cluster, name), "capstan-2");
                }
            }
            "admission" => {
                let first = cluster
                    .kubectl(&["label", "configmap", "first", "new=yes"])
                    .refused();
                assert!(first.contains(self.plugin), "{first}");
                until("the good policy to take over", || {
                    let answer = cluster.kubectl(&["label", "configmap", "first", "new=yes", "--overwrite"]);
                    if answer.ok { Ok(()) } else { Err(answer.err) }
                });
            }
            _ => {
                log(cluster, "! fault new");
                heard(cluster, "fault new");
            }
        }
    }
}

fn pod(name: &str, labels: &str) -> String {
    "
apiVersion: v1
kind: Pod
metadata: { name: NAME, labels: { app: webLABELS } }
spec: { containers: [{ name: main, image: 'example.org/none:1', imagePullPolicy: Never }] }
"
    .replace("NAME", name)
    .replace("LABELS", labels)
}

fn node_of(cluster: &Cluster, pod: &str) -> String {
    until("the pod to be placed", || {
        let pod = cluster.get(&["pod", pod])?;
        pod["spec"]["nodeName"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| pod["status"].to_string())
    })
}

fn log(cluster: &Cluster, line: &str) {
    let path = cluster.scratch().join("watched.log");
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(path)
        .expect("the log is there");
    writeln!(file, "{line}").expect("a line");
}

fn heard(cluster: &Cluster, message: &str) {
    until("the daemon's event", || {
        let events = cluster
            .kubectl(&["get", "events", "--field-selector", "reason=CountedFault"])
            .out;
        if events.contains(message) {
            Ok(())
        } else {
            Err(events)
        }
    });
}

fn is_ready(plugin: &Value) -> bool {
    condition(plugin, "Ready")["status"] == "True"
}

fn points(cluster: &Cluster) -> [Point; 3] {
    let path = cluster.file("watched.log", "");
    let path = path.to_str().expect("a plain path");
    let problem = PROBLEM
        .replace("PATH", path)
        .replace("LENGTH", &format!("{:02x}", path.len()));
    let rule = json!({ "type": "temporary", "reason": "CountedFault", "pattern": "fault \\S+" });
    let rules = json!({
        "plugin": "filelog", "logPath": path, "lookback": "5m", "bufferSize": 10, "source": "test",
        "conditions": [], "rules": [rule],
    });
    let covered = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"],
    });
    [
        Point {
            plugin: "bad-scorer",
            world: "scheduler",
            good: json!({ "source": { "bundled": "scheduler-label-preference" }, "config": { "key": "disk", "value": "ssd" } }),
            bind: json!({ "scheduler": { "profiles": ["default-scheduler"], "weight": 100 } }),
            module: format!("{PRELUDE}{SCHEDULER}"),
            // More labels than any pod had before.
            picky: "(if (i32.ge_u (i32.load offset=24 (local.get $call)) (i32.const 3)) (then (unreachable)))",
        },
        Point {
            plugin: "bad-policy",
            world: "admission",
            good: json!({ "source": { "bundled": "admission-labels" }, "config": { "defaults": { "turn": "good" } } }),
            bind: json!({ "admission": { "rules": [covered] } }),
            module: format!("{PRELUDE}{ADMISSION}"),
            // The first update.
            picky: "(if (i32.eq (i32.load8_u offset=8 (local.get $call)) (i32.const 1)) (then (unreachable)))",
        },
        Point {
            plugin: "bad-daemon",
            world: "problem",
            good: json!({ "source": { "bundled": "problem-log-monitor" }, "config": rules }),
            bind: json!({ "nodes": { "selector": { "matchLabels": { "kubernetes.io/hostname": "capstan" } } } }),
            module: format!("{PRELUDE}{problem}"),
            // The first line that begins with an exclamation mark.
            picky: "(if (i32.eq (i32.load8_u (i32.load offset=8 (local.get $call))) (i32.const 33)) (then (unreachable)))",
        },
    ]
}

fn try_every_mistake(cluster: &Cluster, point: &Point) {
    cluster.apply(&point.manifest(&point.good)).clean();
    let title = point.settled(cluster, "its good component", is_ready)["status"]["revision"].clone();
    point.good_one_serves(cluster, "first");
    for (turn, mistake) in MISTAKES.iter().enumerate() {
        let plugin = point.replace(cluster, mistake.what, &(mistake.component)(point), |plugin| {
            condition(plugin, mistake.condition)["status"] == "False"
        });
        let told = condition(&plugin, mistake.condition);
        let (reason, message) = (&told["reason"], told["message"].as_str().unwrap_or_default());
        let as_expected = reason == mistake.reason && message.contains(mistake.said);
        assert!(as_expected, "{} with {}: {told}", point.plugin, mistake.what);
        assert!(message.ends_with("keeps serving"), "{message}");
        assert_eq!(plugin["status"]["revision"], title, "{}", mistake.what);
        assert!(
            plugin["status"]["lastError"]
                .as_str()
                .is_some_and(|said| message.starts_with(said)),
            "{plugin}"
        );
        point.good_one_serves(cluster, &format!("turn-{turn}"));
    }
    // This one answers all that was recorded, takes the seat, and fails on what nobody had asked before.
    point.replace(
        cluster,
        "a trap after the swap",
        &point.component(point.picky),
        is_ready,
    );
    point.something_new(cluster);
    let plugin = point.settled(cluster, "its good component back", |plugin| {
        condition(plugin, "Degraded")["reason"] == "RolledBack"
    });
    assert_eq!(plugin["status"]["revision"], title);
    assert!(
        plugin["status"]["lastError"].to_string().contains("unreachable"),
        "{}",
        plugin["status"]
    );
    assert!(
        plugin["status"]["traps"].as_i64().is_some_and(|traps| traps >= 3),
        "{}",
        plugin["status"]
    );
    point.good_one_serves(cluster, "last");
    // And a good one after all that is a plain swap again.
    cluster.apply(&point.manifest(&point.good)).clean();
    point.settled(cluster, "its good component again", is_ready);
    point.good_one_serves(cluster, "after");
}

#[test]
fn whatever_is_wrong_with_a_component_the_one_before_it_keeps_serving() {
    let cluster = Cluster::with(ClusterOptions {
        nodes: 2,
        ..ClusterOptions::default()
    });
    let process = cluster.pid();
    cluster
        .kubectl(&["label", "node", "capstan-2", "disk=ssd"])
        .clean();
    let points = points(&cluster);
    std::thread::scope(|scope| {
        for point in &points {
            let cluster = &cluster;
            scope.spawn(move || try_every_mistake(cluster, point));
        }
    });
    assert_eq!(cluster.pid(), process);
    let log = cluster.log();
    assert!(!log.contains("panicked"), "{log}");
    for plugin in cluster.get(&["plugins"]).expect("the API serves")["items"]
        .as_array()
        .expect("a list")
    {
        assert!(is_ready(plugin), "{plugin}");
    }
}
