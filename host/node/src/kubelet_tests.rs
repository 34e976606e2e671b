//! The kubelet against a fake API server and a scripted runtime, as both would see it.

use std::sync::Arc;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::testing::{FakeApi, FakeCri, eventually};

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
        Self { api, cri, kubelet, folder }
    }

    fn pod(&self, name: &str, spec: Value) {
        self.api.put("api/v1/pods", pod(name, spec));
    }

    fn status(&self, name: &str) -> Value {
        self.api.get("api/v1/pods", "n", name).map(|pod| pod["status"].clone()).unwrap_or_default()
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
    Kubelet::start(api.client(), cri, Options::new("node", folder)).await.unwrap()
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
    list.iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
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
    assert_eq!((&shown["ready"], &shown["started"], &shown["restartCount"]), (&json!(true), &json!(true), &json!(0)));
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
    eventually("the object is gone", async || bench.api.get("api/v1/pods", "n", "p").is_none().then_some(())).await;
    let calls = bench.cri.calls();
    let tail: Vec<&str> = calls.iter().map(String::as_str).filter(|call| *call != "status").skip(4).collect();
    assert_eq!(tail, ["stop web", "stop sandbox", "remove sandbox"]);
    let reasons = ["Pulling", "Pulled", "Created", "Started", "Killing"];
    eventually("events", async || (bench.api.event_reasons("p") == reasons).then_some(())).await;
    assert_eq!(std::fs::read_dir(bench.folder.path().join("pods")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_crash_is_followed_at_once_then_after_a_pause() {
    let bench = Bench::new().await;
    bench.pod("p", one(json!({})));
    bench.until("p", "ready", is_ready).await;
    bench.cri.exit("web", 3);
    let again = |status: &Value| is_ready(status) && status["containerStatuses"][0]["restartCount"] == 1;
    let status = bench.until("p", "restarted", again).await;
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
    bench.cri.exit("web", 3);
    let pausing = |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let status = bench.until("p", "pausing", pausing).await;
    assert_eq!(status["phase"], "Running");
    let message = status["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap();
    assert_eq!(message, "back-off 10s restarting failed container=web pod=p_n(uid-p)");
}

#[tokio::test]
async fn init_containers_go_first_and_a_job_ends() {
    let bench = Bench::new().await;
    bench.pod("job", json!({ "restartPolicy": "Never",
        "initContainers": [{ "name": "init", "image": "i:1" }, { "name": "side", "image": "i:1", "restartPolicy": "Always" }],
        "containers": [{ "name": "main", "image": "i:1" }], "terminationGracePeriodSeconds": 1 }));
    eventually("init runs", async || bench.cri.container("init").filter(|(run, _)| run.started_at_ns > 0)).await;
    assert!(bench.cri.container("main").is_none() && bench.cri.container("side").is_none());
    bench.cri.exit("init", 0);
    bench.until("job", "ready", is_ready).await;
    bench.cri.exit("main", 0);
    let status = bench.until("job", "succeeded", |status| status["phase"] == "Succeeded").await;
    assert_eq!(condition(&status, "Ready")["reason"], "PodCompleted");
    eventually("the sidecar is stopped", async || bench.cri.calls().contains(&"stop side".to_owned()).then_some(())).await;
}

#[tokio::test]
async fn faults_show_and_heal() {
    let bench = Bench::new().await;
    bench.cri.fail("pull img:1", true);
    bench.pod("p", one(json!({ "envFrom": [{ "configMapRef": { "name": "late" } }] })));
    let waits = |reason: &'static str| {
        move |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
    };
    bench.until("p", "pull fails", waits("ErrImagePull")).await;
    bench.until("p", "and waits", waits("ImagePullBackOff")).await;

    bench.pod("q", json!({ "containers": [{ "name": "c", "image": "other:1",
        "envFrom": [{ "configMapRef": { "name": "late" } }] }] }));
    let status = bench.until("q", "no configuration", waits("CreateContainerConfigError")).await;
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["message"], "configmap \"late\" not found");
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "late", "namespace": "n" }, "data": { "A": "1" } });
    bench.api.put("api/v1/configmaps", map);
    bench.until("q", "healed by the ConfigMap", is_ready).await;
    assert!(bench.cri.container("c").unwrap().1.envs.contains(&("A".to_owned(), "1".to_owned())));
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
    let shown = bench.cri.container("web").unwrap().1.mounts[0].host_path.join("k");
    assert_eq!(std::fs::read_to_string(&shown).unwrap(), "1");
    bench.api.put("api/v1/configmaps", map("2"));
    eventually("the volume follows", async || {
        (std::fs::read_to_string(&shown).is_ok_and(|text| text == "2")).then_some(())
    })
    .await;
    bench.cri.exec_exits(1);
    eventually("killed", async || bench.cri.calls().contains(&"stop web".to_owned()).then_some(())).await;
    bench.cri.exec_exits(0);
    bench.until("p", "restarted", |status| status["containerStatuses"][0]["restartCount"] == 1).await;
    assert!(bench.api.event_reasons("p").contains(&"Unhealthy".to_owned()));
}

#[tokio::test]
async fn the_node_registers_and_a_kubelet_started_again_takes_up_its_pods() {
    let bench = Bench::new().await;
    let node = bench.api.get("api/v1/nodes", "", "node").unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "node");
    eventually("the lease", async || bench.api.get("apis/coordination.k8s.io/v1/leases", "kube-node-lease", "node")).await;
    assert_eq!(condition(&node["status"], "Ready")["status"], "True");
    bench.pod("p", one(json!({})));
    bench.until("p", "ready", is_ready).await;
    let Bench { api, cri, kubelet, folder } = bench;
    kubelet.shutdown().await;
    assert_eq!(api.get("api/v1/pods", "n", "p").unwrap()["status"]["phase"], "Running");
    let kubelet = start(&api, &cri, folder.path()).await;
    let bench = Bench { api, cri, kubelet, folder };
    let again = |status: &Value| is_ready(status) && status["containerStatuses"][0]["restartCount"] == 1;
    bench.until("p", "runs again", again).await;
}
