//! The columns of storage classes, access and extension.

use serde_json::{Value, json};

use super::table::{AGE, NAME, Spec, boolean, integer, text, wide};
use super::{age, flag, list, number, or_none, string};

pub(super) static STORAGE_CLASSES: [Spec; 6] = [
    Spec {
        cell: |object, _| {
            let name = string(object, "/metadata/name");
            let default = "/metadata/annotations/storageclass.kubernetes.io~1is-default-class";
            json!(if string(object, default) == "true" {
                format!("{name} (default)")
            } else {
                name.to_string()
            })
        },
        ..NAME
    },
    text("Provisioner", |object, _| json!(string(object, "/provisioner"))),
    text("ReclaimPolicy", |object, _| {
        json!(string(object, "/reclaimPolicy"))
    }),
    text("VolumeBindingMode", |object, _| {
        json!(string(object, "/volumeBindingMode"))
    }),
    Spec {
        kind: "string",
        ..text("AllowVolumeExpansion", |object, _| {
            json!(flag(object, "/allowVolumeExpansion"))
        })
    },
    AGE,
];

pub(super) static LEASES: [Spec; 3] = [
    NAME,
    text("Holder", |object, _| {
        json!(string(object, "/spec/holderIdentity"))
    }),
    AGE,
];

pub(super) static BINDINGS: [Spec; 6] = [
    NAME,
    text("Role", |object, _| {
        json!(format!(
            "{}/{}",
            string(object, "/roleRef/kind"),
            string(object, "/roleRef/name")
        ))
    }),
    AGE,
    wide("Users", |object, _| json!(subjects(object, "User"))),
    wide("Groups", |object, _| json!(subjects(object, "Group"))),
    wide("ServiceAccounts", |object, _| {
        json!(subjects(object, "ServiceAccount"))
    }),
];

pub(super) static PRIORITY_CLASSES: [Spec; 5] = [
    NAME,
    integer("Value", |object, _| json!(number(object, "/value"))),
    boolean("Global-Default", |object, _| {
        json!(flag(object, "/globalDefault"))
    }),
    AGE,
    text("PreemptionPolicy", |object, _| {
        json!(string(object, "/preemptionPolicy"))
    }),
];

pub(super) static REQUESTS: [Spec; 6] = [
    NAME,
    AGE,
    text("SignerName", |object, _| {
        or_none(string(object, "/spec/signerName"))
    }),
    text("Requestor", |object, _| json!(string(object, "/spec/username"))),
    text("RequestedDuration", |object, _| {
        match object.pointer("/spec/expirationSeconds").and_then(Value::as_i64) {
            Some(seconds) => json!(age::human(seconds)),
            None => json!("<none>"),
        }
    }),
    text("Condition", |object, _| json!(request_condition(object))),
];

pub(super) static WEBHOOKS: [Spec; 3] = [
    NAME,
    integer("Webhooks", |object, _| json!(list(object, "/webhooks").count())),
    AGE,
];

pub(super) static VALIDATING_POLICIES: [Spec; 4] = [
    NAME,
    integer("Validations", |object, _| {
        json!(list(object, "/spec/validations").count())
    }),
    text("ParamKind", |object, _| param_kind(object)),
    AGE,
];

pub(super) static MUTATING_POLICIES: [Spec; 4] = [
    NAME,
    integer("Mutations", |object, _| {
        json!(list(object, "/spec/mutations").count())
    }),
    text("ParamKind", |object, _| param_kind(object)),
    AGE,
];

pub(super) static POLICY_BINDINGS: [Spec; 4] = [
    NAME,
    text("PolicyName", |object, _| {
        json!(string(object, "/spec/policyName"))
    }),
    text("ParamRef", |object, _| {
        let (namespace, name) = (
            string(object, "/spec/paramRef/namespace"),
            string(object, "/spec/paramRef/name"),
        );
        match (namespace, name) {
            ("", "") => json!("<unset>"),
            ("", name) => json!(name),
            (namespace, name) => json!(format!("{namespace}/{name}")),
        }
    }),
    AGE,
];

pub(super) static RUNTIME_CLASSES: [Spec; 3] = [
    NAME,
    text("Handler", |object, _| json!(string(object, "/handler"))),
    AGE,
];

pub(super) static API_SERVICES: [Spec; 4] = [
    NAME,
    text("Service", |object, _| {
        let (namespace, name) = (
            string(object, "/spec/service/namespace"),
            string(object, "/spec/service/name"),
        );
        json!(if name.is_empty() {
            "Local".to_string()
        } else {
            format!("{namespace}/{name}")
        })
    }),
    text("Available", |object, _| {
        let available = list(object, "/status/conditions").find(|one| string(one, "/type") == "Available");
        json!(
            match available.map(|one| (string(one, "/status"), string(one, "/reason"))) {
                None => "Unknown".to_string(),
                Some(("True", _)) => "True".to_string(),
                Some((status, reason)) => format!("{status} ({reason})"),
            }
        )
    }),
    AGE,
];

pub(super) static DRIVERS: [Spec; 8] = [
    NAME,
    boolean("AttachRequired", |object, _| {
        json!(flag(object, "/spec/attachRequired"))
    }),
    boolean("PodInfoOnMount", |object, _| {
        json!(flag(object, "/spec/podInfoOnMount"))
    }),
    boolean("StorageCapacity", |object, _| {
        json!(flag(object, "/spec/storageCapacity"))
    }),
    text("TokenRequests", |object, _| {
        let audiences: Vec<&str> = list(object, "/spec/tokenRequests")
            .map(|one| string(one, "/audience"))
            .collect();
        json!(if audiences.is_empty() {
            "<unset>".to_string()
        } else {
            audiences.join(",")
        })
    }),
    boolean("RequiresRepublish", |object, _| {
        json!(flag(object, "/spec/requiresRepublish"))
    }),
    text("Modes", |object, _| {
        let modes = list(object, "/spec/volumeLifecycleModes").filter_map(Value::as_str);
        or_none(&modes.collect::<Vec<_>>().join(","))
    }),
    AGE,
];

pub(super) static CSI_NODES: [Spec; 3] = [
    NAME,
    integer("Drivers", |object, _| {
        json!(list(object, "/spec/drivers").count())
    }),
    AGE,
];

pub(super) static ATTACHMENTS: [Spec; 6] = [
    NAME,
    text("Attacher", |object, _| json!(string(object, "/spec/attacher"))),
    text("PV", |object, _| {
        json!(string(object, "/spec/source/persistentVolumeName"))
    }),
    text("Node", |object, _| json!(string(object, "/spec/nodeName"))),
    boolean("Attached", |object, _| json!(flag(object, "/status/attached"))),
    AGE,
];

fn subjects(object: &Value, kind: &str) -> String {
    let of_kind = list(object, "/subjects").filter(|subject| string(subject, "/kind") == kind);
    let name = |subject: &Value| match string(subject, "/namespace") {
        "" => string(subject, "/name").to_string(),
        namespace => format!("{namespace}/{}", string(subject, "/name")),
    };
    of_kind.map(name).collect::<Vec<_>>().join(", ")
}

fn param_kind(object: &Value) -> Value {
    match (
        string(object, "/spec/paramKind/apiVersion"),
        string(object, "/spec/paramKind/kind"),
    ) {
        (_, "") => json!("<unset>"),
        (version, kind) => json!(format!("{version}/{kind}")),
    }
}

fn request_condition(object: &Value) -> String {
    let is = |kind: &str| list(object, "/status/conditions").any(|one| string(one, "/type") == kind);
    let mut words = Vec::new();
    match (is("Denied"), is("Approved")) {
        (true, _) => words.push("Denied"),
        (false, true) => words.push("Approved"),
        (false, false) => words.push("Pending"),
    }
    if is("Failed") {
        words.push("Failed");
    }
    if !string(object, "/status/certificate").is_empty() {
        words.push("Issued");
    }
    words.join(",")
}
