//! The templates that a StatefulSet had, as ControllerRevisions: which is the present one, and which may go. Pure.
//!
//! Invariant: a revision's data never changes; going back to an old template takes its revision up again.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::deployment::template::hash;
use crate::owner::reference;

/// What has to be written for the present template.
#[derive(Debug, PartialEq)]
pub(crate) enum Present {
    /// It is the newest already.
    Is(Arc<ControllerRevision>),
    /// It was there before: number it anew.
    Renumber(Box<ControllerRevision>),
    Create(Box<ControllerRevision>),
}

/// The form in which `kubectl rollout undo` takes it: a strategic patch that replaces the template.
fn data(template: &PodTemplateSpec) -> Value {
    // A template is a plain document: writing it as JSON cannot fail.
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template in a revision.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let template = revision.data.as_ref()?.0.get("spec")?.get("template")?;
    serde_json::from_value(template.clone()).ok()
}

/// Finds or makes the revision of the set's template among those that it has.
pub(crate) fn present(set: &StatefulSet, revisions: &[Arc<ControllerRevision>]) -> Present {
    let template = set
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    let newest = revisions
        .iter()
        .map(|revision| revision.revision)
        .max()
        .unwrap_or(0);
    let same = revisions
        .iter()
        .filter(|revision| template_of(revision).as_ref() == Some(&template))
        .max_by_key(|revision| revision.revision);
    match same {
        Some(same) if same.revision == newest => Present::Is(Arc::clone(same)),
        Some(same) => {
            let mut renumbered = same.as_ref().clone();
            renumbered.revision = newest + 1;
            Present::Renumber(Box::new(renumbered))
        }
        None => Present::Create(Box::new(make(set, &template, newest + 1))),
    }
}

fn make(set: &StatefulSet, template: &PodTemplateSpec, number: i64) -> ControllerRevision {
    let collisions = set
        .status
        .as_ref()
        .and_then(|status| status.collision_count)
        .unwrap_or(0);
    let name = format!("{}-{}", set.name_any(), hash(template, collisions));
    let selector = set
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.match_labels.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: set.namespace(),
            labels: selector,
            owner_references: Some(vec![reference(set)]),
            ..Default::default()
        },
        data: Some(RawExtension(data(template))),
        revision: number,
    }
}

/// Revisions beyond the limit that nothing is of any more, oldest first.
pub(crate) fn surplus(
    revisions: &[Arc<ControllerRevision>],
    live: &HashSet<String>,
    limit: usize,
) -> Vec<Arc<ControllerRevision>> {
    let mut old: Vec<_> = revisions
        .iter()
        .filter(|revision| !live.contains(&revision.name_any()))
        .cloned()
        .collect();
    old.sort_by_key(|revision| revision.revision);
    let surplus = old.len().saturating_sub(limit);
    old.truncate(surplus);
    old
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::from_value;

    #[test]
    fn a_template_that_comes_back_is_not_new() {
        let set = |image: &str| -> StatefulSet {
            from_value(
                json!({"metadata": {"name": "db", "uid": "u"}, "spec": {"selector": {},
                "template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}),
            )
            .unwrap()
        };
        let mut revisions = Vec::new();
        for (number, image) in [(1, "a"), (2, "b")] {
            let Present::Create(made) = present(&set(image), &revisions) else {
                panic!("{image} is new")
            };
            assert_eq!(
                (made.revision, template_of(&made)),
                (number, Some(set(image).spec.unwrap().template))
            );
            revisions.push(Arc::new(*made));
        }
        assert_eq!(
            present(&set("b"), &revisions),
            Present::Is(Arc::clone(&revisions[1]))
        );
        let Present::Renumber(again) = present(&set("a"), &revisions) else {
            panic!("it was there")
        };
        assert_eq!((again.revision, again.name_any()), (3, revisions[0].name_any()));
        let live = HashSet::from([revisions[1].name_any()]);
        assert_eq!(surplus(&revisions, &live, 1), []);
        assert_eq!(surplus(&revisions, &live, 0), [Arc::clone(&revisions[0])]);
    }
}
