//! The kubelet against a fake API server and a scripted runtime, as both would see it.

use std::sync::Arc;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::testing::{FakeApi, FakeCri, eventually};

#[path = "kubelet_tests/streams.rs"]
mod streams;

struct Bench {
    api: FakeApi,
    cri: Arc<FakeCri>,
    kubelet: Kubelet,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let (api, cri) = (FakeApi::new(), Arc::new(FakeCri::new()));
        let folder = tempfile::tempdir().unwrap();
        let kubelet = start(&api, &cri, folder.path()).await;
        Self {
            api,
            cri,
            kubelet,
            folder,
        }
    }

    fn pod(&self, name: &str, spec: Value) {
        self.api.put("api/v1/pods", pod(name, spec));
    }

    fn status(&self, name: &str) -> Value {
        self.api
            .get("api/v1/pods", "n", name)
            .map(|pod| pod["status"].clone())
            .unwrap_or_default()
    }

    async fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let look = async || Some(self.status(name)).filter(|status| holds(status));
        eventually(what, look).await
    }

    async fn logs(&self, path: &str) -> (u16, String) {
        let request = http::Request::get(path).body(()).unwrap();
        let response = self.kubelet.handler().request(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

async fn start(api: &FakeApi, cri: &Arc<FakeCri>, folder: &Path) -> Kubelet {
    let cri: Arc<dyn Cri> = Arc::<FakeCri>::clone(cri);
    Kubelet::start(api.client(), cri, Options::new("node", folder))
        .await
        .unwrap()
}

fn pod(name: &str, mut spec: Value) -> Value {
    spec["nodeName"] = json!("node");
    json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "n", "uid": format!("uid-{name}"), "generation": 1 },
        "spec": spec, "status": { "phase": "Pending" } })
}

fn one(extra: Value) -> Value {
    let mut container = json!({ "name": "web", "image": "img:1" });
    for (key, value) in extra.as_object().unwrap() {
        container[key] = value.clone();
    }
    json!({ "containers": [container], "terminationGracePeriodSeconds": 1 })
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let list = status["conditions"].as_array().unwrap();
    list.iter()
        .find(|condition| condition["type"] == type_)
        .unwrap_or(&Value::Null)
}

fn is_ready(status: &Value) -> bool {
    status["conditions"].is_array() && condition(status, "Ready")["status"] == "True"
}

#[tokio::test]
async fn a_pod_runs_says_so_and_goes() {
    let bench = Bench::new().await;
    bench.pod("p", one(json!({})));
    let status = bench.until("p", "ready", is_ready).await;
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "127.0.0.1");
    assert_eq!(status["qosClass"], "BestEffort");
    let shown = &status["containerStatuses"][0];
    assert_eq!(
        (&shown["ready"], &shown["started"], &shown["restartCount"]),
        (&json!(true), &json!(true), &json!(0))
    );
    assert!(bench.api.status_patches("p") <= 3, "few writes");

    bench.cri.log("web", "hello");
    bench.cri.log("web", "world");
    let path = "/containerLogs/n/p/web";
    assert_eq!(bench.logs(path).await, (200, "hello\nworld\n".to_owned()));
    assert_eq!(bench.logs(&format!("{path}?tailLines=1")).await.1, "world\n");
    assert_eq!(bench.logs(&format!("{path}?tailLines=x")).await.0, 400);
    assert_eq!(bench.logs(&format!("{path}?previous=true")).await.0, 400);

    let mut going = bench.api.get("api/v1/pods", "n", "p").unwrap();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    going["metadata"]["deletionGracePeriodSeconds"] = json!(1);
    bench.api.put("api/v1/pods", going);
    eventually("the object is gone", async || {
        bench.api.get("api/v1/pods", "n", "p").is_none().then_some(())
    })
    .await;
    let calls = bench.cri.calls();
    let tail: Vec<&str> = calls
        .iter()
        .map(String::as_str)
        .filter(|call| *call != "status")
        .skip(4)
        .collect();
    assert_eq!(tail, ["stop web", "stop sandbox", "remove sandbox"]);
    let reasons = ["Pulling", "Pulled", "Created", "Started", "Killing"];
    eventually("events", async || {
        (bench.api.event_reasons("p") == reasons).then_some(())
    })
    .await;
    assert_eq!(
        std::fs::read_dir(bench.folder.path().join("pods"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_crash_is_followed_at_once_then_after_a_pause() {
    let bench = Bench::new().await;
    bench.pod("p", one(json!({})));
    bench.until("p", "ready", is_ready).await;
    bench.cri.exit("web", 3);
    let again = |status: &Value| is_ready(status) && status["containerStatuses"][0]["restartCount"] == 1;
    let status = bench.until("p", "restarted", again).await;
    assert_eq!(
        status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"],
        3
    );
    bench.cri.exit("web", 3);
    let pausing =
        |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let status = bench.until("p", "pausing", pausing).await;
    assert_eq!(status["phase"], "Running");
    let message = status["containerStatuses"][0]["state"]["waiting"]["message"]
        .as_str()
        .unwrap();
    assert_eq!(
        message,
        "back-off 10s restarting failed container=web pod=p_n(uid-p)"
    );
}

#[tokio::test]
async fn init_containers_go_first_and_a_job_ends() {
    let bench = Bench::new().await;
    bench.pod("job", json!({ "restartPolicy": "Never",
        "initContainers": [{ "name": "init", "image": "i:1" }, { "name": "side", "image": "i:1", "restartPolicy": "Always" }],
        "containers": [{ "name": "main", "image": "i:1" }], "terminationGracePeriodSeconds": 1 }));
    eventually("init runs", async || {
        bench
            .cri
            .container("init")
            .filter(|(run, _)| run.started_at_ns > 0)
    })
    .await;
    assert!(bench.cri.container("main").is_none() && bench.cri.container("side").is_none());
    bench.cri.exit("init", 0);
    bench.until("job", "ready", is_ready).await;
    bench.cri.exit("main", 0);
    let status = bench
        .until("job", "succeeded", |status| status["phase"] == "Succeeded")
        .await;
    assert_eq!(condition(&status, "Ready")["reason"], "PodCompleted");
    eventually("the sidecar is stopped", async || {
        bench.cri.calls().contains(&"stop side".to_owned()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn faults_show_and_heal() {
    let bench = Bench::new().await;
    bench.cri.fail("pull img:1", true);
    bench.pod(
        "p",
        one(json!({ "envFrom": [{ "configMapRef": { "name": "late" } }] })),
    );
    let waits = |reason: &'static str| {
        move |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
    };
    bench.until("p", "pull fails", waits("ErrImagePull")).await;
    bench.until("p", "and waits", waits("ImagePullBackOff")).await;

    bench.pod(
        "q",
        json!({ "containers": [{ "name": "c", "image": "other:1",
        "envFrom": [{ "configMapRef": { "name": "late" } }] }] }),
    );
    let status = bench
        .until("q", "no configuration", waits("CreateContainerConfigError"))
        .await;
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"]["message"],
        "configmap \"late\" not found"
    );
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "late", "namespace": "n" }, "data": { "A": "1" } });
    bench.api.put("api/v1/configmaps", map);
    bench.until("q", "healed by the ConfigMap", is_ready).await;
    assert!(
        bench
            .cri
            .container("c")
            .unwrap()
            .1
            .envs
            .contains(&("A".to_owned(), "1".to_owned()))
    );
}

#[tokio::test]
async fn liveness_restarts_and_a_changed_config_map_shows() {
    let bench = Bench::new().await;
    let map = |value: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m", "namespace": "n" }, "data": { "k": value } });
    bench.api.put("api/v1/configmaps", map("1"));
    let mut spec = one(json!({
        "livenessProbe": { "exec": { "command": ["check"] }, "periodSeconds": 1, "failureThreshold": 1 },
        "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }));
    spec["volumes"] = json!([{ "name": "v", "configMap": { "name": "m" } }]);
    bench.pod("p", spec);
    bench.until("p", "ready", is_ready).await;
    let shown = bench.cri.container("web").unwrap().1.mounts[0]
        .host_path
        .join("k");
    assert_eq!(std::fs::read_to_string(&shown).unwrap(), "1");
    bench.api.put("api/v1/configmaps", map("2"));
    eventually("the volume follows", async || {
        (std::fs::read_to_string(&shown).is_ok_and(|text| text == "2")).then_some(())
    })
    .await;
    bench.cri.exec_exits(1);
    eventually("killed", async || {
        bench.cri.calls().contains(&"stop web".to_owned()).then_some(())
    })
    .await;
    bench.cri.exec_exits(0);
    bench
        .until("p", "restarted", |status| {
            status["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    assert!(bench.api.event_reasons("p").contains(&"Unhealthy".to_owned()));
}

#[tokio::test]
async fn the_node_registers_and_a_kubelet_started_again_takes_up_its_pods() {
    let bench = Bench::new().await;
    let node = bench.api.get("api/v1/nodes", "", "node").unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "node");
    eventually("the lease", async || {
        bench
            .api
            .get("apis/coordination.k8s.io/v1/leases", "kube-node-lease", "node")
    })
    .await;
    assert_eq!(condition(&node["status"], "Ready")["status"], "True");
    bench.pod("p", one(json!({})));
    bench.until("p", "ready", is_ready).await;
    let Bench {
        api,
        cri,
        kubelet,
        folder,
    } = bench;
    kubelet.shutdown().await;
    assert_eq!(
        api.get("api/v1/pods", "n", "p").unwrap()["status"]["phase"],
        "Running"
    );
    let kubelet = start(&api, &cri, folder.path()).await;
    let bench = Bench {
        api,
        cri,
        kubelet,
        folder,
    };
    let again = |status: &Value| is_ready(status) && status["containerStatuses"][0]["restartCount"] == 1;
    bench.until("p", "runs again", again).await;
}

mod points {
    //! Policies in a few lines each.

    use std::collections::BTreeMap;
    use std::sync::Arc;

    use capstan_points::problem::{Condition, ConditionStatus, Daemon, Finding, Line, Sample, Source};
    use capstan_points::sidecar::{self, Endpoint, LogStream, Page, Sidecar, StreamContext};
    use capstan_points::{FailurePolicy, Fault, Seat};

    pub(super) fn seat<P: ?Sized>(revision: u64, policy: Arc<P>) -> Seat<P> {
        Seat {
            plugin: "p".into(),
            revision,
            failure_policy: FailurePolicy::Fail,
            policy,
        }
    }

    /// Prefixes each line; holds one line back, to show that a flush loses none.
    pub(super) struct Prefix(pub(super) &'static str);
    struct Holding(&'static str, Option<sidecar::Line>);

    impl LogStream for Holding {
        fn on_lines(&mut self, lines: Vec<sidecar::Line>) -> Result<Vec<sidecar::Line>, Fault> {
            let mut all: Vec<_> = self.1.take().into_iter().collect();
            all.extend(lines.into_iter().map(|line| sidecar::Line {
                text: format!("{}{}", self.0, line.text),
                ..line
            }));
            self.1 = all.pop();
            Ok(all)
        }

        fn flush(&mut self) -> Result<Vec<sidecar::Line>, Fault> {
            Ok(self.1.take().into_iter().collect())
        }
    }

    impl Sidecar for Prefix {
        fn selects(&self, namespace: &str, _: &BTreeMap<String, String>) -> bool {
            namespace == "n"
        }

        fn transforms_logs(&self) -> bool {
            true
        }

        fn open(&self, _: &StreamContext) -> Result<Box<dyn LogStream>, Fault> {
            Ok(Box::new(Holding(self.0, None)))
        }

        fn endpoints(&self) -> Result<Vec<Endpoint>, Fault> {
            Ok(Vec::new())
        }

        fn translate(&self, _: &StreamContext, page: Page) -> Result<Page, Fault> {
            Ok(page)
        }
    }

    /// Follows one file; a line is the condition's message, `ok` clears it.
    pub(super) struct Monitor {
        pub(super) path: String,
        pub(super) type_name: &'static str,
    }

    impl Daemon for Monitor {
        fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
            labels.contains_key("kubernetes.io/hostname")
        }

        fn may_read(&self, path: &str) -> bool {
            path == self.path
        }

        fn sources(&self) -> Result<Vec<Source>, Fault> {
            Ok(vec![Source::Lines {
                path: self.path.clone(),
                lookback_ms: 0,
            }])
        }

        fn on_lines(&self, _: u32, lines: &[Line], _: u64, _: u64) -> Result<Vec<Finding>, Fault> {
            let finding = |line: &Line| {
                let clear = line.text == "ok";
                Finding::Condition(Condition {
                    type_name: self.type_name.into(),
                    status: if clear {
                        ConditionStatus::False
                    } else {
                        ConditionStatus::True
                    },
                    reason: if clear { "Fine" } else { "Fault" }.into(),
                    message: line.text.clone(),
                })
            };
            Ok(lines.iter().map(finding).collect())
        }

        fn on_samples(&self, _: &[Sample], _: u64) -> Result<Vec<Finding>, Fault> {
            Ok(Vec::new())
        }

        fn on_tick(&self, _: u64) -> Result<Vec<Finding>, Fault> {
            Ok(Vec::new())
        }
    }
}

async fn with_policies(problem: &Seating<dyn Daemon>, sidecars: &Seating<dyn Sidecar>) -> Bench {
    let (api, cri) = (FakeApi::new(), Arc::new(FakeCri::new()));
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new("node", folder.path());
    options.problem = problem.seats();
    options.sidecars = sidecars.seats();
    let runtime: Arc<dyn Cri> = Arc::<FakeCri>::clone(&cri);
    let kubelet = Kubelet::start(api.client(), runtime, options).await.unwrap();
    Bench {
        api,
        cri,
        kubelet,
        folder,
    }
}

#[tokio::test]
async fn a_daemon_sets_clears_and_leaves_and_a_swap_loses_no_line() {
    let (problem, sidecars) = (Seating::default(), Seating::default());
    let bench = with_policies(&problem, &sidecars).await;
    let path = bench.folder.path().join("kern.log");
    std::fs::write(&path, "before\n").unwrap();
    let monitor = |type_name| -> Arc<dyn Daemon> {
        Arc::new(points::Monitor {
            path: path.display().to_string(),
            type_name,
        })
    };
    let append = |text: &str| {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let status = |type_: &'static str| {
        let node = bench.api.get("api/v1/nodes", "", "node").unwrap();
        let conditions = node["status"]["conditions"].as_array().unwrap().clone();
        conditions
            .into_iter()
            .find(|condition| condition["type"] == type_)
    };
    problem.replace(vec![points::seat(1, monitor("KernelDeadlock"))]);
    // The daemon begins at the end of the file, so lines are written until it listens.
    eventually("set", async || {
        append("task blocked\n");
        status("KernelDeadlock").filter(|condition| condition["status"] == "True")
    })
    .await;
    append("ok\n");
    let cleared = eventually("cleared", async || {
        status("KernelDeadlock").filter(|condition| condition["status"] == "False")
    })
    .await;
    assert_eq!(cleared["reason"], "Fine");
    problem.replace(vec![points::seat(2, monitor("Second"))]);
    append("after the swap\n");
    eventually("the new revision goes on where the old one stopped", async || {
        let known =
            status("Second").or(status("KernelDeadlock").filter(|condition| condition["status"] == "True"));
        known.filter(|condition| condition["message"] == "after the swap")
    })
    .await;
    problem.replace(Vec::new());
    eventually("conditions leave with the plugin", async || {
        status("KernelDeadlock").is_none().then_some(())
    })
    .await;
    assert_eq!(status("Ready").unwrap()["status"], "True");
}

#[tokio::test]
async fn lines_pass_the_sidecar_once_across_a_swap() {
    let (problem, sidecars) = (Seating::default(), Seating::default());
    let prefix = |text| -> Arc<dyn Sidecar> { Arc::new(points::Prefix(text)) };
    sidecars.replace(vec![points::seat(1, prefix("a:"))]);
    let bench = with_policies(&problem, &sidecars).await;
    bench.pod("p", one(json!({})));
    bench.until("p", "ready", is_ready).await;
    bench.cri.log("web", "1");
    bench.cri.log("web", "2");
    let path = "/containerLogs/n/p/web";
    eventually("one line is held back", async || {
        (bench.logs(path).await.1 == "a:1\n").then_some(())
    })
    .await;
    sidecars.replace(vec![points::seat(2, prefix("b:"))]);
    eventually("the old revision is flushed", async || {
        (bench.logs(path).await.1 == "a:1\na:2\n").then_some(())
    })
    .await;
    bench.cri.log("web", "3");
    bench.cri.exit("web", 0);
    eventually("the end is flushed", async || {
        let first = bench.folder.path().join("log/pods/n_p_uid-p/web/0.log");
        let text = std::fs::read_to_string(first).unwrap();
        let texts: Vec<&str> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        (texts == ["a:1", "a:2", "b:3"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_that_comes_later_takes_over_a_running_containers_log() {
    let (problem, sidecars) = (Seating::default(), Seating::default());
    let bench = with_policies(&problem, &sidecars).await;
    bench.pod("p", one(json!({})));
    bench.until("p", "ready", is_ready).await;
    bench.cri.log("web", "1");
    let late: Arc<dyn Sidecar> = Arc::new(points::Prefix("a:"));
    sidecars.replace(vec![points::seat(1, late)]);
    let splice = bench.folder.path().join("log/pods/n_p_uid-p/web/0.splice");
    eventually("cut over", async || splice.exists().then_some(())).await;
    bench.cri.log("web", "2");
    bench.cri.log("web", "3");
    let path = "/containerLogs/n/p/web";
    eventually("old lines stay, new ones are transformed", async || {
        (bench.logs(path).await.1 == "1\na:2\n").then_some(())
    })
    .await;
    assert_eq!(bench.logs(&format!("{path}?tailLines=1")).await.1, "a:2\n");
    assert_eq!(bench.logs(&format!("{path}?tailLines=2")).await.1, "1\na:2\n");
}

/// With the real runtime; the workload is built by `cargo xtask components`.
#[tokio::test(flavor = "multi_thread")]
async fn wasm_servers_run_by_the_embedded_runtime() {
    let component =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/components/capstan-hello-http.wasm");
    assert!(
        component.exists(),
        "{} is missing: run `cargo xtask components` first",
        component.display()
    );
    let folder = tempfile::tempdir().unwrap();
    let runtime =
        capstan_runtime::Embedded::open(capstan_runtime::Options::new(&folder.path().join("runtime")))
            .await
            .unwrap();
    runtime.load(&component, Some("hello:1")).await.unwrap();
    let api = FakeApi::new();
    let options = Options::new("node", folder.path().join("kubelet"));
    let kubelet = Kubelet::start(api.client(), Arc::new(runtime), options)
        .await
        .unwrap();
    let names = ["a", "b", "c"];
    let began = std::time::Instant::now();
    for name in names {
        let spec = json!({ "containers": [{ "name": "web", "image": "hello:1", "ports": [{ "containerPort": 8080 }],
            "readinessProbe": { "httpGet": { "path": "/", "port": 8080 } } }] });
        api.put("api/v1/pods", pod(name, spec));
    }
    for name in names {
        eventually("ready", async || {
            let status = api.get("api/v1/pods", "n", name)?["status"].clone();
            is_ready(&status).then_some(())
        })
        .await;
    }
    println!("three servers ready after {:?}", began.elapsed());
    kubelet.shutdown().await;
}
