//! A DaemonSet on nodes that come and go.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{from_value, json};

use crate::cluster::Cluster;

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
