//! The pod and the volume claims behind one number of a StatefulSet. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use kube::ResourceExt;

use super::plan::REVISION_LABEL;
use crate::owner::reference;

fn claims(set: &StatefulSet) -> impl Iterator<Item = &PersistentVolumeClaim> {
    let spec = set.spec.iter();
    spec.flat_map(|spec| spec.volume_claim_templates.iter().flatten())
}

fn claim_name(set: &StatefulSet, claim: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", claim.name_any(), set.name_any())
}

/// The pod with this number, of this template.
pub(super) fn pod_of(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let name = format!("{}-{ordinal}", set.name_any());
    let mut pod = crate::pod::from_template(template, &set.name_any(), reference(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    for (key, value) in [
        ("statefulset.kubernetes.io/pod-name", name.clone()),
        ("apps.kubernetes.io/pod-index", ordinal.to_string()),
        (REVISION_LABEL, revision.to_owned()),
    ] {
        labels.insert(key.to_owned(), value);
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set
        .spec
        .as_ref()
        .and_then(|spec| spec.service_name.clone())
        .filter(|service| !service.is_empty());
    for claim in claims(set) {
        let volumes = spec.volumes.get_or_insert_default();
        volumes.retain(|volume| volume.name != claim.name_any());
        let source = PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, claim, ordinal),
            read_only: None,
        };
        volumes.push(Volume {
            name: claim.name_any(),
            persistent_volume_claim: Some(source),
            ..Default::default()
        });
    }
    pod
}

/// The claims that this pod is to find; they outlive the set unless it says otherwise.
pub(super) fn claims_of(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let spec = set.spec.clone().unwrap_or_default();
    let policy = spec.persistent_volume_claim_retention_policy.unwrap_or_default();
    let goes_with_set = policy.when_deleted.as_deref() == Some("Delete");
    claims(set)
        .map(|template| {
            let mut claim = template.clone();
            claim.metadata.name = Some(claim_name(set, template, ordinal));
            claim.metadata.namespace = set.namespace();
            claim.status = None;
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
            if goes_with_set {
                let mut owner = reference(set);
                owner.controller = None;
                claim.metadata.owner_references = Some(vec![owner]);
            }
            claim
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn names_and_volumes_are_stable() {
        let set: StatefulSet = from_value(json!({"metadata": {"name": "db", "namespace": "a", "uid": "u"}, "spec": {
            "serviceName": "peers", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [],
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
        }}))
        .unwrap();
        let pod = pod_of(&set, &set.spec.as_ref().unwrap().template, "db-x", 2);
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(
            (
                pod.name_any().as_str(),
                spec.hostname.as_deref(),
                spec.subdomain.as_deref()
            ),
            ("db-2", Some("db-2"), Some("peers"))
        );
        assert_eq!(
            (
                pod.labels()[REVISION_LABEL].as_str(),
                pod.labels()["apps.kubernetes.io/pod-index"].as_str()
            ),
            ("db-x", "2")
        );
        let volumes = serde_json::to_value(&spec.volumes).unwrap();
        assert_eq!(
            volumes,
            json!([{"name": "tmp", "emptyDir": {}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-2"}}])
        );
        let claim = &claims_of(&set, 2)[0];
        assert_eq!(
            (claim.name_any().as_str(), claim.labels()["app"].as_str()),
            ("data-db-2", "db")
        );
        assert!(claim.metadata.owner_references.is_none());
    }
}
