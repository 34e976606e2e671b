//! Rules of the kinds around storage drivers, and of classes of priority and runtime.
//! Invariants: a class says the same for as long as it is there; a new meaning is a new class.

use std::collections::HashSet;

use super::at::{At, IMMUTABLE, NOT_NEGATIVE};
use super::pod::source::csi_driver;
use super::pod::{placement, resources};
use super::{selector, storage};
use crate::name;
use crate::resource::Resource;

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
const ERROR_BYTES_MAX: usize = 1024;
const NODE_ID_LENGTH_MAX: usize = 256;
/// Highest priority that is not the system's.
const PRIORITY_MAX: i64 = 1_000_000_000;
const SYSTEM_PRIORITIES: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

pub(super) fn check(resource: &Resource, object: &At, old: Option<&At>) {
    match resource.kind.as_str() {
        "StorageClass" => storage_class(object, old),
        "VolumeAttributesClass" => attributes_class(object, old),
        "VolumeAttachment" => attachment(object, old),
        "CSINode" => csi_node(&object.at("spec"), old),
        "CSIDriver" => driver(&object.at("spec"), old),
        "CSIStorageCapacity" => capacity(object, old),
        "PriorityClass" => priority(object, old),
        "RuntimeClass" => runtime(object, old),
        _ => {}
    }
}

fn provisioner(object: &At, field: &str) {
    let text = object.text(field);
    if text.is_empty() {
        return object.required(field, "");
    }
    let lower = text.to_lowercase();
    for why in name::qualified(&lower) {
        object.invalid_as(field, lower.as_str(), &why);
    }
}

fn parameters(object: &At, may_be_empty: bool) {
    const FIELD: &str = "parameters";
    if object.count(FIELD) > PARAMETERS_MAX {
        return object.too_long(FIELD, PARAMETERS_MAX);
    }
    let mut bytes = 0;
    for (key, value) in object.map(FIELD).into_iter().flatten() {
        if key.is_empty() {
            object.invalid_as(FIELD, "", "field can not be empty.");
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > PARAMETERS_BYTES_MAX {
        object.too_long(FIELD, PARAMETERS_BYTES_MAX);
    }
    if !may_be_empty && object.count(FIELD) == 0 {
        object.required(FIELD, "must contain at least one key/value pair");
    }
}

fn storage_class(object: &At, old: Option<&At>) {
    provisioner(object, "provisioner");
    parameters(object, true);
    object.one_of("reclaimPolicy", &["Delete", "Retain"]);
    if object.has("volumeBindingMode") {
        object.exactly_one_of("volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]);
    } else {
        object.required("volumeBindingMode", "");
    }
    for term in object.each("allowedTopologies") {
        let mut keys = HashSet::new();
        for expression in term.each("matchLabelExpressions") {
            if expression.count("values") == 0 {
                expression.required("values", "");
            }
            let mut values = HashSet::new();
            for value in expression.each("values") {
                if !values.insert(value.text("")) {
                    value.duplicate("");
                }
            }
            expression.name("key", name::qualified);
            if !keys.insert(expression.text("key")) {
                expression.duplicate("key");
            }
        }
    }
    let Some(old) = old else { return };
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        object.frozen(field, old);
    }
}

fn attributes_class(object: &At, old: Option<&At>) {
    if let Some(old) = old {
        for field in ["driverName", "parameters"] {
            if object.get(field) != old.get(field) {
                object.forbidden(field, &format!("updates to {field} are forbidden."));
            }
        }
    }
    provisioner(object, "driverName");
    parameters(object, false);
}

fn attachment(object: &At, old: Option<&At>) {
    let spec = object.at("spec");
    csi_driver(&spec, "attacher");
    let source = spec.at("source");
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (
        source.some("inlineVolumeSpec"),
        source.has("persistentVolumeName"),
    ) {
        (None, false) => source.required("", one),
        (Some(_), true) => source.forbidden("", one),
        (None, true) if source.text("persistentVolumeName").is_empty() => {
            let why = "must specify non empty persistentVolumeName";
            source.required("persistentVolumeName", why);
        }
        (None, true) => source.name("persistentVolumeName", name::dns1123_subdomain),
        (Some(inline), false) => storage::volume_spec(&inline, true),
    }
    spec.name("nodeName", name::dns1123_subdomain);
    attachment_status(object);
    if old.is_some_and(|old| old.get("spec") != object.get("spec")) {
        object.invalid("spec", IMMUTABLE);
    }
}

pub(super) fn attachment_status(object: &At) {
    for kind in ["status.attachError", "status.detachError"] {
        if object.text(&format!("{kind}.message")).len() > ERROR_BYTES_MAX {
            object.too_long(&format!("{kind}.message"), PARAMETERS_BYTES_MAX);
        }
    }
}

fn csi_node(spec: &At, old: Option<&At>) {
    let mut names = HashSet::new();
    for driver in spec.each("drivers") {
        csi_driver(&driver, "name");
        driver.need(&["nodeID"]);
        if driver.text("nodeID").len() > NODE_ID_LENGTH_MAX {
            let why = format!("must be {NODE_ID_LENGTH_MAX} characters or less");
            driver.invalid("nodeID", &why);
        }
        driver.not_negative(&["allocatable.count"]);
        if !names.insert(driver.text("name")) {
            driver.duplicate("name");
        }
        let mut keys = HashSet::new();
        for key in driver.texts("topologyKeys") {
            if key.is_empty() {
                driver.required("", "");
            }
            if !keys.insert(key) {
                driver.duplicate_as("", key);
            }
            for why in name::qualified(key) {
                driver.invalid_as("", key, &why);
            }
        }
    }
    let Some(old) = old else { return };
    for before in old.each("spec.drivers") {
        let same = spec
            .each("drivers")
            .find(|driver| driver.text("name") == before.text("name"));
        if let Some(after) = same
            && ["nodeID", "topologyKeys"]
                .iter()
                .any(|field| after.get(field) != before.get(field))
        {
            spec.invalid_as("drivers", after.value().clone(), IMMUTABLE);
        }
    }
}

fn driver(spec: &At, old: Option<&At>) {
    for (field, told) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.has(field) {
            spec.required(told, "");
        }
    }
    if spec.has("fsGroupPolicy") {
        let known = ["File", "None", "ReadWriteOnceWithFSType"];
        spec.exactly_one_of("fsGroupPolicy", &known);
    }
    let mut audiences = HashSet::new();
    for request in spec.each("tokenRequests") {
        if !audiences.insert(request.text("audience")) {
            request.duplicate_as("audience", request.text("audience"));
            continue;
        }
        let Some(seconds) = request.int("expirationSeconds") else {
            continue;
        };
        if seconds < 600 {
            let why = "may not specify a duration less than 10 minutes";
            request.invalid("expirationSeconds", why);
        }
        if seconds > 1 << 32 {
            let why = "may not specify a duration larger than 2^32 seconds";
            request.invalid("expirationSeconds", why);
        }
    }
    let modes = ["Persistent", "Ephemeral"];
    for mode in spec
        .texts("volumeLifecycleModes")
        .filter(|mode| !modes.contains(mode))
    {
        spec.unsupported_as("volumeLifecycleModes", mode, &modes);
    }
    if !spec.has("seLinuxMount") {
        spec.required("seLinuxMount", "");
    }
    let period = "nodeAllocatableUpdatePeriodSeconds";
    if spec.int(period).is_some_and(|seconds| seconds < 10) {
        spec.invalid(period, "must be greater than or equal to 10 seconds");
    }
    let tokens = "serviceAccountTokenInSecrets";
    if spec.has(tokens) && spec.count("tokenRequests") == 0 {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        spec.invalid(tokens, why);
    }
    let Some(old) = old else { return };
    let before = old.at("spec");
    if spec.get("attachRequired") != before.get("attachRequired") {
        spec.invalid_as("attachedRequired", spec.flag("attachRequired"), IMMUTABLE);
    }
    spec.frozen("volumeLifecycleModes", &before);
}

fn capacity(object: &At, old: Option<&At>) {
    selector::check(object, "nodeTopology");
    object.name("storageClassName", name::dns1123_subdomain);
    if object.quantity("capacity").is_some_and(|one| one.is_negative()) {
        object.invalid("capacity", NOT_NEGATIVE);
    }
    let Some(old) = old else { return };
    object.frozen("nodeTopology", old);
    object.frozen("storageClassName", old);
}

fn priority(object: &At, old: Option<&At>) {
    let (name, value) = (object.text("metadata.name"), object.number("value"));
    if let Some(old) = old {
        if value != old.number("value") {
            object.forbidden("value", "may not be changed in an update.");
        }
        return object.frozen("preemptionPolicy", old);
    }
    if name.starts_with("system-") {
        let known = SYSTEM_PRIORITIES.iter().find(|(known, _)| *known == name);
        let why = match known {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, priority)) if *priority != value => {
                Some(format!("value of {name} PriorityClass must be {priority}"))
            }
            Some(_) if object.flag("globalDefault") => {
                Some(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => None,
        };
        if let Some(why) = why {
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            object.forbidden("metadata.name", &why);
        }
    } else if value > PRIORITY_MAX {
        let why = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
        object.forbidden("value", &why);
    }
    if object.has("preemptionPolicy") {
        object.must_be_one_of("preemptionPolicy", &["PreemptLowerPriority", "Never"]);
    }
}

fn runtime(object: &At, old: Option<&At>) {
    if let Some(old) = old {
        return object.frozen("handler", old);
    }
    object.must_name("handler", name::dns1123_label);
    if let Some(overhead) = object.some("overhead.podFixed") {
        for (name, amount) in overhead.keyed("") {
            let amount = amount.named(format!("overhead.limits[{name}]"));
            resources::container_name(&amount, name);
            resources::amount(&amount, name);
        }
    }
    let Some(scheduling) = object.some("scheduling") else {
        return;
    };
    selector::labels(&scheduling, "nodeSelector");
    placement::tolerations(&scheduling, "tolerations");
    let mut seen = HashSet::new();
    for toleration in scheduling.each("tolerations") {
        let key = ["key", "operator", "value", "effect"].map(|field| toleration.text(field));
        if !seen.insert(key) {
            toleration.duplicate("");
        }
    }
}

/// A lease on being the one that acts.
pub(super) fn lease(spec: &At) {
    if spec
        .int("leaseDurationSeconds")
        .is_some_and(|seconds| seconds <= 0)
    {
        spec.invalid("leaseDurationSeconds", "must be greater than 0");
    }
    spec.not_negative(&["leaseTransitions"]);
    let strategy = spec.text("strategy");
    if spec.has("strategy") {
        let parts: Vec<&str> = strategy.split('/').collect();
        match parts[..] {
            [plain] if plain != "OldestEmulationVersion" => {
                let known = ["OldestEmulationVersion"];
                spec.unsupported("strategy", &known);
            }
            [_] => {}
            [_, _] => spec.name("strategy", name::qualified),
            _ => spec.invalid(
                "strategy",
                "must be a fully qualified label of the form domain/name",
            ),
        }
    }
    if !spec.text("preferredHolder").is_empty() && strategy.is_empty() {
        let why = "may only be specified if `strategy` is defined";
        spec.forbidden("preferredHolder", why);
    }
}
