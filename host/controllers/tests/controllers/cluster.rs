//! The controllers on a real API server, with a kubelet that says at once that every pod runs.

#![allow(clippy::unwrap_used)]

mod rig;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capstan_api::UserInfo;
use capstan_client::{Change, Informer};
use capstan_controllers::{Controllers, Options};
use capstan_points::remedy::{Action, Case, ConditionStatus, Decision, Remedy, Taint, TaintEffect};
use capstan_points::{FailurePolicy, Fault, Seat, Seating};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};

use rig::Rig;

const SOON: Duration = Duration::from_secs(20);

struct Cluster {
    client: Client,
    controllers: Controllers,
    remedies: Seating<dyn Remedy>,
    rig: Rig,
    kubelet: tokio::task::JoinHandle<()>,
}

impl Cluster {
    async fn start() -> Self {
        let rig = Rig::start().await;
        let client = capstan_client::over(rig.api.service(UserInfo::new("controllers", &["system:masters"])));
        let remedies: Seating<dyn Remedy> = Seating::default();
        let options = Options {
            root_ca_pem: "the ca".into(),
            ..Default::default()
        };
        let controllers = Controllers::start(client.clone(), options, remedies.seats());
        let kubelet = tokio::spawn(kubelet(client.clone()));
        let cluster = Self {
            client,
            controllers,
            remedies,
            rig,
            kubelet,
        };
        cluster
            .eventually("the default service account", |client| async move {
                let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
                accounts
                    .get_opt("default")
                    .await
                    .unwrap()
                    .map(|_| ())
                    .ok_or("missing".to_owned())
            })
            .await;
        cluster
    }

    async fn stop(self) {
        self.kubelet.abort();
        self.controllers.shutdown().await;
        self.rig.stop().await;
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + DeserializeOwned
            + serde::Serialize
            + Clone
            + Debug,
    {
        self.api::<K>()
            .create(&PostParams::default(), &from_value(object).unwrap())
            .await
            .unwrap()
    }

    /// Waits until `check` agrees, and fails with what it said last.
    async fn eventually<T, F>(&self, what: &str, check: impl Fn(Client) -> F) -> T
    where
        F: Future<Output = Result<T, String>>,
    {
        let start = Instant::now();
        loop {
            let last = match check(self.client.clone()).await {
                Ok(value) => return value,
                Err(last) => last,
            };
            assert!(start.elapsed() < SOON, "{what}: {last}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    }

    async fn rolled_out(&self, name: &str, image: &str) {
        self.eventually("rolled out", |client| async move {
            let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
            let deployment = deployments.get(name).await.unwrap();
            let status = deployment.status.clone().unwrap_or_default();
            let replicas = deployment.spec.as_ref().unwrap().replicas;
            let pods: Api<Pod> = Api::namespaced(client, "default");
            let pods = pods.list(&ListParams::default()).await.unwrap().items;
            let images: Vec<_> = pods
                .iter()
                .map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap())
                .collect();
            let done = status.observed_generation == deployment.metadata.generation
                && status.available_replicas == replicas
                && status.updated_replicas == replicas
                && status.replicas == replicas
                && images.len() == usize::try_from(replicas.unwrap()).unwrap()
                && images.iter().all(|of_pod| of_pod == image);
            if done {
                Ok(())
            } else {
                Err(format!("{status:?} {images:?}"))
            }
        })
        .await;
    }
}

/// Says that every pod runs and is ready, and lets deleted ones go.
async fn kubelet(client: Client) {
    let informer: Informer<Pod> = Informer::start(Api::all(client.clone()), Default::default());
    let mut changes = informer.subscribe();
    let mut number = 0;
    loop {
        let Ok(change) = changes.recv().await else { return };
        let pods = match change {
            Change::Upserted(pod) => vec![pod],
            Change::Relisted => informer.list(),
            Change::Deleted(_) => continue,
        };
        for pod in pods {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
            if pod.metadata.deletion_timestamp.is_some() {
                let _ = pods
                    .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                    .await;
            } else if pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
                .is_none_or(|phase| phase == "Pending")
            {
                number += 1;
                let now = jiff::Timestamp::now().to_string();
                let status = json!({ "status": {
                    "phase": "Running", "podIP": format!("127.1.0.{number}"), "podIPs": [{"ip": format!("127.1.0.{number}")}],
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
                }});
                let _ = pods
                    .patch_status(
                        &pod.name_any(),
                        &PatchParams::default(),
                        &Patch::Strategic(&status),
                    )
                    .await;
            }
        }
    }
}

fn web(image: &str) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                         "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]}},
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_lives_rolls_and_dies() {
    let cluster = Cluster::start().await;
    let service = json!({"metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    cluster.create::<Service>(service).await;

    let start = Instant::now();
    cluster.create::<Deployment>(web("v1")).await;
    cluster.rolled_out("web", "v1").await;
    println!("three pods of a Deployment after {:?}", start.elapsed());

    cluster
        .eventually("endpoints", |client| async move {
            let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
            let labels = ListParams::default().labels("kubernetes.io/service-name=web");
            let slices = slices.list(&labels).await.unwrap().items;
            let ready = slices
                .iter()
                .flat_map(|slice| slice.endpoints.iter().flatten())
                .count();
            let legacy: Api<Endpoints> = Api::namespaced(client, "default");
            let legacy = legacy
                .get_opt("web")
                .await
                .unwrap()
                .and_then(|endpoints| endpoints.subsets);
            let addresses = legacy
                .iter()
                .flatten()
                .flat_map(|subset| subset.addresses.iter().flatten())
                .count();
            if (slices.len(), ready, addresses) == (1, 3, 3) {
                Ok(())
            } else {
                Err(format!("{slices:?} {legacy:?}"))
            }
        })
        .await;

    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    let deployments: Api<Deployment> = cluster.api();
    let merge = PatchParams::default();
    deployments
        .patch("web", &merge, &Patch::Strategic(image("v2")))
        .await
        .unwrap();
    cluster.rolled_out("web", "v2").await;
    deployments
        .patch("web", &merge, &Patch::Merge(json!({"spec": {"replicas": 5}})))
        .await
        .unwrap();
    cluster.rolled_out("web", "v2").await;
    deployments
        .patch("web", &merge, &Patch::Strategic(image("v1")))
        .await
        .unwrap();
    cluster.rolled_out("web", "v1").await;
    let revision =
        |annotations: &BTreeMap<String, String>| annotations["deployment.kubernetes.io/revision"].clone();
    assert_eq!(revision(deployments.get("web").await.unwrap().annotations()), "3");
    let sets = cluster
        .api::<ReplicaSet>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    let mut revisions: Vec<_> = sets.iter().map(|set| revision(set.annotations())).collect();
    revisions.sort();
    assert_eq!(revisions, ["2", "3"], "undo reuses the first set");

    let victim = cluster.pods().await[0].name_any();
    cluster
        .api::<Pod>()
        .delete(&victim, &DeleteParams::default())
        .await
        .unwrap();
    cluster.rolled_out("web", "v1").await;
    // Events are written a little later.
    cluster
        .eventually("one event a pod", |client| async move {
            let events: Api<Event> = Api::namespaced(client, "default");
            let events = events.list(&ListParams::default()).await.unwrap().items;
            let created = events
                .iter()
                .filter(|event| event.reason.as_deref() == Some("SuccessfulCreate"))
                .count();
            let wanted = 3 + 3 + 2 + 5 + 1;
            assert!(created <= wanted, "a pod too many: {created}");
            if created == wanted {
                Ok(())
            } else {
                Err(format!("{created} of {wanted}"))
            }
        })
        .await;

    deployments
        .delete("web", &DeleteParams::background())
        .await
        .unwrap();
    cluster
        .eventually("garbage", |client| async move {
            let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
            let sets: Api<ReplicaSet> = Api::namespaced(client, "default");
            let left = pods.list(&ListParams::default()).await.unwrap().items.len()
                + sets.list(&ListParams::default()).await.unwrap().items.len();
            if left == 0 {
                Ok(())
            } else {
                Err(format!("{left} are left"))
            }
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreground_and_orphan() {
    let cluster = Cluster::start().await;
    let deployments: Api<Deployment> = cluster.api();
    cluster.create::<Deployment>(web("v1")).await;
    cluster.rolled_out("web", "v1").await;
    deployments
        .delete("web", &DeleteParams::foreground())
        .await
        .unwrap();
    cluster
        .eventually("foreground", |client| async move {
            let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
            let gone = deployments.get_opt("web").await.unwrap().is_none();
            let pods: Api<Pod> = Api::namespaced(client, "default");
            let pods = pods.list(&ListParams::default()).await.unwrap().items.len();
            assert!(!gone || pods == 0, "the owner went before its dependents");
            if gone {
                Ok(())
            } else {
                Err(format!("{pods} pods are left"))
            }
        })
        .await;

    cluster.create::<Deployment>(web("v1")).await;
    cluster.rolled_out("web", "v1").await;
    deployments.delete("web", &DeleteParams::orphan()).await.unwrap();
    cluster
        .eventually("orphan", |client| async move {
            let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
            let gone = deployments.get_opt("web").await.unwrap().is_none();
            let sets: Api<ReplicaSet> = Api::namespaced(client, "default");
            let owners: Vec<_> = sets
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .iter()
                .map(|set| set.owner_references().len())
                .collect();
            if gone && owners == [0] {
                Ok(())
            } else {
                Err(format!("gone={gone} {owners:?}"))
            }
        })
        .await;
    assert_eq!(cluster.pods().await.len(), 3);
    cluster.create::<Deployment>(web("v1")).await;
    cluster.rolled_out("web", "v1").await;
    let sets = cluster
        .api::<ReplicaSet>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(sets.len(), 1, "adopted again");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_comes_with_its_things_and_goes_with_all() {
    let cluster = Cluster::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let team: Namespace = from_value(json!({"metadata": {"name": "team"}})).unwrap();
    namespaces.create(&PostParams::default(), &team).await.unwrap();
    cluster
        .eventually("its things", |client| async move {
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "team");
            let maps: Api<ConfigMap> = Api::namespaced(client, "team");
            let account = accounts.get_opt("default").await.unwrap().is_some();
            let map = maps
                .get_opt("kube-root-ca.crt")
                .await
                .unwrap()
                .and_then(|map| map.data);
            if account && map.as_ref().is_some_and(|data| data["ca.crt"] == "the ca") {
                Ok(())
            } else {
                Err(format!("{account} {map:?}"))
            }
        })
        .await;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "team");
    deployments
        .create(&PostParams::default(), &from_value(web("v1")).unwrap())
        .await
        .unwrap();
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "team");
    maps.create(&PostParams::default(), &from_value(held).unwrap())
        .await
        .unwrap();
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("the condition", |client| async move {
            let namespaces: Api<Namespace> = Api::all(client);
            let conditions = namespaces
                .get("team")
                .await
                .unwrap()
                .status
                .and_then(|status| status.conditions);
            let said = conditions.iter().flatten().any(|condition| {
                condition.reason.as_deref() == Some("SomeFinalizersRemain")
                    && condition.message.as_ref().unwrap().contains("example.com/hold")
            });
            if said {
                Ok(())
            } else {
                Err(format!("{conditions:?}"))
            }
        })
        .await;
    let release = json!({"metadata": {"finalizers": null}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(release))
        .await
        .unwrap();
    cluster
        .eventually("gone", |client| async move {
            let namespaces: Api<Namespace> = Api::all(client);
            match namespaces.get_opt("team").await.unwrap() {
                None => Ok(()),
                Some(namespace) => Err(format!("{namespace:?}")),
            }
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_to_its_end() {
    let cluster = Cluster::start().await;
    let job = json!({"metadata": {"name": "sum"}, "spec": {"completions": 3, "parallelism": 2,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    cluster.create::<Job>(job).await;
    cluster
        .eventually("the end", |client| async move {
            let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
            let items = pods.list(&ListParams::default()).await.unwrap().items;
            let running = |pod: &&Pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Running");
            let running: Vec<_> = items.iter().filter(running).collect();
            assert!(running.len() <= 2, "more than its parallelism");
            for pod in running {
                let done = json!({"status": {"phase": "Succeeded"}});
                pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(done))
                    .await
                    .unwrap();
            }
            let jobs: Api<Job> = Api::namespaced(client, "default");
            let status = jobs.get("sum").await.unwrap().status.unwrap_or_default();
            let ended = status
                .conditions
                .iter()
                .flatten()
                .any(|c| c.type_ == "Complete" && c.status == "True");
            if ended && items.len() == 3 {
                Ok(())
            } else {
                Err(format!("{status:?} {}", items.len()))
            }
        })
        .await;
    cluster.stop().await;
}

/// Taints a node while a condition is true.
struct Rule {
    asked: Mutex<Vec<Case>>,
}

impl Remedy for Rule {
    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get("care").map(String::as_str) == Some("yes")
    }

    fn budget(&self) -> u32 {
        1
    }

    fn decide(&self, case: &Case) -> Result<Vec<Decision>, Fault> {
        self.asked.lock().unwrap().push(case.clone());
        let sick = case
            .conditions
            .iter()
            .any(|c| c.type_name == "KernelDeadlock" && c.status == ConditionStatus::True);
        let taint = Taint {
            key: "sick".into(),
            value: "kernel".into(),
            effect: TaintEffect::NoSchedule,
        };
        let tainted = case.node.taints.iter().any(|taint| taint.key == "sick");
        let action = match (sick, tainted) {
            (true, false) => Action::Taint(taint),
            (false, true) => Action::Untaint(taint),
            _ => return Ok(Vec::new()),
        };
        Ok(vec![Decision {
            action,
            reason: "the kernel hangs".into(),
        }])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remedy_acts_within_its_budget_and_undoes() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    for name in ["a", "b"] {
        let node = json!({"metadata": {"name": name, "labels": {"care": "yes"}}});
        nodes
            .create(&PostParams::default(), &from_value(node).unwrap())
            .await
            .unwrap();
    }
    let rule = Arc::new(Rule {
        asked: Mutex::default(),
    });
    cluster.remedies.replace(vec![Seat {
        plugin: "rule".into(),
        revision: 1,
        failure_policy: FailurePolicy::Fail,
        policy: rule.clone(),
    }]);
    let condition = async |node: &str, status: &str| {
        let conditions = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            {"type": "KernelDeadlock", "status": status, "reason": "Hung"}]}});
        nodes
            .patch_status(node, &PatchParams::default(), &Patch::Strategic(&conditions))
            .await
            .unwrap();
    };
    let tainted = |want: [bool; 2]| {
        cluster.eventually("taints", move |client| async move {
            let nodes: Api<Node> = Api::all(client);
            let mut have = Vec::new();
            for name in ["a", "b"] {
                let taints = nodes
                    .get(name)
                    .await
                    .unwrap()
                    .spec
                    .and_then(|spec| spec.taints)
                    .unwrap_or_default();
                have.push(taints.iter().any(|taint| taint.key == "sick"));
            }
            if have == want {
                Ok(())
            } else {
                Err(format!("{have:?}"))
            }
        })
    };
    condition("a", "True").await;
    tainted([true, false]).await;
    condition("b", "True").await;
    cluster
        .eventually("over budget", |client| async move {
            let events: Api<Event> = Api::namespaced(client, "default");
            let events = events.list(&ListParams::default()).await.unwrap().items;
            let said = |event: &&Event| {
                event.reason.as_deref() == Some("RemedyOverBudget")
                    && event.involved_object.name.as_deref() == Some("b")
            };
            if events.iter().any(|event| said(&event)) {
                Ok(())
            } else {
                Err(format!("{events:?}"))
            }
        })
        .await;
    tainted([true, false]).await;
    condition("a", "False").await;
    // The budget is free again: the other node is asked about at once.
    tainted([false, true]).await;
    let history = nodes.get("a").await.unwrap().annotations()["remedy.capstan.dev/rule"].clone();
    assert!(
        history.contains("\"taint\"") && history.contains("\"untaint\""),
        "{history}"
    );
    assert!(
        rule.asked
            .lock()
            .unwrap()
            .iter()
            .any(|case| !case.history.is_empty())
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_follows_the_nodes() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let add = async |name: &str| {
        let node: Node = from_value(json!({"metadata": {"name": name}})).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        nodes
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(&ready))
            .await
            .unwrap();
    };
    let pods = |want: usize, image: &'static str| {
        cluster.eventually("daemons", move |client| async move {
            let sets: Api<DaemonSet> = Api::namespaced(client.clone(), "default");
            let status = sets.get("agent").await.unwrap().status.unwrap_or_default();
            let pods: Api<Pod> = Api::namespaced(client, "default");
            let pods = pods.list(&ListParams::default()).await.unwrap().items;
            let of_image =
                |pod: &&Pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(image);
            let new = pods.iter().filter(of_image).count();
            let ready = usize::try_from(status.number_ready).unwrap();
            if (pods.len(), new, ready) == (want, want, want) {
                Ok(())
            } else {
                Err(format!("{new} {status:?}"))
            }
        })
    };
    add("a").await;
    let set = |image: &str| {
        json!({"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
    };
    cluster.create::<DaemonSet>(set("v1")).await;
    pods(1, "v1").await;
    add("b").await;
    pods(2, "v1").await;
    let sets: Api<DaemonSet> = cluster.api();
    sets.patch("agent", &PatchParams::default(), &Patch::Strategic(set("v2")))
        .await
        .unwrap();
    pods(2, "v2").await;
    cluster.stop().await;
}
