//! Deployments: rolled out, scaled, deleted in the foreground and with orphans.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Event, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::Cluster;

pub(crate) fn web(image: &str) -> Value {
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
