//! Tells on a Service why one of its ports is not open.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};

/// Records a warning; failing to is no failure of the proxy.
pub(crate) async fn warn(client: &Client, node_name: &str, service: &Service, reason: &str, message: String) {
    let now = jiff::Timestamp::now();
    let namespace = service.namespace().unwrap_or_default();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:016x}", service.name_any(), now.as_nanosecond())),
            namespace: Some(namespace.clone()),
            ..Default::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            uid: service.metadata.uid.clone(),
            ..Default::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        source: Some(EventSource {
            component: Some("service-proxy".to_owned()),
            host: Some(node_name.to_owned()),
        }),
        reporting_component: Some("service-proxy".to_owned()),
        reporting_instance: Some(node_name.to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Default::default()
    };
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    if let Err(error) = events.create(&PostParams::default(), &event).await {
        tracing::debug!(%error, reason, "event not recorded");
    }
}
