//! DefaultStorageClass and DefaultIngressClass: who names no class gets the default one, the newest of several.

use capstan_kinds::resource::find;
use capstan_points::admission::Operation;
use serde_json::{Value, json};

use super::{Asked, text};

pub(super) fn storage(asked: &Asked<'_>, claim: &mut Value) {
    if !asked.creates("", "persistentvolumeclaims") {
        return;
    }
    let annotation = &claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    if annotation.is_string() || claim["spec"]["storageClassName"].is_string() {
        return;
    }
    let marks = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    if let Some(name) = newest_default(asked, "storage.k8s.io", "storageclasses", &marks) {
        claim["spec"]["storageClassName"] = json!(name);
    }
}

pub(super) fn ingress(asked: &Asked<'_>, ingress: &mut Value) {
    let (group, plural) = ("networking.k8s.io", "ingresses");
    if !asked.is(group, plural, Operation::Create, "") {
        return;
    }
    let annotation = &ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"];
    if ingress["spec"]["ingressClassName"].is_string() || annotation.is_string() {
        return;
    }
    let marks = ["ingressclass.kubernetes.io/is-default-class"];
    if let Some(name) = newest_default(asked, group, "ingressclasses", &marks) {
        ingress["spec"]["ingressClassName"] = json!(name);
    }
}

fn newest_default(asked: &Asked<'_>, group: &str, plural: &str, marks: &[&str]) -> Option<String> {
    let resource = find(group, "v1", plural)?;
    let (_, all) = asked.server.registry.cache(&resource).list("");
    let mut defaults: Vec<(String, String)> = all
        .into_iter()
        .map(|(_, entry)| entry.decode())
        .filter(|class| {
            marks
                .iter()
                .any(|mark| class["metadata"]["annotations"][mark] == "true")
        })
        .map(|class| {
            let metadata = &class["metadata"];
            (
                text(&metadata["creationTimestamp"]).to_owned(),
                text(&metadata["name"]).to_owned(),
            )
        })
        .collect();
    // The newest first, and of those of one second the first by name.
    defaults.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    defaults.into_iter().next().map(|(_, name)| name)
}
