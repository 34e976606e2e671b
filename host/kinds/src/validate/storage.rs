//! Rules of persistent volumes and of claims on them.
//! Invariants: whether a volume fits a claim is the controllers' to say; here only the form and what stays.

use serde_json::Value;

use super::at::{At, IMMUTABLE, POSITIVE};
use super::pod::placement;
use super::pod::source::{self, Source};
use super::selector;
use crate::name;

const MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const ATTRIBUTES: &str = "volumeAttributesClassName";

const SOURCES: &[Source] = &[
    Source::new("hostPath", source::host_path),
    Source::named("gcePersistentDisk", "gcePersistentDisk", "persistentDisk", |at| {
        source::disk(at, "pdName");
    }),
    Source::new("awsElasticBlockStore", |at| source::disk(at, "volumeID")),
    Source::new("glusterfs", source::glusterfs),
    Source::new("flocker", source::flocker),
    Source::new("nfs", source::nfs),
    Source::new("rbd", source::rbd),
    Source::new("quobyte", source::quobyte),
    Source::named("cephfs", "cephFS", "cephfs", source::cephfs),
    Source::new("iscsi", |at| source::iscsi(at, false)),
    Source::new("cinder", |at| {
        at.need(&["volumeID"]);
        source::secret_reference(at, "secretRef", &["name", "namespace"]);
    }),
    Source::new("fc", source::fibre_channel),
    Source::new("flexVolume", source::flex),
    Source::new("azureFile", source::azure_file),
    Source::new("vsphereVolume", |at| at.need(&["volumePath"])),
    Source::new("photonPersistentDisk", |at| at.need(&["pdID"])),
    Source::new("portworxVolume", |at| at.need(&["volumeID"])),
    Source::new("azureDisk", source::azure_disk),
    Source::new("scaleIO", source::scale_io),
    Source::new("local", |at| {
        if at.text("path").is_empty() {
            at.required("path", "");
        } else {
            source::no_backsteps(at, "path");
        }
    }),
    Source::new("storageos", |at| source::storage_os(at, &["name", "namespace"])),
    Source::new("csi", csi),
];

fn csi(at: &At) {
    source::csi_driver(at, "driver");
    at.need(&["volumeHandle"]);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if let Some(secret) = at.some(field) {
            secret.must_name("name", name::dns1123_subdomain);
            secret.must_name("namespace", name::dns1123_label);
        }
    }
}

fn access_modes(spec: &At) {
    let (mut alone, mut others) = (false, false);
    for mode in spec.texts("accessModes") {
        if !MODES.contains(&mode) {
            spec.unsupported_as("accessModes", mode, &MODES);
        } else if mode == "ReadWriteOncePod" {
            alone = true;
        } else {
            others = true;
        }
    }
    if alone && others {
        let why = "may not use ReadWriteOncePod with other access modes";
        spec.forbidden("accessModes", why);
    }
}

/// A persistent volume's spec; `inline` in an attachment that brings its own.
pub(super) fn volume_spec(spec: &At, inline: bool) {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    if inline {
        for field in ["claimRef", "capacity"] {
            if spec.count(field) > 0 {
                spec.forbidden(field, INLINE);
            }
        }
        if !spec.has("csi") {
            spec.required("csi", "has to be specified in the context of inline volumes");
        }
    }
    if spec.count("accessModes") == 0 {
        spec.required("accessModes", "");
    }
    access_modes(spec);
    if !inline {
        capacity(spec);
    }
    let policy = spec.text("persistentVolumeReclaimPolicy");
    if inline && !matches!(policy, "" | "Retain") {
        let why = "may only be Retain in the context of inline volumes";
        spec.forbidden("persistentVolumeReclaimPolicy", why);
    } else if !inline {
        spec.one_of("persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"]);
    }
    if let Some(affinity) = spec.some("nodeAffinity") {
        if inline {
            spec.forbidden("nodeAffinity", INLINE);
        } else if let Some(required) = affinity.some("required") {
            placement::node_selector(&required);
        } else {
            affinity.required("required", "must specify required node constraints");
        }
    }
    let first = SOURCES.iter().find(|source| spec.has(source.field));
    if first.is_some_and(|source| source.field == "local") && !spec.has("nodeAffinity") {
        spec.required("nodeAffinity", "Local volume requires node affinity");
    }
    source::one_of(spec, SOURCES);
    let path = spec.text("hostPath.path");
    if !path.is_empty() && path.trim_matches('/').is_empty() && policy == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        spec.forbidden("persistentVolumeReclaimPolicy", why);
    }
    if inline && !spec.text("storageClassName").is_empty() {
        spec.forbidden("storageClassName", INLINE);
    } else {
        spec.may_name("storageClassName", name::dns1123_subdomain);
    }
    let mode = spec.text("volumeMode");
    if inline && !matches!(mode, "" | "Filesystem") {
        let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        spec.forbidden("volumeMode", why);
    } else if !inline && spec.has("volumeMode") {
        spec.exactly_one_of("volumeMode", &["Block", "Filesystem"]);
    }
    if spec.has(ATTRIBUTES) {
        if spec.text(ATTRIBUTES).is_empty() {
            spec.required(ATTRIBUTES, "an empty string is disallowed");
        } else {
            spec.name(ATTRIBUTES, name::dns1123_subdomain);
        }
        if !spec.has("csi") {
            spec.required("csi", "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn capacity(spec: &At) {
    let storage = spec
        .map("capacity")
        .is_some_and(|map| map.contains_key("storage"));
    if spec.count("capacity") == 0 {
        spec.required("capacity", "");
    }
    if !storage || spec.count("capacity") > 1 {
        let shown = spec.get("capacity").cloned().unwrap_or(Value::Null);
        let message = format!("Unsupported value: {shown}: supported values: \"storage\"");
        let cause = super::Cause::NotSupported;
        spec.say(super::FieldError::new(spec.path("capacity"), cause, message));
    }
    for (_, amount) in spec.keyed("capacity") {
        let Some(size) = amount.quantity("") else { continue };
        if size.is_negative() {
            amount.invalid_as("", size.as_i64_ceil(), "must be a valid resource quantity");
        }
        if size.is_zero() || size.is_negative() {
            amount.invalid("", POSITIVE);
        }
    }
}

pub(super) fn volume_change(new: &At, old: &At) {
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let source = |at: &At| -> Vec<(&'static str, Option<Value>)> {
        SOURCES
            .iter()
            .map(|source| (source.field, at.get(source.field).cloned()))
            .collect()
    };
    let (mut after, was) = (source(&spec), source(&before));
    // A secret for growing may be added to a driver that had none.
    if before.has("csi") && !before.has("csi.controllerExpandSecretRef") {
        for (_, value) in after.iter_mut().filter(|(field, _)| *field == "csi") {
            if let Some(csi) = value.as_mut().and_then(Value::as_object_mut) {
                csi.remove("controllerExpandSecretRef");
            }
        }
    }
    if after != was {
        let why = "spec.persistentvolumesource is immutable after creation";
        spec.forbidden("persistentvolumesource", why);
    }
    if spec.get("volumeMode") != before.get("volumeMode") {
        spec.named("").invalid("volumeMode", IMMUTABLE);
    }
    if before.has("nodeAffinity") && spec.get("nodeAffinity") != before.get("nodeAffinity") {
        let why = format!("{IMMUTABLE}, except for updating from beta label to GA");
        spec.named("").invalid("nodeAffinity", &why);
    }
    if before.has(ATTRIBUTES) && !spec.has(ATTRIBUTES) {
        spec.forbidden(ATTRIBUTES, "update from non-nil value to nil is forbidden");
    }
}

/// A claim's spec, of claims and of templates of them.
pub(super) fn claim_spec(spec: &At) {
    if spec.count("accessModes") == 0 {
        spec.required("accessModes", "at least 1 access mode is required");
    }
    selector::check(spec, "selector");
    access_modes(spec);
    let (field, size) = ("resources[storage]", spec.quantity("resources.requests.storage"));
    match size {
        None => spec.required(field, ""),
        Some(size) if size.is_zero() || size.is_negative() => {
            spec.invalid_as(field, size.to_string(), POSITIVE);
        }
        Some(_) => {}
    }
    spec.may_name("storageClassName", name::dns1123_subdomain);
    if spec.has("volumeMode") {
        spec.exactly_one_of("volumeMode", &["Block", "Filesystem"]);
    }
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.some(field) {
            data_source(&source);
        }
    }
    let (from, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    if !reference.text("namespace").is_empty() {
        if from.has("") {
            let why = "may not be specified when dataSourceRef.namespace is specified";
            spec.invalid_as("", from.path(""), why);
        }
    } else if from.has("") && reference.has("") {
        let same = ["apiGroup", "kind", "name"]
            .iter()
            .all(|field| from.get(field) == reference.get(field));
        if !same {
            spec.invalid_as("", from.path(""), "must match dataSourceRef");
        }
    }
    spec.may_name(ATTRIBUTES, name::dns1123_subdomain);
}

fn data_source(at: &At) {
    at.need(&["name", "kind"]);
    if at.text("apiGroup").is_empty() && at.text("kind") != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        at.invalid_as("", at.text("kind"), why);
    }
    at.may_name("apiGroup", name::dns1123_subdomain);
    at.may_name("namespace", name::dns1123_label);
}

pub(super) fn claim_change(new: &At, old: &At) {
    let (spec, before) = (new.at("spec"), old.at("spec"));
    let mut expected = spec.value().clone();
    let bound = new.text("status.phase") == "Bound";
    let annotation = |at: &At| {
        at.map("metadata.annotations")
            .and_then(|map| map.get(BETA_CLASS).cloned())
    };
    let (class, old_class) = (spec.get("storageClassName"), annotation(old));
    let mut keep = vec![];
    let unnamed = before.get("storageClassName").is_none();
    if unnamed && class.is_some() && (old_class.is_none() || old_class.as_ref() == class) {
        keep.push("storageClassName");
    }
    if annotation(new) != old_class && !(unnamed && class == old_class.as_ref() && class.is_some()) {
        let field = format!("metadata.annotations.{BETA_CLASS}");
        let value = annotation(new).unwrap_or_else(|| Value::from(""));
        new.invalid_as(&field, value, IMMUTABLE);
    }
    if before.text("volumeName").is_empty() {
        keep.push("volumeName");
    }
    if bound {
        keep.push(ATTRIBUTES);
        if let Some(requests) = expected
            .pointer_mut("/resources/requests")
            .and_then(Value::as_object_mut)
            && let Some(size) = before.get("resources.requests.storage")
        {
            requests.insert("storage".to_string(), size.clone());
        }
    }
    for field in keep {
        if let Some(members) = expected.as_object_mut() {
            match before.get(field) {
                Some(value) => members.insert(field.to_string(), value.clone()),
                None => members.remove(field),
            };
        }
    }
    if expected != *before.value() {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        spec.forbidden("", why);
    }
    let size = "resources.requests.storage";
    if let (Some(after), Some(was)) = (spec.quantity(size), before.quantity(size))
        && after < was
        && new
            .quantity("status.capacity.storage")
            .is_none_or(|real| after <= real)
    {
        spec.forbidden(size, "field can not be less than status.capacity");
    }
    if spec.get("volumeMode") != before.get("volumeMode") {
        spec.named("").invalid("volumeMode", IMMUTABLE);
    }
    if spec.get(ATTRIBUTES) != before.get(ATTRIBUTES) && old.has("status.currentVolumeAttributesClassName") {
        let what = match spec.get(ATTRIBUTES).and_then(Value::as_str) {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let why =
            format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        spec.forbidden(ATTRIBUTES, &why);
    }
}
