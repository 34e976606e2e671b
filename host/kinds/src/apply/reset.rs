//! Which fields a write may set at all: what the server itself puts back or ignores is owned by nobody who
//! writes it. As the original's reset fields, kind by kind and subresource by subresource.

use super::element::Element;
use super::set::{Node, Set};
use crate::resource::Resource;

/// Kinds whose status subresource takes nothing of metadata.
const STATUS_ALONE: [(&str, &str); 10] = [
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("apiregistration.k8s.io", "APIService"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("resource.k8s.io", "DeviceTaintRule"),
    ("resource.k8s.io", "ResourceClaim"),
    ("resource.k8s.io", "ResourcePoolStatusRequest"),
    ("scheduling.k8s.io", "PodGroup"),
    ("storage.k8s.io", "VolumeAttachment"),
];

/// What a write through a subresource (empty: the object itself) may own.
#[derive(Debug, Clone)]
pub enum Reset {
    /// Everything but these paths and what is below.
    But(Set),
    /// Only what is at or below these paths; `None` steps over any list item.
    Only(Vec<Vec<Option<&'static str>>>),
}

impl Reset {
    /// Of a kind's subresource.
    pub fn of(resource: &Resource, subresource: &str) -> Self {
        let custom = resource.custom.is_some();
        let but = |paths: &[&[&str]]| Reset::But(Set::of_fields(paths));
        let is = |group: &str, kind: &str| resource.is(group, kind);
        match subresource {
            "" if is("certificates.k8s.io", "CertificateSigningRequest") => but(&[&["spec"], &["status"]]),
            "" if resource.has_status() => but(&[&["status"]]),
            "approval" => but(&[&["spec"], &["status", "certificate"]]),
            "finalize" => but(&[&["status"]]),
            "status" if is("certificates.k8s.io", "CertificateSigningRequest") => {
                but(&[&["spec"], &["status", "conditions"]])
            }
            "status" if is("apps", "Deployment") => but(&[&["spec"], &["metadata", "labels"]]),
            "status" if is("", "Pod") => but(&[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ]),
            "status" if custom || STATUS_ALONE.iter().any(|(group, kind)| is(group, kind)) => {
                but(&[&["metadata"], &["spec"]])
            }
            "status" => but(&[&["spec"]]),
            "ephemeralcontainers" => Reset::Only(vec![vec![Some("spec"), Some("ephemeralContainers")]]),
            "resize" => {
                let of = |list, field| vec![Some("spec"), Some(list), None, Some(field)];
                let lists = ["containers", "initContainers"];
                let paths = lists.map(|list| [of(list, "resources"), of(list, "resizePolicy")]);
                Reset::Only(paths.concat())
            }
            _ => but(&[]),
        }
    }

    /// What of a set passes.
    pub fn pass(&self, set: Set) -> Set {
        match self {
            Reset::But(paths) if paths.is_empty() => set,
            Reset::But(paths) => set.recursive_difference(paths),
            Reset::Only(paths) => {
                let mut kept = Set::default();
                for path in paths {
                    kept.union(&only(&set, path));
                }
                kept
            }
        }
    }
}

fn only(set: &Set, path: &[Option<&str>]) -> Set {
    let Some((step, rest)) = path.split_first() else {
        return set.clone();
    };
    let mut kept = Set::default();
    for (element, node) in set.iter() {
        let matches = match (step, element) {
            (None, _) => true,
            (Some(name), Element::Field(own)) => **own == **name,
            _ => false,
        };
        if matches {
            let node = Node {
                member: node.member,
                below: only(&node.below, rest),
            };
            kept.put(element.clone(), node);
        }
    }
    kept
}
