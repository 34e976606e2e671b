//! The background audit: what stands in the cluster, judged by the admission policies that ask for it (`scan`), told
//! as reports of the Policy Working Group (`wgpolicyk8s.io/v1alpha2`), whose kinds it defines when it first needs them.
//!
//! It looks soon after policies change and every few minutes, as a client of the API with the plugin host's rights.
//! Reports are bounded and only written where they differ. One process of a cluster runs it: the composition root says
//! which. What a report holds is `audit::report`'s.

mod definitions;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;

use crate::host::Host;
use crate::survey::Survey;

/// Between two looks.
const SCAN_INTERVAL: Duration = Duration::from_secs(300);
/// How long policies must have been as they are before they are asked.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a kind that was just defined may take to be served.
const SERVED_BOUND: Duration = Duration::from_secs(30);
const SERVED_PAUSE: Duration = Duration::from_millis(200);

/// Looks and reports until it is dropped.
pub async fn scan(host: Arc<Host>, client: Client) {
    let mut seats = host.admission_seats();
    let mut has_reports = false;
    loop {
        seats.mark_unchanged();
        let (wanted, rules) = host.scanned();
        if has_reports || !wanted.is_empty() {
            let looked = async {
                let survey = Survey::of(&client, &wanted, &rules).await?;
                for fault in &survey.faults {
                    tracing::warn!(fault, "the audit could not judge this");
                }
                write(&client, &survey).await
            };
            match looked.await {
                Ok(()) => has_reports = !wanted.is_empty(),
                Err(error) => tracing::warn!(%error, "the audit was not finished; it is tried again"),
            }
        }
        let _ = tokio::time::timeout(SCAN_INTERVAL, seats.changed()).await;
        tokio::time::sleep(SETTLE).await;
    }
}

/// Brings the reports level with what was found.
async fn write(client: &Client, survey: &Survey) -> kube::Result<()> {
    for kind in definitions::KINDS {
        define(client, &kind).await?;
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(definitions::GROUP, definitions::VERSION, kind.kind),
            kind.plural,
        );
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let ours = ListParams::default().labels(report::LABEL);
        let mut stale: BTreeMap<String, DynamicObject> = all
            .list(&ours)
            .await?
            .items
            .into_iter()
            .map(|object| (object.metadata.namespace.clone().unwrap_or_default(), object))
            .collect();
        for wanted in report::of(survey, kind.namespaced) {
            let namespace = wanted["metadata"]["namespace"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let api = within(client, &resource, &namespace);
            put(&api, wanted, stale.remove(&namespace)).await?;
        }
        for (namespace, object) in stale {
            let name = object.metadata.name.unwrap_or_default();
            let (api, parameters) = (within(client, &resource, &namespace), DeleteParams::default());
            gone_is_fine(api.delete(&name, &parameters).await.map(drop))?;
        }
    }
    Ok(())
}

fn within(client: &Client, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
    match namespace {
        "" => Api::all_with(client.clone(), resource),
        namespace => Api::namespaced_with(client.clone(), namespace, resource),
    }
}

/// Writes a report that is new or says something else than the one that is there.
async fn put(api: &Api<DynamicObject>, wanted: Value, found: Option<DynamicObject>) -> kube::Result<()> {
    let parameters = PostParams::default();
    let object: DynamicObject = serde_json::from_value(wanted).map_err(kube::Error::SerdeError)?;
    match found {
        Some(found) if found.data == object.data => Ok(()),
        Some(mut found) => {
            found.data = object.data;
            let name = found.metadata.name.clone().unwrap_or_default();
            gone_is_fine(api.replace(&name, &parameters, &found).await.map(drop))
        }
        None => gone_is_fine(api.create(&parameters, &object).await.map(drop)),
    }
}

/// A namespace or report that went, or came, meanwhile is made good by the next look.
fn gone_is_fine(answer: kube::Result<()>) -> kube::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => {
            tracing::info!(%status, "a report is written another time");
            Ok(())
        }
        answer => answer,
    }
}

/// Defines a kind of report where the cluster does not know it, and waits until it is served.
async fn define(client: &Client, kind: &definitions::Kind) -> kube::Result<()> {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "customresourcedefinitions");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    if api.get_opt(&kind.name()).await?.is_none() {
        let definition = serde_json::from_value(kind.definition()).map_err(kube::Error::SerdeError)?;
        gone_is_fine(api.create(&PostParams::default(), &definition).await.map(drop))?;
    }
    let report = GroupVersionKind::gvk(definitions::GROUP, definitions::VERSION, kind.kind);
    let served = async {
        while kube::discovery::pinned_kind(client, &report).await.is_err() {
            tokio::time::sleep(SERVED_PAUSE).await;
        }
    };
    // One that is not served in time fails the next call, which says so.
    let _ = tokio::time::timeout(SERVED_BOUND, served).await;
    Ok(())
}
