//! A namespace, from what it is born with to its end.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{from_value, json};

use crate::cluster::Cluster;
use crate::deployment::web;

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
