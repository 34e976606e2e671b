//! One column: its heading and how its cell is read from an object.
//! Invariants: a cell never fails, whatever the object holds; what is absent shows as kubectl shows it.
//! `columns` picks the table of a kind; the tables stand in the sibling modules by group. Nothing here
//! knows HTTP.

use serde_json::{Value, json};

use super::{Column, age, cluster, core, flow, network, plugins, pod, workload};
use crate::resource::Resource;

/// A column's description and reader.
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) priority: i32,
    pub(super) cell: fn(&Value, i64) -> Value,
}

impl Spec {
    pub(super) fn column(&self) -> Column {
        Column {
            name: self.name.to_string(),
            kind: self.kind.to_string(),
            format: if self.name == "Name" {
                "name".to_string()
            } else {
                String::new()
            },
            priority: self.priority,
            description: String::new(),
        }
    }

    pub(super) fn cell(&self, object: &Value, now_seconds: i64) -> Value {
        (self.cell)(object, now_seconds)
    }
}

/// A text column that is always shown.
pub(super) const fn text(name: &'static str, cell: fn(&Value, i64) -> Value) -> Spec {
    Spec {
        name,
        kind: "string",
        priority: 0,
        cell,
    }
}

/// A number column that is always shown.
pub(super) const fn integer(name: &'static str, cell: fn(&Value, i64) -> Value) -> Spec {
    Spec {
        name,
        kind: "integer",
        priority: 0,
        cell,
    }
}

/// A column of true and false that is always shown.
pub(super) const fn boolean(name: &'static str, cell: fn(&Value, i64) -> Value) -> Spec {
    Spec {
        name,
        kind: "boolean",
        priority: 0,
        cell,
    }
}

/// A text column of the wide form.
pub(super) const fn wide(name: &'static str, cell: fn(&Value, i64) -> Value) -> Spec {
    Spec {
        name,
        kind: "string",
        priority: 1,
        cell,
    }
}

pub(super) const NAME: Spec = text("Name", |object, _| json!(super::string(object, "/metadata/name")));
pub(super) const AGE: Spec = text("Age", |object, now| {
    json!(age::since(object, "/metadata/creationTimestamp", now))
});

static COMMON: [Spec; 2] = [NAME, AGE];

/// The table of a kind.
pub(super) fn columns(resource: &Resource) -> &'static [Spec] {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => &pod::PODS,
        ("", "Node") => &core::NODES,
        ("", "Namespace") => &core::NAMESPACES,
        ("", "ConfigMap") => &core::CONFIG_MAPS,
        ("", "Secret") => &core::SECRETS,
        ("", "ComponentStatus") => &flow::COMPONENTS,
        ("" | "events.k8s.io", "Event") => &core::EVENTS,
        ("", "PersistentVolume") => &core::VOLUMES,
        ("", "PersistentVolumeClaim") => &core::CLAIMS,
        ("", "ResourceQuota") => &core::QUOTAS,
        ("", "LimitRange")
        | ("rbac.authorization.k8s.io", "Role" | "ClusterRole")
        | ("apiextensions.k8s.io", "CustomResourceDefinition") => &core::CREATED,
        ("", "Service") => &network::SERVICES,
        ("", "Endpoints") => &network::ENDPOINTS,
        ("discovery.k8s.io", "EndpointSlice") => &network::ENDPOINT_SLICES,
        ("networking.k8s.io", "Ingress") => &network::INGRESSES,
        ("networking.k8s.io", "IngressClass") => &network::INGRESS_CLASSES,
        ("networking.k8s.io", "NetworkPolicy") => &network::POLICIES,
        ("networking.k8s.io", "ServiceCIDR") => &network::SERVICE_NETWORKS,
        ("networking.k8s.io", "IPAddress") => &network::ADDRESSES,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => &flow::SCHEMAS,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => &flow::LEVELS,
        ("resource.k8s.io", "ResourceClaim") => &flow::CLAIMS,
        ("resource.k8s.io", "ResourceSlice") => &flow::SLICES,
        ("storage.k8s.io", "CSIStorageCapacity") => &flow::CAPACITIES,
        ("storage.k8s.io", "VolumeAttributesClass") => &flow::ATTRIBUTES,
        ("", "PodTemplate") => &workload::POD_TEMPLATES,
        ("apps", "Deployment") => &workload::DEPLOYMENTS,
        ("apps", "ReplicaSet") | ("", "ReplicationController") => &workload::REPLICA_SETS,
        ("apps", "StatefulSet") => &workload::STATEFUL_SETS,
        ("apps", "DaemonSet") => &workload::DAEMON_SETS,
        ("apps", "ControllerRevision") => &workload::REVISIONS,
        ("batch", "Job") => &workload::JOBS,
        ("batch", "CronJob") => &workload::CRON_JOBS,
        ("autoscaling", "HorizontalPodAutoscaler") => &workload::AUTOSCALERS,
        ("policy", "PodDisruptionBudget") => &workload::BUDGETS,
        ("storage.k8s.io", "StorageClass") => &cluster::STORAGE_CLASSES,
        ("storage.k8s.io", "CSIDriver") => &cluster::DRIVERS,
        ("storage.k8s.io", "CSINode") => &cluster::CSI_NODES,
        ("storage.k8s.io", "VolumeAttachment") => &cluster::ATTACHMENTS,
        ("coordination.k8s.io", "Lease") => &cluster::LEASES,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => &cluster::BINDINGS,
        ("scheduling.k8s.io", "PriorityClass") => &cluster::PRIORITY_CLASSES,
        ("certificates.k8s.io", "CertificateSigningRequest") => &cluster::REQUESTS,
        ("admissionregistration.k8s.io", kind) => match kind {
            "ValidatingAdmissionPolicy" => &cluster::VALIDATING_POLICIES,
            "MutatingAdmissionPolicy" => &cluster::MUTATING_POLICIES,
            "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
                &cluster::POLICY_BINDINGS
            }
            _ => &cluster::WEBHOOKS,
        },
        ("node.k8s.io", "RuntimeClass") => &cluster::RUNTIME_CLASSES,
        ("apiregistration.k8s.io", "APIService") => &cluster::API_SERVICES,
        ("plugins.capstan.dev", "Plugin") => &plugins::PLUGINS,
        ("plugins.capstan.dev", "PolicyException") => &plugins::EXCEPTIONS,
        _ => &COMMON,
    }
}
