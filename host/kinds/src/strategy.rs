//! What the server itself does to an object around a write, before validation.
//! Invariants: a write to the main resource never changes status, a write to status never changes spec;
//! generation rises exactly when what the user wants changes. The API server calls one of the three for
//! each write; names, uid, creation time and revisions are set by it, not here.

mod pod;
mod service;

use serde_json::{Map, Value, json};

use crate::default::complete_status;
use crate::resource::Resource;

/// Metadata that only the server writes; an update keeps the old values.
const SERVER_METADATA: [&str; 5] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
];

/// Makes a new object ready: no status where status has its own subresource, generation 1 where the kind counts,
/// and for a Job that has its uid already, the selector of its own pods.
pub fn prepare_create(resource: &Resource, object: &mut Value) {
    let Some(document) = object.as_object_mut() else {
        return;
    };
    // A kubelet registers its node with all that it knows in one request.
    if resource.has_status() && !resource.is("", "Node") {
        document.remove("status");
    }
    if resource.is("", "Namespace") {
        document.insert("status".to_string(), json!({"phase": "Active"}));
    }
    if resource.is("", "Pod") {
        pod::select_by_own_labels(document);
        let status = pod::first_status(document.get("spec"));
        document.insert("status".to_string(), status);
    }
    if resource.is("", "PersistentVolumeClaim") || resource.is("", "PersistentVolume") {
        document.insert("status".to_string(), json!({"phase": "Pending"}));
    }
    if resource.is("batch", "Job") {
        select_own_pods(document);
    }
    if resource.is("apiextensions.k8s.io", "CustomResourceDefinition") {
        document.remove("status");
        note_storage_version(document);
    }
    complete_status(resource, document);
    let counts = counts_generations(resource);
    if let Some(metadata) = metadata_of(document) {
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "generation",
        ] {
            metadata.remove(field);
        }
        if counts {
            metadata.insert("generation".to_string(), json!(1));
        }
    }
}

/// The version in which a definition's objects are stored from now on is one in which some may be stored.
fn note_storage_version(definition: &mut Map<String, Value>) {
    let versions = definition
        .get("spec")
        .and_then(|spec| spec.get("versions"))
        .and_then(Value::as_array);
    let storage = versions
        .into_iter()
        .flatten()
        .find(|version| version["storage"] == true);
    let Some(name) = storage.map(|version| version["name"].clone()) else {
        return;
    };
    let status = definition.entry("status").or_insert_with(|| json!({}));
    let stored = &mut status["storedVersions"];
    if !stored.is_array() {
        *stored = json!([]);
    }
    if let Some(list) = stored.as_array_mut().filter(|list| !list.contains(&name)) {
        list.push(name);
    }
}

/// A job's pods carry the job's uid, and the job selects by it, unless its author chose a selector.
fn select_own_pods(job: &mut Map<String, Value>) {
    let text = |job: &Map<String, Value>, field: &str| {
        job.get("metadata")
            .and_then(|metadata| metadata.get(field))
            .and_then(Value::as_str)
            .map(str::to_string)
    };
    let (Some(uid), Some(name)) = (text(job, "uid"), text(job, "name")) else {
        return;
    };
    let Some(spec) = job.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if spec
        .get("manualSelector")
        .and_then(Value::as_bool)
        .unwrap_or_default()
    {
        return;
    }
    let own = json!({"batch.kubernetes.io/controller-uid": uid});
    spec.insert("selector".to_string(), json!({"matchLabels": own}));
    let labels = spec
        .get_mut("template")
        .and_then(Value::as_object_mut)
        .and_then(metadata_of)
        .and_then(|metadata| {
            metadata
                .entry("labels")
                .or_insert_with(|| json!({}))
                .as_object_mut()
        });
    if let Some(labels) = labels {
        for (key, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            labels.insert(key.to_string(), json!(value));
        }
    }
}

/// Makes an update of the main resource ready.
pub fn prepare_update(resource: &Resource, new: &mut Value, old: &Value) {
    let Some(document) = new.as_object_mut() else {
        return;
    };
    if resource.has_status() {
        keep(document, old, "status");
    }
    if resource.is("", "Namespace")
        && let Some(finalizers) = old.pointer("/spec/finalizers")
    {
        // Written through the finalize subresource only.
        if let Some(spec) = document
            .entry("spec")
            .or_insert_with(|| json!({}))
            .as_object_mut()
        {
            spec.insert("finalizers".to_string(), finalizers.clone());
        }
    }
    if resource.is("", "Service") {
        service::drop_what_the_type_lost(document, old);
    }
    if resource.is("apiextensions.k8s.io", "CustomResourceDefinition") {
        note_storage_version(document);
    }
    restore_metadata(document, old);
    // Without a subresource of its own, a custom kind's status is wanted like everything else.
    let own_status = resource.custom.is_some() && !resource.has_status();
    let changed = own_status && document.get("status") != old.get("status");
    let differs = changed || wanted(document) != old.as_object().map(wanted).unwrap_or_default();
    if counts_generations(resource) && differs {
        let generation = old
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        if let Some(metadata) = metadata_of(document) {
            metadata.insert("generation".to_string(), json!(generation + 1));
        }
    }
}

/// Makes an update of the status subresource ready: everything but status comes from the old object, save
/// the metadata that a status writer may change.
pub fn prepare_status_update(resource: &Resource, new: &mut Value, old: &Value) {
    let (Some(document), Some(before)) = (new.as_object_mut(), old.as_object()) else {
        return;
    };
    let status = document.remove("status");
    let sent = document.remove("metadata");
    *document = before.clone();
    match status {
        Some(status) => document.insert("status".to_string(), status),
        None => document.remove("status"),
    };
    complete_status(resource, document);
    keep_quality(resource, document, before);
    let (Some(metadata), Some(Value::Object(mut sent))) = (metadata_of(document), sent) else {
        return;
    };
    const FIELDS: [&str; 5] = [
        "managedFields",
        "resourceVersion",
        "annotations",
        "labels",
        "finalizers",
    ];
    // Of a custom object, a status writer may change the status alone.
    let fields = if resource.custom.is_some() {
        &FIELDS[..2]
    } else {
        &FIELDS[..]
    };
    for field in fields.iter().copied() {
        match sent.remove(field) {
            Some(value) => metadata.insert(field.to_string(), value),
            None => metadata.remove(field),
        };
    }
}

/// A kubelet that leaves a pod's class out of its report does not take it away.
fn keep_quality(resource: &Resource, document: &mut Map<String, Value>, before: &Map<String, Value>) {
    let class = before.get("status").and_then(|status| status.get("qosClass"));
    if let Some(class) = class.filter(|_| resource.is("", "Pod"))
        && let Some(status) = document.get_mut("status").and_then(Value::as_object_mut)
        && !status.contains_key("qosClass")
    {
        status.insert("qosClass".to_string(), class.clone());
    }
}

/// The pod's quality of service: `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: Option<&Value>) -> &'static str {
    let containers = ["containers", "initContainers"]
        .into_iter()
        .filter_map(|list| spec?.get(list)?.as_array())
        .flatten();
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        let amount = |kind: &str, name: &str| {
            let amount = container.get("resources")?.get(kind)?.get(name)?;
            let quantity: crate::quantity::Quantity = amount.as_str()?.parse().ok()?;
            (!quantity.is_zero()).then_some(quantity)
        };
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount("requests", name), amount("limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Kinds that count the changes of what is wanted.
fn counts_generations(resource: &Resource) -> bool {
    match resource.group.as_str() {
        "" => matches!(resource.kind.as_str(), "Pod" | "ReplicationController"),
        "storage.k8s.io" => matches!(resource.kind.as_str(), "CSIDriver" | "CSIStorageCapacity"),
        "apiregistration.k8s.io"
        | "authentication.k8s.io"
        | "authorization.k8s.io"
        | "autoscaling"
        | "certificates.k8s.io"
        | "coordination.k8s.io"
        | "events.k8s.io"
        | "rbac.authorization.k8s.io" => false,
        _ => true,
    }
}

/// What the user asks for: everything but metadata and status.
fn wanted(document: &Map<String, Value>) -> Vec<(&String, &Value)> {
    document
        .iter()
        .filter(|(field, _)| !matches!(field.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
        .collect()
}

fn metadata_of(document: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    document
        .entry("metadata")
        .or_insert_with(|| json!({}))
        .as_object_mut()
}

fn keep(document: &mut Map<String, Value>, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => document.insert(field.to_string(), value.clone()),
        None => document.remove(field),
    };
}

fn restore_metadata(document: &mut Map<String, Value>, old: &Value) {
    let Some(metadata) = metadata_of(document) else {
        return;
    };
    metadata.remove("selfLink");
    for field in SERVER_METADATA {
        match old.get("metadata").and_then(|before| before.get(field)) {
            Some(value) => metadata.insert(field.to_string(), value.clone()),
            // A uid that the old object lacks would be a precondition; leave it to the caller.
            None if field == "uid" => None,
            None => metadata.remove(field),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::find_kind;

    #[test]
    fn create_drops_status_and_starts_the_generation() {
        let deployment = find_kind("apps/v1", "Deployment").unwrap();
        let mut object =
            json!({"metadata": {"name": "a", "generation": 7}, "spec": {}, "status": {"replicas": 3}});
        prepare_create(&deployment, &mut object);
        assert_eq!(
            object,
            json!({"metadata": {"name": "a", "generation": 1}, "spec": {}, "status": {}})
        );
        let mut set = json!({"metadata": {}, "spec": {}});
        prepare_create(&find_kind("apps/v1", "StatefulSet").unwrap(), &mut set);
        assert_eq!(set["status"], json!({"replicas": 0, "availableReplicas": 0}));
        let mut pod =
            json!({"metadata": {}, "spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
        prepare_create(&find_kind("v1", "Pod").unwrap(), &mut pod);
        assert_eq!(
            pod["status"],
            json!({"phase": "Pending", "qosClass": "Burstable"})
        );
    }

    #[test]
    fn a_node_is_created_with_its_status() {
        let mut node = json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "1"}}});
        prepare_create(&find_kind("v1", "Node").unwrap(), &mut node);
        assert_eq!(node["status"]["capacity"], json!({"cpu": "1"}));
        assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], json!(""));
    }

    #[test]
    fn a_job_selects_its_own_pods() {
        let job = find_kind("batch/v1", "Job").unwrap();
        let mut object = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {}}}});
        prepare_create(&job, &mut object);
        assert_eq!(
            object["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
        );
        assert_eq!(
            object["spec"]["template"]["metadata"]["labels"]["job-name"],
            json!("j")
        );
        let mut manual = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"manualSelector": true}});
        prepare_create(&job, &mut manual);
        assert_eq!(manual["spec"], json!({"manualSelector": true}));
    }

    #[test]
    fn update_keeps_status_and_counts_changes_of_spec() {
        let deployment = find_kind("apps/v1", "Deployment").unwrap();
        let old = json!({"metadata": {"uid": "u", "generation": 1, "creationTimestamp": "t"}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let mut same = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1}});
        prepare_update(&deployment, &mut same, &old);
        assert_eq!(
            same["metadata"],
            json!({"labels": {"a": "b"}, "uid": "u", "generation": 1, "creationTimestamp": "t"})
        );
        assert_eq!(same["status"], json!({"replicas": 1}));
        let mut changed = json!({"metadata": {}, "spec": {"replicas": 2}, "status": {"replicas": 9}});
        prepare_update(&deployment, &mut changed, &old);
        assert_eq!(
            (&changed["metadata"]["generation"], &changed["status"]["replicas"]),
            (&json!(2), &json!(1))
        );
    }

    #[test]
    fn status_update_changes_only_status() {
        let deployment = find_kind("apps/v1", "Deployment").unwrap();
        let old = json!({"metadata": {"name": "a", "generation": 1}, "spec": {"replicas": 1}});
        let mut new = json!({"metadata": {"name": "b", "generation": 5, "annotations": {"x": "y"}}, "spec": {"replicas": 5}, "status": {"replicas": 1}});
        prepare_status_update(&deployment, &mut new, &old);
        assert_eq!(
            new,
            json!({"metadata": {"name": "a", "generation": 1, "annotations": {"x": "y"}}, "spec": {"replicas": 1}, "status": {"replicas": 1}})
        );
    }
}
