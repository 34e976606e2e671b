//! Pods' ephemeral containers and resources: what a write to the subresource of each may change. Which changes are
//! refused is in `validate`.
//!
//! Invariant: nothing but its own part of the spec comes from such a write; all else stays as it was. Called by
//! the API server in place of [`crate::strategy::prepare_update`].

use serde_json::{Value, json};

/// Metadata that the server alone writes through these subresources.
const KEPT_METADATA: [&str; 6] = [
    "generation",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "generateName",
];

fn list<'a>(spec: &'a Value, name: &str) -> &'a [Value] {
    spec[name].as_array().map_or(&[], Vec::as_slice)
}

/// Takes what is asked for from a write, of what the subresource is for, and counts a change.
pub fn prepare(subresource: &str, new: &mut Value, old: &Value) {
    let sent = new["spec"].take();
    let mut spec = old["spec"].clone();
    if subresource == "ephemeralcontainers" {
        match sent.get("ephemeralContainers") {
            Some(all) => spec["ephemeralContainers"] = all.clone(),
            None => drop(
                spec.as_object_mut()
                    .map(|spec| spec.remove("ephemeralContainers")),
            ),
        }
    } else if !resize(&mut spec, &sent) {
        // Containers of another number, order or name: refused, as they are.
        spec = sent;
    }
    if spec != old["spec"] {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    } else {
        new["metadata"]["generation"] = old["metadata"]["generation"].clone();
    }
    new["spec"] = spec;
    new["status"] = old["status"].clone();
    for field in &KEPT_METADATA[1..] {
        match old["metadata"].get(*field) {
            Some(value) => new["metadata"][*field] = value.clone(),
            None => drop(
                new["metadata"]
                    .as_object_mut()
                    .map(|metadata| metadata.remove(*field)),
            ),
        }
    }
}

/// Takes the resources of each container; false where the containers are not the same.
fn resize(spec: &mut Value, sent: &Value) -> bool {
    for name in ["containers", "initContainers"] {
        let (own, theirs) = (list(spec, name), list(sent, name));
        let names = |list: &[Value]| list.iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
        if names(own) != names(theirs) {
            return false;
        }
    }
    for name in ["containers", "initContainers"] {
        let own = spec
            .get_mut(name)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for (container, sent) in own.zip(list(sent, name)) {
            for field in ["resources", "resizePolicy"] {
                match sent.get(field) {
                    Some(value) => container[field] = value.clone(),
                    None => drop(container.as_object_mut().map(|container| container.remove(field))),
                }
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({ "metadata": { "name": "p", "generation": 1, "labels": { "a": "b" } }, "status": { "qosClass": "Burstable" },
            "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "i",
                "resources": { "requests": { "cpu": "1" }, "limits": { "memory": "1Gi" } } }] } })
    }

    #[test]
    fn only_its_part_is_taken() {
        let (old, mut new) = (pod(), pod());
        new["spec"]["nodeName"] = json!("other");
        new["metadata"]["labels"] = json!({});
        new["spec"]["ephemeralContainers"] = json!([{ "name": "e", "image": "i" }]);
        prepare("ephemeralcontainers", &mut new, &old);
        assert_eq!(
            (
                new["spec"]["nodeName"].as_str(),
                new["metadata"]["generation"].as_i64()
            ),
            (Some("n"), Some(2))
        );
        assert_eq!(new["metadata"]["labels"], json!({ "a": "b" }));
        assert_eq!(new["spec"]["ephemeralContainers"][0]["name"], "e");
    }

    #[test]
    fn resources_change_and_nothing_else() {
        let (old, mut new) = (pod(), pod());
        new["spec"]["containers"][0]["image"] = json!("other");
        new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("2");
        prepare("resize", &mut new, &old);
        assert_eq!(new["spec"]["containers"][0]["image"], "i");
        assert_eq!(new["metadata"]["generation"], 2);
        assert_eq!(new["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    }
}
