//! A Job.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cluster::Cluster;

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
