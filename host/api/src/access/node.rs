//! The node authorizer: a kubelet reads what its pods need and nothing else.
//!
//! Which object belongs to a node is read from the pods in the cache that are bound to it: the secrets, config
//! maps, claims and service accounts that they name, and through the claims the volumes and the volumes'
//! secrets. What a node may write it may write to itself alone; that is the NodeRestriction admission's part.

use capstan_kinds::resource::find;
use serde_json::Value;

use super::authorize::Decision;
use super::rules::{Attributes, Rule};
use super::user::UserInfo;
use crate::registry::Registry;

/// What every node may do, whichever object it is about.
const RULES: &str = include_str!("../../data/node-rules.yaml");

fn rules() -> &'static [Rule] {
    static RULES_READ: std::sync::OnceLock<Vec<Rule>> = std::sync::OnceLock::new();
    RULES_READ.get_or_init(|| serde_norway::from_str(RULES).unwrap_or_default())
}

/// Whether a node may; none where the user is no node.
pub(crate) fn decide(registry: &Registry, user: &UserInfo, asked: &Attributes) -> Option<Decision> {
    let node = user.as_node()?;
    if node.is_empty() {
        let reason = format!("unknown node for user {:?}", user.name);
        return Some(Decision::refused(reason));
    }
    let one = Question {
        registry,
        node,
        asked,
    };
    Some(match (asked.group.as_str(), asked.resource.as_str()) {
        _ if !asked.path.is_empty() => one.by_rules(),
        ("", "secrets" | "configmaps") => one.reads_related(),
        ("", "persistentvolumeclaims") if asked.subresource == "status" => one.updates_status(),
        ("", "persistentvolumeclaims" | "persistentvolumes")
        | ("resource.k8s.io", "resourceclaims")
        | ("storage.k8s.io", "volumeattachments") => one.gets_related(),
        ("", "serviceaccounts") => one.service_account(),
        ("coordination.k8s.io", "leases") => one.lease(),
        ("storage.k8s.io", "csinodes") => one.csi_node(),
        ("resource.k8s.io", "resourceslices") => one.slice(),
        ("", "nodes") => one.own_node(),
        ("", "pods") => one.pod(),
        ("certificates.k8s.io", "podcertificaterequests") => Decision::refused(""),
        _ => one.by_rules(),
    })
}

struct Question<'a> {
    registry: &'a Registry,
    node: &'a str,
    asked: &'a Attributes,
}

impl Question<'_> {
    fn by_rules(&self) -> Decision {
        match rules().iter().any(|rule| rule.allows(self.asked)) {
            true => Decision::allowed(),
            false => Decision::refused(""),
        }
    }

    fn verb_is(&self, verbs: &[&str]) -> bool {
        verbs.contains(&self.asked.verb.as_str())
    }

    fn reads_related(&self) -> Decision {
        if !self.verb_is(&["get", "list", "watch"]) {
            return Decision::refused("can only read resources of this type");
        }
        if !self.asked.subresource.is_empty() {
            return Decision::refused("cannot read subresource");
        }
        if self.asked.namespace.is_empty() {
            return Decision::refused("can only read namespaced object of this type");
        }
        self.related()
    }

    fn gets_related(&self) -> Decision {
        if self.asked.verb != "get" {
            return Decision::refused("can only get individual resources of this type");
        }
        if !self.asked.subresource.is_empty() {
            return Decision::refused("cannot get subresource");
        }
        self.related()
    }

    fn updates_status(&self) -> Decision {
        if !self.verb_is(&["update", "patch"]) {
            return Decision::refused("can only get/update/patch this type");
        }
        self.related()
    }

    fn related(&self) -> Decision {
        if self.asked.name.is_empty() {
            return Decision::refused("No Object name found");
        }
        if self.is_related() {
            return Decision::allowed();
        }
        let node = self.node;
        Decision::refused(format!(
            "no relationship found between node '{node}' and this object"
        ))
    }

    fn service_account(&self) -> Decision {
        if self.asked.verb == "get" && self.asked.subresource.is_empty() {
            return self.reads_related();
        }
        if self.asked.verb != "create" || self.asked.name.is_empty() {
            return Decision::refused("can only create tokens for individual service accounts");
        }
        if self.asked.subresource != "token" {
            return Decision::refused("can only create token subresource of serviceaccount");
        }
        self.related()
    }

    fn lease(&self) -> Decision {
        if !self.verb_is(&["get", "create", "update", "patch", "delete"]) {
            return Decision::refused("can only get, create, update, patch, or delete a node lease");
        }
        if self.asked.namespace != "kube-node-lease" {
            return Decision::refused("can only access leases in the \"kube-node-lease\" system namespace");
        }
        if self.asked.verb != "create" && self.asked.name != self.node {
            return Decision::refused("can only access node lease with the same name as the requesting node");
        }
        Decision::allowed()
    }

    fn csi_node(&self) -> Decision {
        if !self.verb_is(&["get", "create", "update", "patch", "delete"]) {
            return Decision::refused("can only get, create, update, patch, or delete a CSINode");
        }
        if !self.asked.subresource.is_empty() {
            return Decision::refused("cannot authorize CSINode subresources");
        }
        if self.asked.verb != "create" && self.asked.name != self.node {
            return Decision::refused("can only access CSINode with the same name as the requesting node");
        }
        Decision::allowed()
    }

    fn slice(&self) -> Decision {
        if !self.asked.subresource.is_empty() {
            return Decision::refused("cannot authorize ResourceSlice subresources");
        }
        match self.asked.verb.as_str() {
            "create" => Decision::allowed(),
            "get" | "update" | "patch" | "delete" => self.related(),
            "watch" | "list" | "deletecollection" if self.narrowed_to_node("spec.nodeName") => {
                Decision::allowed()
            }
            "watch" | "list" | "deletecollection" => Decision::refused(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => Decision::refused(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn own_node(&self) -> Decision {
        let (node, name) = (self.node, &self.asked.name);
        match (self.asked.subresource.as_str(), self.asked.verb.as_str()) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Decision::allowed(),
            ("", "get" | "list" | "watch") if name == node => Decision::allowed(),
            ("", "get" | "list" | "watch") if name.is_empty() => Decision::refused(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            ("", "get" | "list" | "watch") => Decision::refused(format!(
                "node '{node}' cannot read '{name}', only its own Node object"
            )),
            _ => Decision::refused(""),
        }
    }

    fn pod(&self) -> Decision {
        match (self.asked.subresource.as_str(), self.asked.verb.as_str()) {
            ("", "get") => self.gets_related(),
            ("", "list" | "watch") if self.narrowed_to_node("spec.nodeName") => Decision::allowed(),
            ("", "list" | "watch") if !self.asked.name.is_empty() => self.related(),
            ("", "list" | "watch") => {
                Decision::refused("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Decision::allowed()
            }
            _ => Decision::refused(""),
        }
    }

    fn narrowed_to_node(&self, path: &str) -> bool {
        self.asked.field_selector.required(path) == Some(self.node)
    }

    fn is_related(&self) -> bool {
        let (namespace, name) = (self.asked.namespace.as_str(), self.asked.name.as_str());
        match self.asked.resource.as_str() {
            "pods" => {
                let found = self.object("", "pods", namespace, name);
                found.is_some_and(|pod| self.runs(&pod))
            }
            "persistentvolumes" => self.has_volume(name),
            "volumeattachments" => {
                let found = self.object("storage.k8s.io", "volumeattachments", "", name);
                found.is_some_and(|one| one["spec"]["nodeName"] == self.node)
            }
            "resourceslices" => {
                let found = self.object("resource.k8s.io", "resourceslices", "", name);
                found.is_some_and(|one| one["spec"]["nodeName"] == self.node)
            }
            "secrets" if self.volume_secrets(namespace, name) => true,
            kind => self.pods(namespace).any(|pod| refers(&pod, kind, name)),
        }
    }

    /// The pods of a namespace (all: "") that are bound to the node, but for those of its own making.
    fn pods(&self, namespace: &str) -> impl Iterator<Item = Value> {
        let below = match namespace {
            "" => String::new(),
            namespace => format!("{namespace}/"),
        };
        let all = find("", "v1", "pods").map(|pods| self.registry.cache(&pods).list(&below).1);
        all.into_iter()
            .flatten()
            .filter(|(_, pod)| pod.index.field("spec.nodeName") == Some(self.node))
            .map(|(_, pod)| pod.decode())
            .filter(|pod| self.runs(pod))
    }

    /// Whether the pod is bound to the node, and not of the node's own making.
    fn runs(&self, pod: &Value) -> bool {
        pod["spec"]["nodeName"] == self.node
            && !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string()
    }

    fn object(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let resource = find(group, "v1", plural)?;
        Some(self.registry.cached(&resource, namespace, name)?.decode())
    }

    /// Whether a pod of the node uses the claim that the volume is bound to.
    fn has_volume(&self, name: &str) -> bool {
        let Some(volume) = self.object("", "persistentvolumes", "", name) else {
            return false;
        };
        let text = |field: &str| volume["spec"]["claimRef"][field].as_str().unwrap_or_default();
        let (namespace, claim) = (text("namespace"), text("name"));
        !claim.is_empty()
            && self
                .pods(namespace)
                .any(|pod| refers(&pod, "persistentvolumeclaims", claim))
    }

    /// Whether the secret is one by which a volume of the node's pods is mounted.
    fn volume_secrets(&self, namespace: &str, name: &str) -> bool {
        let Some(volumes) = find("", "v1", "persistentvolumes") else {
            return false;
        };
        let (_, all) = self.registry.cache(&volumes).list("");
        all.iter().any(|(_, entry)| {
            let volume = entry.decode();
            let own = volume["spec"]["claimRef"]["namespace"]
                .as_str()
                .unwrap_or_default();
            names_secret(&volume["spec"], own, namespace, name) && self.has_volume(&entry.index.name)
        })
    }
}

/// Whether a volume's spec refers to the secret, whose namespace is the claim's where none is said.
fn names_secret(value: &Value, home: &str, namespace: &str, name: &str) -> bool {
    let Some(fields) = value.as_object() else {
        return false;
    };
    fields.iter().any(|(key, inner)| {
        let refers = key.ends_with("SecretRef") || key == "secretRef";
        let said = inner["namespace"].as_str().unwrap_or(home);
        let plain = key == "secretName" && inner == name;
        (refers && inner["name"] == name && said == namespace)
            || (plain && value["secretNamespace"].as_str().unwrap_or(home) == namespace)
            || names_secret(inner, home, namespace, name)
    })
}

/// Whether the pod refers to the object of a kind, which is in its namespace.
fn refers(pod: &Value, kind: &str, name: &str) -> bool {
    let spec = &pod["spec"];
    match kind {
        "serviceaccounts" => spec["serviceAccountName"] == name,
        "persistentvolumeclaims" => each(&spec["volumes"]).any(|volume| {
            let own = || {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let pod = text(&pod["metadata"]["name"]);
                format!("{pod}-{}", text(&volume["name"]))
            };
            volume["persistentVolumeClaim"]["claimName"] == name
                || (volume["ephemeral"].is_object() && own() == name)
        }),
        "resourceclaims" => {
            let made = &pod["status"]["resourceClaimStatuses"];
            each(&spec["resourceClaims"])
                .chain(each(made))
                .any(|claim| claim["resourceClaimName"] == name)
        }
        "secrets" => {
            each(&spec["imagePullSecrets"]).any(|one| one["name"] == name)
                || mentions(
                    spec,
                    &["secret", "secretKeyRef", "secretRef", "nodePublishSecretRef"],
                    name,
                )
        }
        "configmaps" => mentions(spec, &["configMap", "configMapKeyRef", "configMapRef"], name),
        _ => false,
    }
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Whether somewhere below stands one of the keys with the name.
fn mentions(value: &Value, keys: &[&str], name: &str) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|inner| mentions(inner, keys, name)),
        Value::Object(fields) => fields.iter().any(|(key, inner)| {
            let hit = keys.contains(&key.as_str()) && (inner["name"] == name || inner["secretName"] == name);
            hit || mentions(inner, keys, name)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_refers_to_what_it_names() {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {
                "serviceAccountName": "robot",
                "imagePullSecrets": [{"name": "pull"}],
                "volumes": [
                    {"name": "s", "secret": {"secretName": "mounted"}},
                    {"name": "j", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "ca"}}]}},
                    {"name": "c", "persistentVolumeClaim": {"claimName": "disk"}},
                    {"name": "e", "ephemeral": {}}
                ],
                "containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "all"}}],
                    "env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]}]
            }
        });
        for (kind, name, expected) in [
            ("secrets", "pull", true),
            ("secrets", "mounted", true),
            ("secrets", "part", true),
            ("secrets", "key", true),
            ("secrets", "ca", false),
            ("configmaps", "ca", true),
            ("configmaps", "all", true),
            ("configmaps", "part", false),
            ("persistentvolumeclaims", "disk", true),
            ("persistentvolumeclaims", "p-e", true),
            ("persistentvolumeclaims", "e", false),
            ("serviceaccounts", "robot", true),
        ] {
            assert_eq!(refers(&pod, kind, name), expected, "{kind} {name}");
        }
        assert!(!rules().is_empty(), "the rules are read");
    }
}
