//! Owner references: who controls an object, and which objects a controller may claim.
//!
//! The rule of the original's `ControllerRefManager`: an object that the selector matches and that nobody
//! controls is adopted; one that we control and that matches no longer is released; others are left alone.
//! Pure. Called by Deployment, ReplicaSet and the other workload controllers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::core::{Selector, SelectorExt};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

/// The reference to the controller of an object.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .as_ref()?
        .iter()
        .find(|owner| owner.controller == Some(true))
}

/// Whether `uid` controls the object.
pub(crate) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// A reference that makes `owner` the controller of what carries it.
pub(crate) fn reference<K: Resource<DynamicType = ()> + ResourceExt>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What to do about one object that a controller might own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is ours.
    Owned,
    /// It should become ours.
    Adopt,
    /// It is ours and should not be.
    Release,
    /// It is not our business.
    Ignore,
}

/// Decides for one object. `owner_deleting`: an owner that is going away adopts nothing.
pub(crate) fn claim(uid: &str, owner_deleting: bool, selector: &Selector, object: &ObjectMeta) -> Claim {
    let empty = Default::default();
    let matches = selector.matches(object.labels.as_ref().unwrap_or(&empty));
    let deleting = object.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(owner) if owner.uid != uid => Claim::Ignore,
        Some(_) if matches => Claim::Owned,
        Some(_) if owner_deleting || deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if matches && !owner_deleting && !deleting => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// The merge patch that adopts `object`; a stale view of it is refused by its uid.
pub(crate) fn adopt_patch(object: &ObjectMeta, owner: OwnerReference) -> Value {
    let mut owners = object.owner_references.clone().unwrap_or_default();
    owners.push(owner);
    owners_patch(object, &owners)
}

/// The merge patch that drops the owners with these uids.
pub(crate) fn release_patch(object: &ObjectMeta, uids: &[&str]) -> Value {
    let mut owners = object.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| !uids.contains(&owner.uid.as_str()));
    owners_patch(object, &owners)
}

/// The merge patch that sets the owners, conditional on the version that was seen.
pub(crate) fn owners_patch(object: &ObjectMeta, owners: &[OwnerReference]) -> Value {
    json!({ "metadata": {
        "uid": object.uid,
        "resourceVersion": object.resource_version,
        "ownerReferences": if owners.is_empty() { Value::Null } else { json!(owners) },
    }})
}

/// A kind's selector; one that is empty or makes no sense matches nothing, as the original has it.
pub(crate) fn selector(selector: &LabelSelector) -> Option<Selector> {
    let empty = selector
        .match_labels
        .as_ref()
        .is_none_or(|labels| labels.is_empty())
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(|expressions| expressions.is_empty());
    if empty {
        None
    } else {
        Selector::try_from(selector.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims() {
        let selector: Selector = [("app", "web")].into_iter().collect();
        let object = |app: &str, owner: Option<&str>, deleting: bool| ObjectMeta {
            labels: Some([("app".to_owned(), app.to_owned())].into()),
            owner_references: owner.map(|uid| {
                vec![OwnerReference {
                    uid: uid.into(),
                    controller: Some(true),
                    ..Default::default()
                }]
            }),
            deletion_timestamp: deleting.then_some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::UNIX_EPOCH,
            )),
            ..Default::default()
        };
        let cases = [
            ("web", Some("us"), false, false, Claim::Owned),
            ("web", Some("us"), true, false, Claim::Owned),
            ("web", None, false, false, Claim::Adopt),
            ("web", None, true, false, Claim::Ignore),
            ("web", None, false, true, Claim::Ignore),
            ("web", Some("other"), false, false, Claim::Ignore),
            ("db", Some("us"), false, false, Claim::Release),
            ("db", Some("us"), true, false, Claim::Ignore),
            ("db", None, false, false, Claim::Ignore),
        ];
        for (app, owner, deleting, owner_deleting, want) in cases {
            let got = claim("us", owner_deleting, &selector, &object(app, owner, deleting));
            assert_eq!(
                got, want,
                "{app} {owner:?} deleting={deleting} owner_deleting={owner_deleting}"
            );
        }
    }
}
