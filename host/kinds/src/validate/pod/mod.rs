//! Rules of pod specs, in pods and in templates.
//! Invariants: the same rules wherever a pod spec stands; restart policies that a workload narrows are the
//! workload's rules. Errors come in the original's order.

pub(super) mod change;
mod container;
mod env;
mod handler;
pub(super) mod placement;
pub(crate) mod resources;
mod security;
pub(super) mod source;
pub(super) mod status;
mod volume;
mod windows;

use std::collections::{BTreeSet, HashMap, HashSet};

pub(super) use self::container::PROTOCOLS;
use self::container::Place;
use super::address;
use super::at::At;
use super::names;
use super::{metadata, selector};
use crate::name;

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// A new pod.
pub(super) fn create(object: &At) {
    both(object);
    let spec = object.at("spec");
    if spec.count("ephemeralContainers") > 0 {
        spec.forbidden("ephemeralContainers", "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && spec.count("schedulingGates") > 0 {
        let why = "cannot be set until all schedulingGates have been cleared";
        spec.forbidden("nodeName", why);
    }
}

/// What holds for a pod whenever it is written.
pub(super) fn both(object: &At) {
    let spec = object.at("spec");
    annotations(&object.at("metadata.annotations"), &spec);
    self::spec(&spec, Some(object));
    if spec.text("serviceAccountName").is_empty() {
        for source in spec
            .each("volumes")
            .flat_map(|volume| volume.each("projected.sources"))
        {
            if source.has("serviceAccountToken") {
                let why = "must not be specified when serviceAccountName is not set";
                source.forbidden("serviceAccountToken", why);
            }
        }
    }
    for list in ["containers", "initContainers"] {
        spec.each(list).for_each(|one| container::image(&one));
    }
    // A template may leave it to what makes pods of it.
    for image in spec.each("volumes").filter_map(|volume| volume.some("image")) {
        image.need(&["reference"]);
    }
}

/// A pod template: the labels it makes and the spec.
pub(super) fn template(at: &At) {
    let metadata = at.at("metadata").named(at.path(""));
    selector::labels(&metadata, "labels");
    metadata::annotations(&metadata, "annotations");
    let spec = at.at("spec");
    annotations(&metadata.at("annotations"), &spec);
    self::spec(&spec, None);
    if spec.count("ephemeralContainers") > 0 {
        let why = "ephemeral containers not allowed in pod template";
        spec.forbidden("ephemeralContainers", why);
    }
}

/// Annotations that mean something.
fn annotations(at: &At, spec: &At) {
    let Some(given) = at.map("") else { return };
    let text = |key: &str| given.get(key).and_then(|value| value.as_str());
    if let Some(value) = text(MIRROR)
        && spec.text("nodeName").is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        at.invalid_as(&format!("[{MIRROR}]"), value, why);
    }
    if let Some(cost) = text(DELETION_COST) {
        let odd = cost.starts_with('+') || (cost.starts_with('0') && cost.len() > 1);
        if odd || cost.parse::<i32>().is_err() {
            at.invalid_as(&format!("[{DELETION_COST}]"), cost, "must be a 32bit integer");
        }
    }
    for (key, value) in at.keyed("") {
        let Some(container) = key.strip_prefix(APP_ARMOR) else {
            continue;
        };
        if !containers(spec).any(|one| one.text("name") == container) {
            value.invalid_as("", container, "container not found");
        }
        let profile = value.text("");
        let known = matches!(profile, "" | "runtime/default" | "unconfined");
        if !known && !profile.starts_with("localhost/") {
            value.invalid("", &format!("invalid AppArmor profile name: {profile:?}"));
        }
    }
}

/// All containers of a pod, in the original's order.
fn containers<'a>(spec: &At<'a>) -> impl Iterator<Item = At<'a>> + use<'a> {
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| spec.each(list));
    lists.into_iter().flatten()
}

/// The rules of a spec; `pod` is the pod that it is of, none in a template.
fn spec(at: &At, pod: Option<&At>) {
    if !at.has("terminationGracePeriodSeconds") {
        at.required("terminationGracePeriodSeconds", "");
    }
    let volumes = volume::check(at, pod.map(|pod| pod.text("metadata.name")));
    let claims: BTreeSet<&str> = at
        .each("resourceClaims")
        .map(|claim| claim.text("name"))
        .filter(|name| !name.is_empty())
        .collect();
    resource_claims(at);
    let place = Place {
        spec: at,
        volumes: &volumes,
        claims: &claims,
    };
    container::ordinary(&place);
    container::initial(&place);
    container::ephemeral(&place);
    resources::of_pod(at, &claims);
    host_network(at, pod.is_some());
    at.must_be_one_of("restartPolicy", &["Always", "OnFailure", "Never"]);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    at.must_be_one_of("dnsPolicy", &policies);
    selector::labels(at, "nodeSelector");
    security::of_pod(at);
    placement::affinity(at);
    dns(at);
    gates(at);
    placement::spread(at);
    windows::host_process(at);
    security::own_users(at);
    host_name(at);
    at.may_name("serviceAccountName", name::dns1123_subdomain);
    at.may_name("nodeName", name::dns1123_subdomain);
    at.range("activeDeadlineSeconds", 1, i64::from(i32::MAX));
    at.may_name("hostname", name::dns1123_label);
    at.may_name("subdomain", name::dns1123_label);
    placement::tolerations(at, "tolerations");
    host_aliases(at);
    at.may_name("priorityClassName", name::dns1123_subdomain);
    if at.has("runtimeClassName") {
        at.name("runtimeClassName", name::dns1123_subdomain);
    }
    if at.has("preemptionPolicy") {
        at.must_be_one_of("preemptionPolicy", &["PreemptLowerPriority", "Never"]);
    }
    overhead(at);
    windows::system(at);
    file_references(at);
}

fn resource_claims(spec: &At) {
    const KINDS: [&str; 2] = ["resourceClaimName", "resourceClaimTemplateName"];
    let mut names = HashSet::new();
    for claim in spec.each("resourceClaims") {
        let name = claim.text("name");
        if name.is_empty() {
            claim.required("name", "");
        } else if names.contains(name) {
            claim.duplicate("name");
        } else {
            claim.name("name", name::dns1123_label);
            names.insert(name);
        }
        match KINDS.map(|kind| claim.has(kind)) {
            [true, true] => claim.invalid(
                "",
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            [false, false] => claim.invalid(
                "",
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            _ => {}
        }
        for kind in KINDS.into_iter().filter(|kind| claim.has(kind)) {
            claim.name(kind, name::dns1123_subdomain);
        }
    }
}

/// On the node's own network a port of the node is the container's.
fn host_network(spec: &At, is_pod: bool) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for port in spec.each("containers").flat_map(|one| one.each("ports")) {
        let (host, own) = (port.number("hostPort"), port.number("containerPort"));
        if (is_pod || host != 0) && host != own {
            let why = "must match `containerPort` when `hostNetwork` is true";
            port.invalid_as("hostPort", host, why);
        }
    }
}

fn dns(spec: &At) {
    const SERVERS_MAX: usize = 3;
    const SEARCHES_MAX: usize = 32;
    const SEARCH_BYTES_MAX: usize = 2048;
    let none = spec.text("dnsPolicy") == "None";
    let Some(at) = spec.some("dnsConfig") else {
        if none {
            spec.required("dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    if none && at.count("nameservers") == 0 {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        return at.required("nameservers", why);
    }
    if at.count("nameservers") > SERVERS_MAX {
        let why = format!("must not have more than {SERVERS_MAX} nameservers");
        at.invalid("nameservers", &why);
    }
    for server in at.each("nameservers") {
        address::check(&server, "", &[]);
    }
    if at.count("searches") > SEARCHES_MAX {
        let why = format!("must not have more than {SEARCHES_MAX} search paths");
        at.invalid("searches", &why);
    }
    let searches: Vec<&str> = at.texts("searches").collect();
    if searches.join(" ").len() > SEARCH_BYTES_MAX {
        let why = format!(
            "must not have more than {SEARCH_BYTES_MAX} characters (including spaces) in the search list"
        );
        at.invalid("searches", &why);
    }
    for search in at.each("searches").filter(|search| search.text("") != ".") {
        let text = search.text("");
        let text = text.strip_suffix('.').unwrap_or(text);
        for why in names::underscored_subdomain(text) {
            search.invalid_as("", text, &why);
        }
    }
    for option in at.each("options") {
        if option.text("name").is_empty() {
            option.required("", "must not be empty");
        }
    }
}

fn gates(spec: &At) {
    for gate in spec.each("readinessGates") {
        gate.name("conditionType", name::qualified);
    }
    let mut seen = HashSet::new();
    for gate in spec.each("schedulingGates") {
        let name = gate.text("name");
        for why in name::qualified(name) {
            gate.invalid_as("", name, &why);
        }
        if !seen.insert(name) {
            gate.duplicate_as("", name);
        }
    }
}

fn host_name(spec: &At) {
    const FIELD: &str = "hostnameOverride";
    const LENGTH_MAX: usize = 64;
    if !spec.has(FIELD) {
        return;
    }
    if spec.flag("setHostnameAsFQDN") {
        spec.forbidden(FIELD, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.flag("hostNetwork") {
        spec.forbidden(FIELD, "may not be specified when hostNetwork is true");
    }
    if spec.text(FIELD).len() > LENGTH_MAX {
        spec.too_long(FIELD, LENGTH_MAX);
    }
    spec.name(FIELD, name::dns1123_subdomain);
}

fn host_aliases(spec: &At) {
    for alias in spec.each("hostAliases") {
        address::check(&alias, "ip", &[]);
        let names = alias.each("hostnames");
        names.for_each(|name| name.name("", name::dns1123_subdomain));
    }
}

/// What running the pod costs besides its containers: amounts as limits.
fn overhead(spec: &At) {
    let Some(at) = spec.some("overhead") else { return };
    let told = at.path("limits");
    for (name, amount) in at.keyed("") {
        let amount = amount.named(format!("{told}[{name}]"));
        resources::container_name(&amount, name);
        resources::amount(&amount, name);
    }
}

/// A variable from a file names an empty directory of the pod.
fn file_references(spec: &At) {
    let volumes: HashMap<&str, bool> = spec
        .each("volumes")
        .map(|volume| (volume.text("name"), volume.has("emptyDir")))
        .collect();
    for variable in containers(spec).flat_map(|container| container.each("env")) {
        let Some(file) = variable.some("valueFrom.fileKeyRef") else {
            continue;
        };
        match volumes.get(file.text("volumeName")) {
            None => file.not_found("volumeName"),
            Some(false) => file.invalid_as(
                "volumeName",
                file.text("volumeName"),
                "referenced volume must be of type emptyDir",
            ),
            Some(true) => {}
        }
    }
}
