//! Rules of containers: ordinary ones, those that run first, and those that are added for debugging.
//! Invariants: what a container refers to in its pod (volumes, claims) is handed in. Called by the rules of pods.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::volume::Volumes;
use super::{env, handler, resources, security, source};
use crate::name;
use crate::validate::at::At;

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
pub(crate) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
/// Rules of restarting that a container has at most.
const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const PASSING: &str = "may not be set for init containers without restartPolicy=Always";

/// What containers may refer to in their pod.
pub(super) struct Place<'a> {
    pub(super) spec: &'a At<'a>,
    pub(super) volumes: &'a Volumes<'a>,
    pub(super) claims: &'a BTreeSet<&'a str>,
}

/// The containers that run side by side.
pub(super) fn ordinary(place: &Place) {
    let list = place.spec.at("containers");
    if list.count("") == 0 {
        return list.required("", "");
    }
    let mut names = HashSet::new();
    for container in list.each("") {
        any(&container, place);
        if !names.insert(container.text("name")) {
            container.duplicate("name");
        }
        handler::lifecycle(&container, place.spec);
        handler::probes(&container, place.spec);
        restart(&container);
    }
    host_ports(&list, list.each(""));
}

/// The containers that run first, and those of them that stay.
pub(super) fn initial(place: &Place) {
    let list = place.spec.at("initContainers");
    let ordinary = place.spec.at("containers");
    let mut names: HashSet<&str> = ordinary.each("").map(|one| one.text("name")).collect();
    for container in list.each("") {
        any(&container, place);
        match container.get("restartPolicy") {
            Some(_) => restart(&container),
            None if container.count("restartPolicyRules") > 0 => {
                let why = "must specify restartPolicy when restart rules are used";
                container.required("restartPolicy", why);
            }
            None => {}
        }
        let name = container.text("name");
        if names.contains(name) {
            container.duplicate("name");
        } else if !name.is_empty() {
            names.insert(name);
        }
        host_ports(&list, std::iter::once(container.clone()));
        if container.text("restartPolicy") == "Always" {
            handler::lifecycle(&container, place.spec);
            handler::probes(&container, place.spec);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(field) {
                container.forbidden(field, PASSING);
            }
        }
        for policy in container.each("resizePolicy") {
            if policy.text("restartPolicy") == "RestartContainer" {
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                policy.invalid("restartPolicy", why);
            }
        }
    }
}

/// The containers that look into a running pod.
pub(super) fn ephemeral(place: &Place) {
    const NEVER: [&str; 7] = [
        "ports",
        "resources",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resizePolicy",
    ];
    const WHY: &str = "cannot be set for an Ephemeral Container";
    let others: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| place.spec.each(list))
        .map(|one| one.text("name"))
        .collect();
    let mut names = others.clone();
    for container in place.spec.each("ephemeralContainers") {
        any(&container, place);
        image(&container);
        if !names.insert(container.text("name")) {
            container.duplicate("name");
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            container.not_found("targetContainerName");
        }
        for field in NEVER.iter().chain(&["restartPolicy", "restartPolicyRules"]) {
            if container.count(field) > 0 || !container.text(field).is_empty() {
                container.forbidden(field, WHY);
            }
        }
        for mount in container.each("volumeMounts") {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    mount.forbidden(field, WHY);
                }
            }
        }
    }
}

/// The image's name, in pods though not in templates.
pub(super) fn image(container: &At) {
    let image = container.text("image");
    if image.trim() != image {
        container.invalid("image", "must not have leading or trailing whitespace");
    }
}

fn any(container: &At, place: &Place) {
    container.must_name("name", name::dns1123_label);
    container.need(&["image"]);
    let policies = ["File", "FallbackToLogsOnError"];
    container.must_be_one_of("terminationMessagePolicy", &policies);
    ports(container);
    env::check(container);
    mounts(container, place.volumes);
    devices(container, place.volumes);
    container.must_be_one_of("imagePullPolicy", &PULL_POLICIES);
    resources::of_container(&container.at("resources"), place.claims);
    resize(container, place.spec);
    security::of_container(container, place.spec);
}

fn ports(container: &At) {
    let mut names = HashSet::new();
    for port in container.each("ports") {
        let name = port.text("name");
        if !name.is_empty() {
            if !name::port(name).is_empty() {
                port.name("name", name::port);
            } else if !names.insert(name) {
                port.duplicate("name");
            }
        }
        if port.number("containerPort") == 0 {
            port.required("containerPort", "");
        } else {
            port.range("containerPort", 1, crate::validate::at::PORT_MAX);
        }
        if port.number("hostPort") != 0 {
            port.range("hostPort", 1, crate::validate::at::PORT_MAX);
        }
        port.must_be_one_of("protocol", &PROTOCOLS);
    }
}

/// A port of the node is taken once.
fn host_ports<'a>(list: &At, containers: impl Iterator<Item = At<'a>>) {
    let mut taken = HashSet::new();
    for (index, container) in containers.enumerate() {
        for (number, port) in container.each("ports").enumerate() {
            if port.number("hostPort") == 0 {
                continue;
            }
            let key = format!(
                "{}/{}/{}",
                port.text("protocol"),
                port.text("hostIP"),
                port.number("hostPort")
            );
            if taken.contains(&key) {
                let field = format!("[{index}].ports[{number}].hostPort");
                list.duplicate_as(&field, key.as_str());
            }
            taken.insert(key);
        }
    }
}

fn mounts(container: &At, volumes: &Volumes) {
    let devices: HashMap<&str, &str> = container
        .list("volumeDevices")
        .iter()
        .map(|device| {
            let text = |field: &str| device.get(field).and_then(|one| one.as_str()).unwrap_or_default();
            (text("name"), text("devicePath"))
        })
        .collect();
    let list = container.at("volumeMounts");
    let mut paths = HashSet::new();
    for mount in list.each("") {
        let (name, path) = (mount.text("name"), mount.text("mountPath"));
        mount.need(&["name"]);
        if !volumes.contains_key(name) {
            mount.not_found("name");
        }
        mount.need(&["mountPath"]);
        if !paths.insert(path) {
            mount.invalid_as("mountPath", path, "must be unique");
        }
        if devices.contains_key(name) {
            mount.invalid("name", "must not already exist in volumeDevices");
        }
        if devices.values().any(|device| *device == path) {
            let why = "must not already exist as a path in volumeDevices";
            mount.invalid("mountPath", why);
        }
        // The original tells what is wrong inside of a mount at the list.
        let told = mount.named(list.path(""));
        if !mount.text("subPath").is_empty() {
            source::local_path(&told, "subPath");
        }
        if !mount.text("subPathExpr").is_empty() {
            if !mount.text("subPath").is_empty() {
                mount.invalid("subPathExpr", "subPathExpr and subPath are mutually exclusive");
            }
            source::local_path(&told, "subPathExpr");
        }
        propagation(&told, container);
    }
}

fn propagation(mount: &At, container: &At) {
    let modes = ["Bidirectional", "HostToContainer", "None"];
    let mode = mount.text("mountPropagation");
    if mount.has("mountPropagation") {
        mount.exactly_one_of("mountPropagation", &modes);
        if mode == "Bidirectional" && !container.flag("securityContext.privileged") {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            mount.forbidden("mountPropagation", why);
        }
    }
    match mount.get("recursiveReadOnly").and_then(|one| one.as_str()) {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.flag("readOnly") {
                mount.forbidden("recursiveReadOnly", "may only be specified when readOnly is true");
            }
            if !matches!(mode, "" | "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                mount.forbidden("recursiveReadOnly", why);
            }
        }
        Some(_) => mount.unsupported("recursiveReadOnly", &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn devices(container: &At, volumes: &Volumes) {
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    let mounts: Vec<At> = container.each("volumeMounts").collect();
    for device in container.each("volumeDevices") {
        let (name, path) = (device.text("name"), device.text("devicePath"));
        device.need(&["name"]);
        if names.contains(name) {
            device.invalid("name", "must be unique");
        }
        match volumes.get(name) {
            None => device.not_found("name"),
            Some(volume) => {
                let claim = ["persistentVolumeClaim", "ephemeral"]
                    .iter()
                    .any(|source| volume.get(source).is_some());
                if !claim {
                    let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                    device.invalid("name", why);
                }
            }
        }
        device.need(&["devicePath"]);
        if paths.contains(path) {
            device.invalid_as("devicePath", path, "must be unique");
        }
        if path.split('/').any(|part| part == "..") {
            device.invalid("devicePath", "can not contain backsteps ('..')");
        } else {
            paths.insert(path);
        }
        if mounts.iter().any(|mount| mount.text("name") == name) {
            device.invalid("name", "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.text("mountPath") == path) {
            device.invalid("devicePath", "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

fn resize(container: &At, spec: &At) {
    let list = container.at("resizePolicy");
    let mut seen = HashSet::new();
    for (index, policy) in list.each("").enumerate() {
        let (resource, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if !seen.insert(resource) {
            list.duplicate_as(&format!("[{index}]"), resource);
        }
        let told = policy.named(list.path(""));
        for (text, known) in [
            (resource, ["cpu", "memory"]),
            (restart, ["NotRequired", "RestartContainer"]),
        ] {
            if text.is_empty() {
                told.required("", "");
            } else if !known.contains(&text) {
                told.unsupported_as("", text, &known);
            }
        }
        if spec.text("restartPolicy") == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            told.invalid_as("", restart, why);
        }
    }
}

/// When a container of its own starts again.
fn restart(container: &At) {
    match container.get("restartPolicy") {
        None if container.count("restartPolicyRules") > 0 => {
            let why = "must specify restartPolicy when restart rules are used";
            container.required("restartPolicy", why);
        }
        None => {}
        Some(_) => container.exactly_one_of("restartPolicy", &["Always", "Never", "OnFailure"]),
    }
    if container.count("restartPolicyRules") > RESTART_RULES_MAX {
        container.too_many("restartPolicyRules", RESTART_RULES_MAX);
    }
    for rule in container.each("restartPolicyRules") {
        rule.exactly_one_of("action", &["Restart", "RestartAllContainers"]);
        match rule.some("exitCodes") {
            None => rule.required("exitCodes", "must be specified"),
            Some(codes) => {
                codes.exactly_one_of("operator", &["In", "NotIn"]);
                if codes.count("values") > EXIT_CODES_MAX {
                    codes.too_many("values", EXIT_CODES_MAX);
                }
            }
        }
    }
}
