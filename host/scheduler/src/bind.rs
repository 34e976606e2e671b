//! What the scheduler writes: bindings, the `PodScheduled` condition, events. Asynchronous, bounded, and never
//! in the way of the next cycle.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::Semaphore;

/// Writes under way at once; further ones wait for a place.
const WRITES_MAX: usize = 256;

/// Events that wait to be written; over it they are dropped, as they only tell what the status says too.
const EVENTS_WAITING_MAX: usize = 4096;

/// A cheap to clone writer.
#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
    places: Arc<Semaphore>,
    events: Arc<Semaphore>,
}

/// Reason of the condition `DisruptionTarget` of a pod that was evicted for another.
pub(crate) const PREEMPTED_REASON: &str = "PreemptionByScheduler";

/// Why a pod is told about in an event.
pub(crate) struct Note {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Writer {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            places: Arc::new(Semaphore::new(WRITES_MAX)),
            events: Arc::new(Semaphore::new(EVENTS_WAITING_MAX)),
        }
    }

    fn pods(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(
            self.client.clone(),
            pod.metadata.namespace.as_deref().unwrap_or("default"),
        )
    }

    /// Binds the pod to the node, and sets annotations with it.
    pub(crate) async fn bind(
        &self,
        pod: &Pod,
        node: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), kube::Error> {
        let _place = self.places.acquire().await;
        let name = pod.name_any();
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": name, "namespace": pod.metadata.namespace, "uid": pod.metadata.uid,
                "annotations": annotations },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let _: serde_json::Value = self
            .pods(pod)
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await?;
        Ok(())
    }

    /// Sets `PodScheduled` to false, unless the pod already says so.
    pub(crate) async fn not_scheduled(
        &self,
        pod: &Pod,
        reason: &str,
        message: &str,
    ) -> Result<(), kube::Error> {
        let conditions = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let mut told = conditions.filter(|condition| condition.type_ == "PodScheduled");
        if told.any(|one| one.reason.as_deref() == Some(reason) && one.message.as_deref() == Some(message)) {
            return Ok(());
        }
        let _place = self.places.acquire().await;
        let patch = json!({ "status": { "conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }] } });
        let params = PatchParams::default();
        self.pods(pod)
            .patch_status(&pod.name_any(), &params, &Patch::Strategic(patch))
            .await?;
        Ok(())
    }

    /// Evicts a pod for another: marks it, then deletes it. A pod that is gone already is no failure.
    pub(crate) async fn evict(&self, victim: &Pod, preemptor: &Pod, node: &str) -> Result<(), kube::Error> {
        let place = self.places.acquire().await;
        let scheduler = preemptor
            .spec
            .as_ref()
            .and_then(|spec| spec.scheduler_name.as_deref());
        let patch = json!({ "status": { "conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": PREEMPTED_REASON,
            "message": format!(
                "{}: preempting to accommodate a higher priority pod",
                scheduler.unwrap_or("default-scheduler"),
            ),
            "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }] } });
        let (pods, name) = (self.pods(victim), victim.name_any());
        let delete = DeleteParams {
            preconditions: victim.metadata.uid.clone().map(|uid| Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let marked = pods
            .patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        let deleted = match marked {
            Ok(_) => pods.delete(&name, &delete).await.map(drop),
            Err(error) => Err(error),
        };
        drop(place);
        match deleted {
            Ok(()) => {
                let uid = preemptor.metadata.uid.as_deref().unwrap_or_default();
                let note = Note {
                    warning: false,
                    reason: "Preempted",
                    message: format!("Preempted by pod {uid} on node {node}"),
                };
                self.event(victim, note).await;
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says in the pod's status which node it waits for; the empty name takes that back.
    pub(crate) async fn nominate(&self, pod: &Pod, node: &str) -> Result<(), kube::Error> {
        let _place = self.places.acquire().await;
        let name = (!node.is_empty()).then_some(node);
        let patch = json!({ "status": { "nominatedNodeName": name } });
        let params = PatchParams::default();
        self.pods(pod)
            .patch_status(&pod.name_any(), &params, &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Records an event on the pod; its loss is no fault.
    pub(crate) async fn event(&self, pod: &Pod, note: Note) {
        let Ok(_waiting) = self.events.try_acquire() else {
            return;
        };
        let _place = self.places.acquire().await;
        let now = Time(Timestamp::now());
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:016x}", pod.name_any(), fastrand::u64(..))),
                namespace: Some(namespace.clone()),
                ..Default::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                namespace: pod.metadata.namespace.clone(),
                uid: pod.metadata.uid.clone(),
                resource_version: pod.metadata.resource_version.clone(),
                ..Default::default()
            },
            type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
            reason: Some(note.reason.into()),
            message: Some(note.message),
            source: Some(EventSource {
                component: Some("default-scheduler".into()),
                host: None,
            }),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Default::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, "an event was lost");
        }
    }
}
