//! The identity of a pod template: equality and hash. Pure.
//!
//! Invariant: the hash names a ReplicaSet but does not decide which one is current; equality does, so that a
//! change of the hash never rolls anything out.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use sha2::{Digest, Sha256};

/// The label that keeps the pods of a Deployment's ReplicaSets apart.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// The original's alphabet without vowels and look-alikes.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

const HASH_LENGTH: usize = 10;

/// Names a template; `collisions` counts names that were taken by others.
pub(crate) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let mut digest = Sha256::new();
    // A template is a plain document: writing it as JSON cannot fail, and empty would still be a valid name.
    digest.update(serde_json::to_vec(template).unwrap_or_default());
    digest.update(collisions.to_le_bytes());
    let bytes = digest.finalize();
    bytes
        .iter()
        .take(HASH_LENGTH)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// Whether the ReplicaSet makes pods of just this template.
pub(crate) fn is_of(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(of_set) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else {
        return false;
    };
    plain(of_set) == plain(template)
}

/// The template without the hash label and without the difference between empty and absent maps.
fn plain(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_with(Default::default);
    meta.creation_timestamp = None;
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    for map in [&mut meta.labels, &mut meta.annotations] {
        if map.as_ref().is_some_and(|map| map.is_empty()) {
            *map = None;
        }
    }
    template
}
