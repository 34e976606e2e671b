//! What a ResourceQuota counts of an object: the amounts, the kinds, the scopes. Pure: times are handed in.
//!
//! Pods count by what they ask for, services by their ports, volume claims by their storage, resource claims by
//! the devices that they may get at most; every other kind by its number (`count/PLURAL.GROUP`, and four older names). The API server's quota admission charges by it, the
//! controller recalculates by it.

use serde_json::Value;

use crate::pod_resources::{Amounts, add, amounts, each, limits_of, requests_of, text};
use crate::quantity::{Format, Quantity};
use crate::strategy::qos_class;

/// Kinds that are never counted.
const UNCOUNTED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];
/// Kinds of the core group that are counted by their plain name, too.
const OLDER_NAMES: [&str; 4] = [
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];
const POD_NAMES: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// If a quota limits these, each container must state them.
const STATED_NAMES: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const CLASS: &str = ".storageclass.storage.k8s.io/";
/// Devices of a class.
const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";
/// Devices that one claim can get of a request for all, as in the original.
const DEVICES_OF_ALL: i64 = 32;

/// A kind as quotas see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted<'a> {
    /// Pods.
    Pods,
    /// Services.
    Services,
    /// Persistent volume claims.
    Claims,
    /// Resource claims.
    Devices,
    /// Any other, by its number.
    Number {
        /// Its group.
        group: &'a str,
        /// Its plural.
        plural: &'a str,
    },
}

impl<'a> Counted<'a> {
    /// None where the kind is never counted.
    pub fn of(group: &'a str, plural: &'a str) -> Option<Self> {
        match (group, plural) {
            kind if UNCOUNTED.contains(&kind) => None,
            ("", "pods") => Some(Self::Pods),
            ("", "services") => Some(Self::Services),
            ("", "persistentvolumeclaims") => Some(Self::Claims),
            ("resource.k8s.io", "resourceclaims") => Some(Self::Devices),
            _ => Some(Self::Number { group, plural }),
        }
    }

    /// The name under which the number of its objects is limited.
    pub fn count_name(self) -> String {
        match self {
            Self::Pods => "count/pods".to_owned(),
            Self::Services => "count/services".to_owned(),
            Self::Claims => "count/persistentvolumeclaims".to_owned(),
            Self::Devices => "count/resourceclaims.resource.k8s.io".to_owned(),
            Self::Number { group: "", plural } => format!("count/{plural}"),
            Self::Number { group, plural } => format!("count/{plural}.{group}"),
        }
    }

    /// Whether a limit of this name limits the kind.
    pub fn has(self, name: &str) -> bool {
        if name == self.count_name() {
            return true;
        }
        match self {
            Self::Pods => {
                POD_NAMES.contains(&name)
                    || name.starts_with("hugepages-")
                    || name.starts_with("requests.hugepages-")
                    || is_extended_limit(name)
            }
            Self::Services => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
            Self::Claims => ["persistentvolumeclaims", "requests.storage"]
                .into_iter()
                .any(|one| name == one || name.strip_suffix(one).is_some_and(|rest| rest.ends_with(CLASS))),
            Self::Devices => name.ends_with(DEVICES),
            Self::Number { group, plural } => {
                group.is_empty() && plural == name && OLDER_NAMES.contains(&plural)
            }
        }
    }

    /// Whether a write may change what the kind uses; `old` is none for a create.
    pub fn is_charged(self, subresource: &str, new: &Value, old: Option<&Value>) -> bool {
        match (self, subresource, old) {
            (_, "", None) => true,
            (Self::Pods, "", Some(old)) => is_terminating(old) != is_terminating(new),
            (Self::Pods, "resize", Some(_)) | (Self::Services | Self::Claims, "", Some(_)) => true,
            (Self::Claims, "status", Some(old)) => {
                old["status"]["allocatedResources"] != new["status"]["allocatedResources"]
            }
            _ => false,
        }
    }

    /// What the object uses.
    pub fn usage(self, object: &Value, now_seconds: i64) -> Amounts {
        let mut used = Amounts::from([(self.count_name(), whole(1))]);
        match self {
            Self::Pods => pod(object, now_seconds, &mut used),
            Self::Services => service(object, &mut used),
            Self::Claims => claim(object, &mut used),
            Self::Devices => devices(&object["spec"]["devices"], &mut used),
            Self::Number { group: "", plural } if OLDER_NAMES.contains(&plural) => {
                used.insert(plural.to_owned(), whole(1));
            }
            Self::Number { .. } => {}
        }
        used
    }

    /// Whether the quota is about the object, by its scopes.
    pub fn in_scope(self, quota: &Value, object: &Value) -> bool {
        let spec = &quota["spec"];
        let plain =
            each(&spec["scopes"]).all(|scope| self.matches(text(scope), "Exists", &Value::Null, object));
        plain
            && each(&spec["scopeSelector"]["matchExpressions"]).all(|one| {
                let (scope, operator) = (text(&one["scopeName"]), text(&one["operator"]));
                self.matches(scope, operator, &one["values"], object)
            })
    }

    fn matches(self, scope: &str, operator: &str, values: &Value, object: &Value) -> bool {
        let spec = &object["spec"];
        let best_effort = || qos_class(Some(spec)) == "BestEffort";
        match (self, scope) {
            (Self::Pods, "Terminating") => is_terminating(object),
            (Self::Pods, "NotTerminating") => !is_terminating(object),
            (Self::Pods, "BestEffort") => best_effort(),
            (Self::Pods, "NotBestEffort") => !best_effort(),
            (Self::Pods, "PriorityClass") => selects(operator, values, &[text(&spec["priorityClassName"])]),
            (Self::Pods, "CrossNamespacePodAffinity") => crosses_namespaces(&spec["affinity"]),
            (Self::Claims, "VolumeAttributesClass") => {
                let status = &object["status"];
                let names = [
                    text(&spec["volumeAttributesClassName"]),
                    text(&status["currentVolumeAttributesClassName"]),
                    text(&status["modifyVolumeStatus"]["targetVolumeAttributesClassName"]),
                ];
                selects(operator, values, &names)
            }
            _ => false,
        }
    }

    /// What the object must state because one of `limited` is limited: the original's sentence, where it does
    /// not.
    pub fn unstated(self, limited: &[String], object: &Value) -> Option<String> {
        let spec = &object["spec"];
        let of_pod = &spec["resources"];
        let states = |part: &str| of_pod[part].as_object().is_some_and(|list| !list.is_empty());
        if self != Self::Pods || states("requests") || states("limits") {
            return None;
        }
        let mut required: Vec<&str> = limited.iter().map(String::as_str).collect();
        required.retain(|name| STATED_NAMES.contains(name));
        required.sort_unstable();
        let mut sentences = Vec::new();
        for name in required {
            let mut lacking: Vec<&str> = each(&spec["containers"])
                .chain(each(&spec["initContainers"]))
                .filter(|container| !states_it(&container["resources"], name))
                .map(|container| text(&container["name"]))
                .collect();
            lacking.sort_unstable();
            lacking.dedup();
            if !lacking.is_empty() {
                sentences.push(format!("{name} for: {}", lacking.join(",")));
            }
        }
        (!sentences.is_empty()).then(|| format!("must specify {}", sentences.join("; ")))
    }
}

fn whole(number: i64) -> Quantity {
    Quantity::from_value(number, Format::DecimalSi)
}

fn states_it(resources: &Value, name: &str) -> bool {
    let (part, resource) = match name.split_once('.') {
        Some((part, resource)) => (part, resource),
        None => ("requests", name),
    };
    !resources[part][resource].is_null()
}

/// Whether any of the names (the empty one is none) is selected.
fn selects(operator: &str, values: &Value, names: &[&str]) -> bool {
    let named: Vec<&&str> = names.iter().filter(|name| !name.is_empty()).collect();
    let listed = |name: &str| each(values).any(|value| value == name);
    match operator {
        "Exists" => !named.is_empty(),
        "DoesNotExist" => named.is_empty(),
        "In" => named.iter().any(|name| listed(name)),
        "NotIn" => named.is_empty() || named.iter().any(|name| !listed(name)),
        _ => false,
    }
}

fn is_terminating(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds >= 0)
}

fn crosses_namespaces(affinity: &Value) -> bool {
    let crosses =
        |term: &Value| each(&term["namespaces"]).next().is_some() || term["namespaceSelector"].is_object();
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let rules = &affinity[kind];
        each(&rules["requiredDuringSchedulingIgnoredDuringExecution"]).any(crosses)
            || each(&rules["preferredDuringSchedulingIgnoredDuringExecution"])
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}

/// Whether a limit's name means a resource that is not Kubernetes' own.
fn is_extended_limit(name: &str) -> bool {
    let device = name.starts_with("requests.deviceclass.resource.kubernetes.io/");
    name.starts_with("requests.") && (device || is_extended(name))
}

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

/// Whether a pod counts for what it uses: not once it has ended, nor when it should be gone.
fn is_live(pod: &Value, now_seconds: i64) -> bool {
    if matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed") {
        return false;
    }
    let metadata = &pod["metadata"];
    let deleted = text(&metadata["deletionTimestamp"])
        .parse::<jiff::Timestamp>()
        .ok();
    match (deleted, metadata["deletionGracePeriodSeconds"].as_i64()) {
        (Some(deleted), Some(grace)) => now_seconds <= deleted.as_second().saturating_add(grace),
        _ => true,
    }
}

fn pod(pod: &Value, now_seconds: i64, used: &mut Amounts) {
    if !is_live(pod, now_seconds) {
        return;
    }
    let overhead = amounts(&pod["spec"]["overhead"]);
    let (mut requests, mut limits) = (requests_of(pod), limits_of(pod));
    add(&mut requests, &overhead);
    let over: Amounts = overhead
        .into_iter()
        .filter(|(name, _)| limits.get(name).is_some_and(|limit| !limit.is_zero()))
        .collect();
    add(&mut limits, &over);
    used.insert("pods".to_owned(), whole(1));
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            used.insert(name.to_owned(), *request);
            used.insert(format!("requests.{name}"), *request);
        }
        if let Some(limit) = limits.get(name) {
            used.insert(format!("limits.{name}"), *limit);
        }
    }
    for (name, request) in requests {
        if name.starts_with("hugepages-") {
            used.insert(name.clone(), request);
        }
        if name.starts_with("hugepages-") || is_extended(&name) {
            used.insert(format!("requests.{name}"), request);
        }
    }
}

fn service(service: &Value, used: &mut Amounts) {
    let spec = &service["spec"];
    let ports = each(&spec["ports"]).count();
    let balanced = spec["type"] == "LoadBalancer";
    let node_ports = match text(&spec["type"]) {
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => {
            let own = |port: &&Value| port["nodePort"].as_i64().unwrap_or(0) != 0;
            each(&spec["ports"]).filter(own).count()
        }
        "NodePort" | "LoadBalancer" => ports,
        _ => 0,
    };
    used.insert("services".to_owned(), whole(1));
    used.insert("services.loadbalancers".to_owned(), whole(i64::from(balanced)));
    used.insert(
        "services.nodeports".to_owned(),
        whole(i64::try_from(node_ports).unwrap_or(i64::MAX)),
    );
}

fn claim(claim: &Value, used: &mut Amounts) {
    let older = &claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    let class = older
        .as_str()
        .unwrap_or_else(|| text(&claim["spec"]["storageClassName"]));
    let mut count = |name: &str, amount: Quantity| {
        used.insert(name.to_owned(), amount);
        if !class.is_empty() {
            used.insert(format!("{class}{CLASS}{name}"), amount);
        }
    };
    count("persistentvolumeclaims", whole(1));
    let asked = amounts(&claim["spec"]["resources"]["requests"]).remove("storage");
    let given = amounts(&claim["status"]["allocatedResources"]).remove("storage");
    if let Some(asked) = asked {
        let more = given.filter(|given| *given > asked).unwrap_or(asked);
        let rounded = match more.is_whole() {
            true => more,
            false => Quantity::from_value(more.as_i64_ceil(), more.format()),
        };
        count("requests.storage", rounded);
    }
}

/// Of alternatives, the most of each class may be given.
fn devices(asked: &Value, used: &mut Amounts) {
    for request in each(&asked["requests"]) {
        let mut most = Amounts::new();
        let exactly = request.get("exactly").filter(|one| one.is_object());
        for one in each(&request["firstAvailable"]).chain(exactly) {
            let count = match text(&one["allocationMode"]) {
                "ExactCount" => one["count"].as_i64().unwrap_or(0),
                "All" => DEVICES_OF_ALL,
                _ => 0,
            };
            let name = format!("{}{DEVICES}", text(&one["deviceClassName"]));
            let known = most.entry(name).or_insert(whole(0));
            *known = whole(count).max(*known);
        }
        add(used, &most);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(counted: Counted<'_>, object: &Value) -> String {
        let used = counted.usage(object, 0);
        let parts: Vec<String> = used
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect();
        parts.join(" ")
    }

    #[test]
    fn objects_use_what_the_original_counts() {
        let pod = json!({"spec": {"containers": [{"name": "a", "resources": {
            "requests": {"cpu": "100m", "example.com/gpu": "2"}, "limits": {"memory": "1Gi"}}}]}});
        assert_eq!(
            shown(Counted::Pods, &pod),
            "count/pods=1 cpu=100m limits.memory=1Gi pods=1 requests.cpu=100m requests.example.com/gpu=2"
        );
        let mut ended = pod.clone();
        ended["status"]["phase"] = json!("Succeeded");
        assert_eq!(shown(Counted::Pods, &ended), "count/pods=1");
        let service = json!({"spec": {"type": "NodePort", "ports": [{}, {}]}});
        assert_eq!(
            shown(Counted::Services, &service),
            "count/services=1 services=1 services.loadbalancers=0 services.nodeports=2"
        );
        let claim =
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(
            shown(Counted::Claims, &claim),
            "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
             gold.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi"
        );
        let devices = json!({"spec": {"devices": {"requests": [
            {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
            {"name": "b", "firstAvailable": [
                {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
                {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3},
                {"deviceClassName": "nic", "allocationMode": "All"}]}]}}});
        assert_eq!(
            shown(
                Counted::of("resource.k8s.io", "resourceclaims").unwrap(),
                &devices
            ),
            "count/resourceclaims.resource.k8s.io=1 gpu.deviceclass.resource.k8s.io/devices=5 \
             nic.deviceclass.resource.k8s.io/devices=32"
        );
        let kind = Counted::of("apps", "deployments").unwrap();
        assert_eq!(shown(kind, &json!({})), "count/deployments.apps=1");
        assert_eq!(
            shown(Counted::of("", "secrets").unwrap(), &json!({})),
            "count/secrets=1 secrets=1"
        );
        assert!(Counted::of("", "events").is_none());
        let wanted = ["cpu".to_owned(), "limits.memory".to_owned(), "pods".to_owned()];
        let bare = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}});
        assert_eq!(
            Counted::Pods.unstated(&wanted, &bare).unwrap(),
            "must specify cpu for: a,b; limits.memory for: a,b"
        );
        assert_eq!(Counted::Pods.unstated(&wanted, &pod), None);
    }

    #[test]
    fn scopes_choose_pods() {
        let bare = json!({"spec": {"containers": [{"name": "a"}], "priorityClassName": "high"}});
        let check = |spec: Value, expected: bool| {
            let quota = json!({"spec": spec});
            assert_eq!(Counted::Pods.in_scope(&quota, &bare), expected, "{quota}");
        };
        check(json!({}), true);
        check(json!({"scopes": ["BestEffort", "NotTerminating"]}), true);
        check(json!({"scopes": ["NotBestEffort"]}), false);
        check(json!({"scopes": ["Terminating"]}), false);
        let class = |operator: &str, values: Value| {
            json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
        };
        check(class("In", json!(["high"])), true);
        check(class("NotIn", json!(["high"])), false);
        check(class("Exists", Value::Null), true);
        assert!(!Counted::Services.in_scope(&json!({"spec": {"scopes": ["BestEffort"]}}), &json!({})));
    }
}
