//! A real API server, the controllers, and a kubelet that says at once that every pod runs.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use capstan_api::UserInfo;
use capstan_client::{Change, Informer};
use capstan_controllers::{Authority, Controllers, Options};
use capstan_points::Seating;
use capstan_points::remedy::Remedy;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};

use crate::rig::Rig;

const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    pub(crate) client: Client,
    controllers: Controllers,
    pub(crate) remedies: Seating<dyn Remedy>,
    rig: Rig,
    kubelet: tokio::task::JoinHandle<()>,
    /// Of the authority that signs certificate requests.
    pub(crate) ca_pem: String,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let rig = Rig::start().await;
        let client = capstan_client::over(rig.api.service(UserInfo::new("controllers", &["system:masters"])));
        let remedies: Seating<dyn Remedy> = Seating::default();
        let (authority, ca_pem) = authority();
        let options = Options {
            root_ca_pem: "the ca".into(),
            authority: Some(authority),
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
            ca_pem,
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

    pub(crate) async fn stop(self) {
        self.kubelet.abort();
        self.controllers.shutdown().await;
        self.rig.stop().await;
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
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
    pub(crate) async fn eventually<T, F>(&self, what: &str, check: impl Fn(Client) -> F) -> T
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

    pub(crate) async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    }

    pub(crate) async fn rolled_out(&self, name: &str, image: &str) {
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

/// A certificate authority for the test.
fn authority() -> (Authority, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "test-ca");
    let pem = params.self_signed(&key).unwrap().pem();
    (Authority::new(pem.clone(), key.serialize_der()), pem)
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
