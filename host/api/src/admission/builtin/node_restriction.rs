//! NodeRestriction: a node writes to itself alone: its Node, its lease, its pods' status, tokens for its pods.
//!
//! Judges users of `system:nodes` only. What a node may read is the node authorizer's part.

use capstan_kinds::resource::find;
use capstan_kinds::status::Status;
use capstan_points::admission::Operation;
use serde_json::Value;

use super::certificates::Subject as CertificateSubject;
use super::{Asked, each, forbidden, text};
use crate::access::Attributes;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;

/// Labels of Kubernetes' own domains that a node may give itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn validate(asked: &Asked<'_>, object: Option<&Value>) -> Result<(), Refusal> {
    let Some(node) = asked.call.user.as_node() else {
        return Ok(());
    };
    let old = asked.subject.old.as_deref().unwrap_or(&Value::Null);
    let one = One {
        asked,
        node,
        old,
        new: object.unwrap_or(old),
    };
    if node.is_empty() {
        return one.refuse(format!(
            "could not determine node from user {:?}",
            asked.call.user.name
        ));
    }
    let resource = &asked.call.resource;
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => one.pod(),
        ("", "nodes") => one.own_node(),
        ("", "persistentvolumeclaims") => one.claim(),
        ("coordination.k8s.io", "leases") => one.lease(),
        ("storage.k8s.io", "csinodes") => {
            one.named("can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices") => one.slice(),
        ("certificates.k8s.io", "certificatesigningrequests") => one.request(),
        _ => Ok(()),
    }
}

struct One<'a> {
    asked: &'a Asked<'a>,
    node: &'a str,
    old: &'a Value,
    /// The old one for a deletion.
    new: &'a Value,
}

impl One<'_> {
    fn refuse(&self, why: impl AsRef<str>) -> Result<(), Refusal> {
        Err(self.asked.forbid(self.new, why.as_ref()))
    }

    fn pod(&self) -> Result<(), Refusal> {
        let node = self.node;
        let operation = self.asked.subject.operation;
        match (self.asked.subject.subresource, operation) {
            ("", Operation::Create) => self.mirror(),
            ("" | "deletion", Operation::Delete) if self.old["spec"]["nodeName"] == node => Ok(()),
            ("" | "deletion", Operation::Delete) => self.refuse(format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            )),
            ("", _) => self.refuse(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                "UPDATE"
            )),
            ("status", _) => self.pod_status(),
            (other, _) => self.refuse(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        }
    }

    fn mirror(&self) -> Result<(), Refusal> {
        let (node, pod) = (self.node, self.new);
        if !pod["metadata"]["annotations"][MIRROR].is_string() {
            return self.refuse(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        let only = |what: &str| {
            self.refuse(format!(
                "node {node:?} can only create pods with {what} set to itself"
            ))
        };
        if pod["spec"]["nodeName"] != node {
            return only("spec.nodeName");
        }
        let owners: Vec<&Value> = each(&pod["metadata"]["ownerReferences"]).collect();
        let [owner] = owners.as_slice() else {
            return only(if owners.is_empty() {
                "an owner reference"
            } else {
                "a single owner reference"
            });
        };
        if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
            return only("an owner reference");
        }
        if owner["controller"] != true {
            return only("a controller owner reference");
        }
        if owner["blockOwnerDeletion"] == true {
            return self.refuse(format!(
                "node {node:?} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let nodes = find("", "v1", "nodes").ok_or_else(Status::not_found_path)?;
        let Some(entry) = self.asked.server.registry.cached(&nodes, "", node) else {
            return Err(Status::not_found(&nodes, node).into());
        };
        let (said, is) = (text(&owner["uid"]), &*entry.index.uid);
        if said != is {
            return self.refuse(format!("node {node} UID mismatch: expected {said} got {is}"));
        }
        match referenced(&pod["spec"]) {
            Some(kind) => self.refuse(format!("node {node:?} can not create pods that reference {kind}")),
            None => Ok(()),
        }
    }

    fn pod_status(&self) -> Result<(), Refusal> {
        let (node, old, new) = (self.node, self.old, self.new);
        if old["spec"]["nodeName"] != node {
            return self.refuse(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        if labels(old) != labels(new) {
            return self.refuse(format!("node {node:?} cannot update labels through pod status"));
        }
        if old["status"]["resourceClaimStatuses"] != new["status"]["resourceClaimStatuses"] {
            return self.refuse(format!("node {node:?} cannot update resource claim statues"));
        }
        if old["status"]["extendedResourceClaimStatus"] != new["status"]["extendedResourceClaimStatus"] {
            return self.refuse(format!(
                "node {node:?} cannot update extended resource claim status"
            ));
        }
        Ok(())
    }

    fn own_node(&self) -> Result<(), Refusal> {
        let (node, old, new) = (self.node, self.old, self.new);
        let name = text(&new["metadata"]["name"]);
        if name != node {
            return self.refuse(format!("node {node:?} is not allowed to modify node {name:?}"));
        }
        match self.asked.subject.operation {
            Operation::Create => {
                let forbidden = forbidden_labels(&Value::Null, new);
                if !forbidden.is_empty() {
                    return self.refuse(format!(
                        "node {node:?} is not allowed to set the following labels: {forbidden}"
                    ));
                }
            }
            Operation::Update => {
                if old["spec"]["taints"] != new["spec"]["taints"] {
                    return self.refuse(format!("node {node:?} is not allowed to modify taints"));
                }
                if old["metadata"]["ownerReferences"] != new["metadata"]["ownerReferences"] {
                    return self.refuse(format!("node {node:?} is not allowed to modify ownerReferences"));
                }
                let forbidden = forbidden_labels(old, new);
                if !forbidden.is_empty() {
                    return self.refuse(format!("is not allowed to modify labels: {forbidden}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn claim(&self) -> Result<(), Refusal> {
        if self.asked.subject.subresource != "status" {
            return self.refuse("may only update PVC status");
        }
        let rest = |claim: &Value| {
            let mut rest = claim.clone();
            for field in [
                "capacity",
                "conditions",
                "allocatedResourceStatuses",
                "allocatedResources",
            ] {
                rest["status"].as_object_mut().map(|status| status.remove(field));
            }
            for field in ["resourceVersion", "managedFields"] {
                rest["metadata"]
                    .as_object_mut()
                    .map(|metadata| metadata.remove(field));
            }
            rest
        };
        if rest(self.old) == rest(self.new) {
            return Ok(());
        }
        self.refuse(format!(
            "node {:?} is not allowed to update fields other than status.quantity and status.conditions",
            self.node
        ))
    }

    fn lease(&self) -> Result<(), Refusal> {
        if self.asked.call.namespace() != "kube-node-lease" {
            return self.refuse("can only access leases in the \"kube-node-lease\" system namespace");
        }
        self.named("can only access node lease with the same name as the requesting node")
    }

    fn named(&self, why: &str) -> Result<(), Refusal> {
        match self.new["metadata"]["name"] == self.node {
            true => Ok(()),
            false => self.refuse(why),
        }
    }

    fn slice(&self) -> Result<(), Refusal> {
        let verb = match self.asked.subject.operation {
            Operation::Create => "create",
            Operation::Delete => "delete",
            _ => return Ok(()),
        };
        match self.new["spec"]["nodeName"] == self.node {
            true => Ok(()),
            false => self.refuse(format!(
                "can only {verb} ResourceSlice with the same NodeName as the requesting node"
            )),
        }
    }

    fn request(&self) -> Result<(), Refusal> {
        let signer = text(&self.new["spec"]["signerName"]);
        let of_kubelets = matches!(
            signer,
            "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
        );
        if self.asked.subject.operation != Operation::Create || !of_kubelets {
            return Ok(());
        }
        let own = format!("system:node:{}", self.node);
        match CertificateSubject::of(self.new) {
            None => self.refuse("unable to parse csr: PEM block type must be CERTIFICATE REQUEST"),
            Some(subject) if subject.common_name == own => Ok(()),
            Some(_) => self.refuse(format!("can only create a node CSR with CN={own}")),
        }
    }
}

fn labels(object: &Value) -> std::collections::BTreeMap<&str, &Value> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.as_str(), value)).collect()
}

/// The labels that differ and are not a node's to change, in order, with commas.
fn forbidden_labels(old: &Value, new: &Value) -> String {
    let (old, new) = (labels(old), labels(new));
    let mut keys: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    keys.retain(|key| old.get(key) != new.get(key) && is_forbidden(key));
    keys.sort_unstable();
    keys.dedup();
    keys.join(", ")
}

fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| {
        domain == parent
            || domain
                .strip_suffix(parent)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    let own = OWN_LABELS.contains(&label) || OWN_DOMAINS.into_iter().any(within);
    kubernetes && !own
}

/// The first kind of object of the API that a pod's spec needs.
fn referenced(spec: &Value) -> Option<&'static str> {
    if !text(&spec["serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    let has = |keys: &[&str]| mentions(spec, keys);
    if each(&spec["imagePullSecrets"]).next().is_some()
        || has(&["secret", "secretKeyRef", "secretRef", "nodePublishSecretRef"])
    {
        return Some("secrets");
    }
    if has(&["configMap", "configMapKeyRef", "configMapRef"]) {
        return Some("configmaps");
    }
    if has(&["serviceAccountToken"]) {
        return Some("serviceaccounts");
    }
    if has(&["persistentVolumeClaim", "ephemeral"]) {
        return Some("persistentvolumeclaims");
    }
    if has(&["clusterTrustBundle"]) {
        return Some("clustertrustbundles");
    }
    each(&spec["resourceClaims"]).next().map(|_| "resourceclaims")
}

fn mentions(value: &Value, keys: &[&str]) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|inner| mentions(inner, keys)),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, inner)| (keys.contains(&key.as_str()) && inner.is_object()) || mentions(inner, keys)),
        _ => false,
    }
}

/// A node's TokenRequest is for a pod that runs on it, and for an audience that the pod asks for.
pub(crate) fn token_request(server: &Server, call: &Call, request: &Value) -> Result<(), Refusal> {
    let Some(node) = call.user.as_node() else {
        return Ok(());
    };
    let refuse = |why: &str| Err(forbidden(call, request, why));
    let spec = &request["spec"];
    let bound = &spec["boundObjectRef"];
    if bound["apiVersion"] != "v1" || bound["kind"] != "Pod" || text(&bound["name"]).is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    let uid = text(&bound["uid"]);
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let pods = find("", "v1", "pods").ok_or_else(Status::not_found_path)?;
    let name = text(&bound["name"]);
    let Some(entry) = server.registry.cached(&pods, call.namespace(), name) else {
        return Err(Status::not_found(&pods, name).into());
    };
    if uid != &*entry.index.uid {
        return refuse(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    let pod = entry.decode();
    if pod["spec"]["nodeName"] != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    let audiences: Vec<&str> = each(&spec["audiences"]).map(text).collect();
    let audience = match audiences.as_slice() {
        [] => "",
        [one] if *one == server.tokens.issuer => "",
        [one] => one,
        _ => return refuse("node may only request 0 or 1 audiences"),
    };
    if asks_for(&pod, audience) || asks_for(&pod, audiences.first().unwrap_or(&"")) {
        return Ok(());
    }
    let question = Attributes {
        verb: "request-serviceaccounts-token-audience".to_owned(),
        resource: audience.to_owned(),
        namespace: call.namespace().to_owned(),
        name: call.name().to_owned(),
        ..Attributes::default()
    };
    if server.decide(&call.user, &question).allowed {
        return Ok(());
    }
    refuse(&format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        call.user.name
    ))
}

/// Whether a volume of the pod projects a token for the audience.
fn asks_for(pod: &Value, audience: &str) -> bool {
    each(&pod["spec"]["volumes"])
        .flat_map(|volume| each(&volume["projected"]["sources"]))
        .any(|source| {
            let token = &source["serviceAccountToken"];
            token.is_object() && text(&token["audience"]) == audience
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_labels_itself_within_bounds() {
        let node = |labels: Value| json!({"metadata": {"labels": labels}});
        let check = |labels: Value, expected: &str| {
            assert_eq!(forbidden_labels(&Value::Null, &node(labels)), expected)
        };
        check(
            json!({"kubernetes.io/hostname": "a", "mine": "b", "example.com/x": "c"}),
            "",
        );
        check(
            json!({"node.kubernetes.io/x": "a", "foo.kubelet.kubernetes.io/y": "b"}),
            "",
        );
        check(
            json!({"node-role.kubernetes.io/master": ""}),
            "node-role.kubernetes.io/master",
        );
        check(
            json!({"node-restriction.kubernetes.io/x": "", "a.k8s.io/b": ""}),
            "a.k8s.io/b, node-restriction.kubernetes.io/x",
        );
        assert_eq!(
            forbidden_labels(
                &node(json!({"x.k8s.io/a": "1"})),
                &node(json!({"x.k8s.io/a": "1"}))
            ),
            ""
        );
    }
}
