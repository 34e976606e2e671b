//! Records events as the original does: one object for each thing said, its count rising when it is said
//! again, and no flood from any one object.
//!
//! Recording never blocks and never fails a pod: over the bound of the queue an event is dropped and counted
//! in the log. One task writes. Called by every part of the node.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

/// Events waiting to be written.
const QUEUE_MAX: usize = 1024;
/// Events whose object is remembered, so that a repetition only raises its count.
const KNOWN_MAX: usize = 4096;
/// Distinct writes that one object may cause at once, and the seconds after which it may cause one more.
const BURST_MAX: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
const COMPONENT: &str = "kubelet";
/// The API's bound on an event's message.
const MESSAGE_BYTES_MAX: usize = 1024;

/// One thing said about one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Said {
    object: Object,
    warning: bool,
    reason: String,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Object {
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
    field_path: Option<String>,
}

/// Says things about objects; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Said>,
    node: Arc<str>,
}

impl Recorder {
    /// Starts the writing task; it ends with the last recorder.
    pub(crate) fn start(client: Client, node: &str) -> Self {
        let (queue, said) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(write(client, node.to_owned(), said));
        Self {
            queue,
            node: node.into(),
        }
    }

    /// About a pod, or one container of it.
    pub(crate) fn pod(
        &self,
        pod: &Pod,
        container: Option<&str>,
        warning: bool,
        reason: &str,
        message: String,
    ) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let init = container.is_some_and(|name| {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| spec.init_containers.as_ref())
                .is_some_and(|init| init.iter().any(|container| container.name == name))
        });
        let list = if init { "initContainers" } else { "containers" };
        self.say(Said {
            object: Object {
                kind: "Pod",
                namespace: text(&pod.metadata.namespace),
                name: text(&pod.metadata.name),
                uid: text(&pod.metadata.uid),
                field_path: container.map(|name| format!("spec.{list}{{{name}}}")),
            },
            warning,
            reason: reason.to_owned(),
            message,
        });
    }

    /// About this node.
    pub(crate) fn node(&self, warning: bool, reason: &str, message: String) {
        self.say(Said {
            object: Object {
                kind: "Node",
                namespace: String::new(),
                name: self.node.to_string(),
                // The original puts the name where the uid belongs, and kubectl describe looks for it there.
                uid: self.node.to_string(),
                field_path: None,
            },
            warning,
            reason: reason.to_owned(),
            message,
        });
    }

    fn say(&self, mut said: Said) {
        if said.message.len() > MESSAGE_BYTES_MAX {
            let cut = (0..=MESSAGE_BYTES_MAX)
                .rev()
                .find(|at| said.message.is_char_boundary(*at))
                .unwrap_or(0);
            said.message.truncate(cut);
        }
        if let Err(error) = self.queue.try_send(said) {
            tracing::warn!(%error, "event dropped");
        }
    }
}

struct Known {
    name: String,
    count: i32,
}

async fn write(client: Client, node: String, mut said: mpsc::Receiver<Said>) {
    let mut known: HashMap<Said, Known> = HashMap::new();
    let mut budgets: HashMap<String, (f64, Timestamp)> = HashMap::new();
    let mut serial: u64 = 0;
    while let Some(said) = said.recv().await {
        let now = Timestamp::now();
        if !spend(&mut budgets, &said.object.uid, now) {
            continue;
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let namespace = if said.object.namespace.is_empty() {
            "default"
        } else {
            &said.object.namespace
        };
        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        if let Some(known) = known.get_mut(&said) {
            let patch = json!({ "count": known.count + 1, "lastTimestamp": Time(now) });
            if events
                .patch(&known.name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .is_ok()
            {
                known.count += 1;
                continue;
            }
        }
        serial += 1;
        let name = format!(
            "{}.{:x}",
            said.object.name,
            i128::from(serial) + now.as_nanosecond()
        );
        let event = event(&said, &name, namespace, &node, now);
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => {
                known.insert(said, Known { name, count: 1 });
            }
            Err(error) => tracing::debug!(%error, reason = said.reason, "event not written"),
        }
    }
}

/// Takes one from the object's budget of writes.
fn spend(budgets: &mut HashMap<String, (f64, Timestamp)>, uid: &str, now: Timestamp) -> bool {
    if budgets.len() >= KNOWN_MAX {
        budgets.clear();
    }
    let (left, since) = budgets.entry(uid.to_owned()).or_insert((BURST_MAX, now));
    *left = (*left + now.duration_since(*since).as_secs_f64() / REFILL_SECONDS).min(BURST_MAX);
    *since = now;
    let may = *left >= 1.0;
    if may {
        *left -= 1.0;
    }
    may
}

fn event(said: &Said, name: &str, namespace: &str, node: &str, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..Default::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some(said.object.kind.into()),
            name: Some(said.object.name.clone()),
            namespace: Some(said.object.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            uid: Some(said.object.uid.clone()),
            field_path: said.object.field_path.clone(),
            ..Default::default()
        },
        type_: Some(if said.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(said.reason.clone()),
        message: Some(said.message.clone()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        event_time: None::<MicroTime>,
        source: Some(EventSource {
            component: Some(COMPONENT.into()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some(COMPONENT.into()),
        reporting_instance: Some(node.to_owned()),
        ..Default::default()
    }
}
