//! What is allowed and yet unwise: the warnings that the original sends with its answer.
//! Invariants: a warning never refuses; texts name the field, and are the original's. The API server calls it
//! for each write of a built-in kind through its main path, after admission; of a change of which the spec stays,
//! nothing is said again.

mod pod;

use std::net::IpAddr;

use serde_json::Value;

use super::address;
use super::at::{At, Found};
use crate::quantity::Quantity;
use crate::resource::Resource;

/// Warnings about one object that are sent at most.
const WARNINGS_MAX: usize = 50;
/// Sources of volumes, the name that is told, and since when they do nothing.
const DEPRECATED_SOURCES: [(&str, &str, &str); 8] = [
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "flocker",
        "flocker",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "quobyte",
        "quobyte",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
/// Above both, a controller loses count of what failed.
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const PARALLEL_SOFT_MAX: i64 = 10_000;
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Warnings about an object, new or as it is to become.
pub fn warnings(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<String> {
    if resource.custom.is_some()
        || old.is_some_and(|old| old.get("spec") == new.get("spec") && !plain(resource))
    {
        return Vec::new();
    }
    let found = Found::default();
    let at = At::root(new, &found);
    let mut told = Told::default();
    let template = ["spec.template", "spec.jobTemplate.spec.template", "template"]
        .iter()
        .find_map(|field| at.some(field));
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") if old.is_none() => {
            told.name(&at, "this is used in the Pod's hostname");
            told.pod(&at, false);
        }
        ("", "Pod") => {}
        ("apps" | "batch", _) | ("", "ReplicationController" | "PodTemplate") => {
            let named = !matches!(
                resource.kind.as_str(),
                "StatefulSet" | "DaemonSet" | "PodTemplate"
            );
            if old.is_none() && named {
                told.name(&at, "this is used in Pod names and hostnames");
            }
            if let Some(template) = template {
                told.pod(&template, true);
            }
            told.workload(&at, old.is_some());
        }
        ("", "Service") => told.service(&at),
        ("", "Endpoints") => {
            for subset in at.each("subsets") {
                for one in subset.each("addresses").chain(subset.each("notReadyAddresses")) {
                    told.address(&one, "ip");
                }
            }
        }
        ("", "Node") => {
            if at.has("spec.configSource") {
                told.say(&at, "spec.configSource", "the feature is removed");
            }
            if !at.text("spec.externalID").is_empty() {
                let why = "this field is deprecated, and is unused by Kubernetes";
                told.say(&at, "spec.externalID", why);
            }
        }
        ("storage.k8s.io", "StorageClass") => {
            for expression in at
                .each("allowedTopologies")
                .flat_map(|term| term.each("matchLabelExpressions"))
            {
                if let Some(text) = pod::deprecated(expression.text("key")) {
                    told.say(&expression, "key", text);
                }
            }
        }
        ("", "ResourceQuota") => told.quota(&at),
        ("", "PersistentVolume") => told.volume(&at),
        ("", "PersistentVolumeClaim") => {
            let text = "deprecated since v1.8; use \"storageClassName\" attribute instead";
            told.annotation(&at, BETA_CLASS, text);
            told.claim(&at.at("spec"));
        }
        ("networking.k8s.io", "Ingress") if old.is_none() => told.ingress(&at),
        ("networking.k8s.io", "NetworkPolicy") => told.policy(&at),
        _ => {}
    }
    told.0.truncate(WARNINGS_MAX);
    told.0
}

/// Kinds that are not divided into what is wanted and what is.
fn plain(resource: &Resource) -> bool {
    matches!(resource.kind.as_str(), "Endpoints" | "StorageClass")
}

#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    pub(super) fn say(&mut self, at: &At, field: &str, text: impl AsRef<str>) {
        self.0.push(format!("{}: {}", at.path(field), text.as_ref()));
    }

    pub(super) fn annotation(&mut self, object: &At, key: &str, text: &str) {
        let given = object
            .map("metadata.annotations")
            .is_some_and(|map| map.contains_key(key));
        if given {
            self.say(object, &format!("metadata.annotations[{key}]"), text);
        }
    }

    /// An address that is not written as all write it.
    pub(super) fn address(&mut self, at: &At, field: &str) {
        let text = at.text(field);
        let Some(address) = address::sloppy(text) else {
            return;
        };
        let mapped = matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
        if text.parse::<IpAddr>().is_err() || mapped {
            let right = match address {
                IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
                IpAddr::V4(_) => address,
            };
            let why = format!("non-standard IP address {text:?} is invalid: use \"{right}\"");
            self.say(at, field, why);
        } else if address.is_ipv6() && address.to_string() != text {
            let why = format!("IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")");
            self.say(at, field, why);
        }
    }

    /// A name that is fine, yet makes no label.
    fn name(&mut self, object: &At, what: &str) {
        let problems = crate::name::dns1123_label(object.text("metadata.name"));
        if !problems.is_empty() {
            let why = format!(
                "{what}, which can result in surprising behavior; a DNS label is recommended: [{}]",
                problems.join(" ")
            );
            self.say(object, "metadata.name", why);
        }
    }

    fn workload(&mut self, object: &At, exists: bool) {
        let spec = object.at("spec");
        for claim in spec.each("volumeClaimTemplates") {
            self.claim(&claim.at(if exists { "Spec" } else { "spec" }));
        }
        let limit = "revisionHistoryLimit";
        if spec.has("volumeClaimTemplates") && spec.number(limit) < 0 {
            let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
            self.say(&spec, limit, why);
        }
        if exists && spec.text("schedule").contains("TZ") {
            let text = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
            self.0.push(text.to_string());
        }
        for job in [&spec, &spec.at("jobTemplate.spec")] {
            let many = job.number("completions") > COMPLETIONS_SOFT_MAX
                && job.number("parallelism") > PARALLEL_SOFT_MAX;
            if job.text("completionMode") == "Indexed" && many {
                let why = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
                self.say(job, "", why);
            }
        }
    }

    fn quota(&mut self, object: &At) {
        let amount =
            |name: &str| -> Option<Quantity> { object.map("spec.hard")?.get(name)?.as_str()?.parse().ok() };
        for name in ["cpu", "memory", "ephemeral-storage"] {
            let bare = (name != "ephemeral-storage").then(|| name.to_string());
            let names = [Some(format!("requests.{name}")), bare];
            let request = names
                .into_iter()
                .flatten()
                .find_map(|name| Some((amount(&name)?, name)));
            let limit = format!("limits.{name}");
            if let (Some((request, of)), Some(most)) = (request, amount(&limit))
                && request > most
            {
                self.0.push(format!(
                    "ResourceQuota {of} ({request}) should be less than {limit} ({most})"
                ));
            }
        }
    }

    fn service(&mut self, object: &At) {
        const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
        let spec = object.at("spec");
        if object
            .map("metadata.annotations")
            .is_some_and(|map| map.contains_key(HINTS))
        {
            self.0.push(format!(
                "annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
            ));
        }
        let (kind, external) = (spec.text("type"), spec.count("externalIPs") > 0);
        for address in spec.each("clusterIPs").chain(spec.each("externalIPs")) {
            self.address(&address, "");
        }
        let headless = kind == "ClusterIP" && spec.text("clusterIP") == "None";
        if headless {
            for (given, field) in [
                (!spec.text("loadBalancerIP").is_empty(), "loadBalancerIP"),
                (external, "externalIPs"),
                (spec.text("sessionAffinity") != "None", "SessionAffinity"),
            ] {
                if given {
                    self.0
                        .push(format!("spec.{field} is ignored for headless services"));
                }
            }
        }
        if external && !headless && kind != "ExternalName" {
            let text = "spec.externalIPs is deprecated and may no longer be implemented in some clusters";
            self.0.push(text.to_string());
        }
        self.address(&spec, "loadBalancerIP");
        if kind == "ExternalName" && external {
            let text = "spec.externalIPs is ignored when spec.type is \"ExternalName\"";
            self.0.push(text.to_string());
        }
        if kind != "ExternalName" && !spec.text("externalName").is_empty() {
            let text = "spec.externalName is ignored when spec.type is not \"ExternalName\"";
            self.0.push(text.to_string());
        }
        if spec.text("trafficDistribution") == "PreferClose" {
            let text = "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
            self.0.push(text.to_string());
        }
    }

    fn volume(&mut self, object: &At) {
        self.annotation(
            object,
            BETA_CLASS,
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        );
        let options = "volume.beta.kubernetes.io/mount-options";
        self.annotation(
            object,
            options,
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        );
        let spec = object.at("spec");
        let policy = "persistentVolumeReclaimPolicy";
        if spec.text(policy) == "Recycle" {
            let why = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";
            self.say(&spec, policy, why);
        }
        for term in spec.each("nodeAffinity.required.nodeSelectorTerms") {
            self.node_term(&term, false);
        }
        for (field, told, text) in DEPRECATED_SOURCES {
            if spec.has(field) && !matches!(field, "flocker" | "quobyte") {
                self.say(&spec, told, text);
            }
        }
    }

    pub(super) fn claim(&mut self, spec: &At) {
        for list in ["requests", "limits"] {
            let field = format!("resources.{list}.storage");
            if spec.quantity(&field).is_some_and(|amount| !amount.is_whole()) {
                let why = format!(
                    "fractional byte value {:?} is invalid, must be an integer",
                    spec.text(&field)
                );
                self.say(spec, &format!("resources.{list}[storage]"), why);
            }
        }
    }

    fn ingress(&mut self, object: &At) {
        const CLASS: &str = "kubernetes.io/ingress.class";
        let annotated = object
            .map("metadata.annotations")
            .is_some_and(|map| map.contains_key(CLASS));
        if annotated && !object.has("spec.ingressClassName") {
            self.0.push(format!(
                "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
            ));
        }
    }

    fn policy(&mut self, object: &At) {
        for (list, peers) in [("spec.ingress", "from"), ("spec.egress", "to")] {
            for block in object.each(list).flat_map(|rule| rule.each(peers)) {
                let Some(block) = block.some("ipBlock") else {
                    continue;
                };
                self.network(&block.at("cidr"));
                for except in block.each("except") {
                    self.network(&except);
                }
            }
        }
    }

    fn network(&mut self, at: &At) {
        let text = at.text("");
        let Some((address, length)) = address::network(text) else {
            return;
        };
        let right = format!("{address}/{length}");
        if address.is_ipv6() && right != text {
            let why = format!("IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({right:?})");
            self.say(at, "", why);
        }
    }
}
