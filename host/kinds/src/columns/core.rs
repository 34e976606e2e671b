//! The columns of nodes, namespaces, configuration, storage and events.

use serde_json::{Value, json};

use super::pod::condition;
use super::table::{AGE, NAME, Spec, text, wide};
use super::{age, flag, list, number, or_none, shown, string};

pub(super) static NODES: [Spec; 10] = [
    NAME,
    text("Status", |node, _| json!(node_status(node))),
    text("Roles", |node, _| or_none(&node_roles(node))),
    AGE,
    text("Version", |node, _| {
        json!(string(node, "/status/nodeInfo/kubeletVersion"))
    }),
    wide("Internal-IP", |node, _| or_none(node_address(node, "InternalIP"))),
    wide("External-IP", |node, _| or_none(node_address(node, "ExternalIP"))),
    wide("OS-Image", |node, _| {
        or_unknown(string(node, "/status/nodeInfo/osImage"))
    }),
    wide("Kernel-Version", |node, _| {
        or_unknown(string(node, "/status/nodeInfo/kernelVersion"))
    }),
    wide("Container-Runtime", |node, _| {
        or_unknown(string(node, "/status/nodeInfo/containerRuntimeVersion"))
    }),
];

pub(super) static NAMESPACES: [Spec; 3] = [
    NAME,
    text("Status", |object, _| json!(string(object, "/status/phase"))),
    AGE,
];

pub(super) static CONFIG_MAPS: [Spec; 3] = [
    NAME,
    text("Data", |object, _| {
        json!(members(object, "/data") + members(object, "/binaryData"))
    }),
    AGE,
];

pub(super) static SECRETS: [Spec; 4] = [
    NAME,
    text("Type", |object, _| json!(string(object, "/type"))),
    text("Data", |object, _| json!(members(object, "/data"))),
    AGE,
];

pub(super) static EVENTS: [Spec; 10] = [
    text("Last Seen", |event, now| json!(event_age(event, now))),
    text("Type", |event, _| json!(string(event, "/type"))),
    text("Reason", |event, _| json!(string(event, "/reason"))),
    text("Object", |event, _| {
        let about = about(event);
        json!(format!(
            "{}/{}",
            string(about, "/kind").to_lowercase(),
            string(about, "/name")
        ))
    }),
    wide("Subobject", |event, _| json!(string(about(event), "/fieldPath"))),
    wide("Source", |event, _| json!(event_source(event))),
    text("Message", |event, _| {
        let message = string(event, "/message");
        json!(
            if message.is_empty() {
                string(event, "/note")
            } else {
                message
            }
            .trim()
        )
    }),
    wide("First Seen", |event, now| {
        let first = ["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"];
        json!(age::since(event, first_set(event, &first), now))
    }),
    Spec {
        name: "Count",
        kind: "integer",
        priority: 1,
        cell: |event, _| json!(event_count(event)),
    },
    wide("Name", |event, _| json!(string(event, "/metadata/name"))),
];

pub(super) static VOLUMES: [Spec; 11] = [
    NAME,
    text("Capacity", |object, _| {
        json!(string(object, "/spec/capacity/storage"))
    }),
    text("Access Modes", |object, _| {
        json!(access_modes(object, "/spec/accessModes"))
    }),
    text("Reclaim Policy", |object, _| {
        json!(string(object, "/spec/persistentVolumeReclaimPolicy"))
    }),
    text("Status", |object, _| json!(phase(object))),
    text("Claim", |object, _| {
        let (namespace, name) = (
            string(object, "/spec/claimRef/namespace"),
            string(object, "/spec/claimRef/name"),
        );
        json!(if name.is_empty() {
            String::new()
        } else {
            format!("{namespace}/{name}")
        })
    }),
    text("StorageClass", |object, _| {
        json!(string(object, "/spec/storageClassName"))
    }),
    text("VolumeAttributesClass", |object, _| {
        unset(string(object, "/spec/volumeAttributesClassName"))
    }),
    text("Reason", |object, _| json!(string(object, "/status/reason"))),
    AGE,
    wide("VolumeMode", |object, _| {
        unset(string(object, "/spec/volumeMode"))
    }),
];

pub(super) static CLAIMS: [Spec; 9] = [
    NAME,
    text("Status", |object, _| json!(phase(object))),
    text("Volume", |object, _| json!(string(object, "/spec/volumeName"))),
    text("Capacity", |object, _| {
        json!(bound(
            object,
            string(object, "/status/capacity/storage").to_string()
        ))
    }),
    text("Access Modes", |object, _| {
        json!(bound(object, access_modes(object, "/status/accessModes")))
    }),
    text("StorageClass", |object, _| {
        json!(string(object, "/spec/storageClassName"))
    }),
    text("VolumeAttributesClass", |object, _| {
        unset(string(object, "/spec/volumeAttributesClassName"))
    }),
    AGE,
    wide("VolumeMode", |object, _| {
        unset(string(object, "/spec/volumeMode"))
    }),
];

pub(super) static QUOTAS: [Spec; 4] = [
    NAME,
    text("Request", |object, _| json!(quota(object, false))),
    text("Limit", |object, _| json!(quota(object, true))),
    AGE,
];

pub(super) static CREATED: [Spec; 2] = [
    NAME,
    text("Created At", |object, _| {
        json!(string(object, "/metadata/creationTimestamp"))
    }),
];

fn node_status(node: &Value) -> String {
    let mut words = match condition(node, "Ready") {
        "True" => vec!["Ready"],
        "" => vec!["Unknown"],
        _ => vec!["NotReady"],
    };
    if flag(node, "/spec/unschedulable") {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn node_roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) if !role.is_empty() => Some(role),
                _ if key == "kubernetes.io/role" => value.as_str().filter(|role| !role.is_empty()),
                _ => None,
            },
        )
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn node_address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let address = list(node, "/status/addresses").find(|address| string(address, "/type") == kind);
    address
        .map(|address| string(address, "/address"))
        .unwrap_or_default()
}

fn or_unknown(text: &str) -> Value {
    json!(if text.is_empty() { "<unknown>" } else { text })
}

fn unset(text: &str) -> Value {
    json!(if text.is_empty() { "<unset>" } else { text })
}

fn members(object: &Value, pointer: &str) -> usize {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len)
}

fn about(event: &Value) -> &Value {
    event
        .get("involvedObject")
        .or_else(|| event.get("regarding"))
        .unwrap_or(&Value::Null)
}

fn first_set<'a>(event: &Value, pointers: &[&'a str]) -> &'a str {
    let set = pointers.iter().find(|pointer| !string(event, pointer).is_empty());
    set.or(pointers.last()).copied().unwrap_or_default()
}

fn event_count(event: &Value) -> i64 {
    let counts = ["/series/count", "/count", "/deprecatedCount"].map(|pointer| number(event, pointer));
    counts.into_iter().find(|count| *count > 0).unwrap_or(1)
}

fn event_age(event: &Value, now_seconds: i64) -> String {
    let first = first_set(
        event,
        &["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"],
    );
    let last = first_set(
        event,
        &[
            "/series/lastObservedTime",
            "/lastTimestamp",
            "/deprecatedLastTimestamp",
            first,
        ],
    );
    match event_count(event) {
        count if count > 1 => format!(
            "{} (x{count} over {})",
            age::since(event, last, now_seconds),
            age::since(event, first, now_seconds)
        ),
        _ => age::since(event, last, now_seconds),
    }
}

fn event_source(event: &Value) -> String {
    let pick = |pointers: &[&'static str]| string(event, first_set(event, pointers)).to_string();
    let component = pick(&[
        "/source/component",
        "/deprecatedSource/component",
        "/reportingComponent",
        "/reportingController",
    ]);
    match pick(&["/source/host", "/deprecatedSource/host", "/reportingInstance"]) {
        host if host.is_empty() => component,
        host => format!("{component}, {host}"),
    }
}

fn phase(object: &Value) -> &str {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        "Terminating"
    } else {
        string(object, "/status/phase")
    }
}

fn bound(claim: &Value, text: String) -> String {
    if string(claim, "/spec/volumeName").is_empty() {
        String::new()
    } else {
        text
    }
}

fn access_modes(object: &Value, pointer: &str) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let given: Vec<&str> = list(object, pointer).filter_map(Value::as_str).collect();
    let short = known
        .iter()
        .filter(|(mode, _)| given.contains(mode))
        .map(|(_, short)| *short);
    short.collect::<Vec<_>>().join(",")
}

fn quota(object: &Value, limits: bool) -> String {
    let hard = object.pointer("/status/hard").and_then(Value::as_object);
    let rows = hard
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with("limits") == limits);
    let used = object.pointer("/status/used");
    rows.map(|(name, hard)| {
        format!(
            "{name}: {}/{}",
            shown(used.and_then(|used| used.get(name)), "0"),
            shown(Some(hard), "0")
        )
    })
    .collect::<Vec<_>>()
    .join(", ")
}
