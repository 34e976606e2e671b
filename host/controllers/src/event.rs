//! Records Events, as `kubectl describe` shows them.
//!
//! Invariants: recording never waits and never fails the caller; at most [`PENDING_MAX`] events wait to be
//! written, over it they are dropped with a log line; the same event within one process is written once and
//! then counted up. Called by all controllers. Not here: who is told what.

use std::collections::{HashMap, VecDeque};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;

/// Events that wait to be written.
const PENDING_MAX: usize = 1024;

/// Events that are remembered, to count repetitions.
const REMEMBERED_MAX: usize = 1024;

/// A cloneable way to record events for one component.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    component: &'static str,
    queue: mpsc::Sender<Event>,
}

impl Recorder {
    /// Starts the writer; it ends with the last clone.
    pub(crate) fn start(client: Client) -> Self {
        let (queue, pending) = mpsc::channel(PENDING_MAX);
        tokio::spawn(write(client, pending));
        Self {
            component: "controller-manager",
            queue,
        }
    }

    /// The same recorder, speaking for another component.
    pub(crate) fn named(&self, component: &'static str) -> Self {
        Self {
            component,
            queue: self.queue.clone(),
        }
    }

    /// Something ordinary happened to `object`.
    pub(crate) fn normal<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, message: String) {
        self.record(object, "Normal", reason, message);
    }

    /// Something is wrong with `object`.
    pub(crate) fn warning<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, message: String) {
        self.record(object, "Warning", reason, message);
    }

    fn record<K: Resource<DynamicType = ()>>(&self, object: &K, kind: &str, reason: &str, message: String) {
        let now = jiff::Timestamp::now();
        let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:016x}", object.name_any(), now.as_nanosecond())),
                namespace: Some(namespace),
                ..Default::default()
            },
            involved_object: reference(object),
            type_: Some(kind.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: None,
            }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(String::new()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            event_time: None::<MicroTime>,
            count: Some(1),
            ..Default::default()
        };
        if self.queue.try_send(event).is_err() {
            tracing::debug!(
                component = self.component,
                reason,
                "event dropped: too many are pending"
            );
        }
    }
}

/// How others refer to `object`.
pub(crate) fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(object.name_any()),
        namespace: object.namespace(),
        uid: object.uid(),
        ..Default::default()
    }
}

async fn write(client: Client, mut pending: mpsc::Receiver<Event>) {
    let mut seen: HashMap<[Option<String>; 4], (String, i32)> = HashMap::new();
    let mut order = VecDeque::new();
    while let Some(event) = pending.recv().await {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let same = [
            event
                .involved_object
                .uid
                .clone()
                .or_else(|| event.involved_object.name.clone()),
            event.reason.clone(),
            event.message.clone(),
            event.source.as_ref().and_then(|source| source.component.clone()),
        ];
        if let Some((name, count)) = seen.get_mut(&same) {
            *count += 1;
            let patch = serde_json::json!({ "count": *count, "lastTimestamp": event.last_timestamp });
            if events
                .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .is_ok()
            {
                continue;
            }
            seen.remove(&same);
        }
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, reason = ?event.reason, "event not recorded");
            continue;
        }
        seen.insert(same.clone(), (event.metadata.name.unwrap_or_default(), 1));
        order.push_back(same);
        if order.len() > REMEMBERED_MAX
            && let Some(oldest) = order.pop_front()
        {
            seen.remove(&oldest);
        }
    }
}
