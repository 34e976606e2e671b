//! What a pod may learn of itself: `fieldRef` and `resourceFieldRef`, in environment and volumes. Pure.

use std::collections::BTreeMap;

use capstan_kinds::quantity::Quantity;
use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};

use super::spec;

/// What is known of the pod beside its object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) node_name: String,
    pub(crate) host_ip: String,
    pub(crate) pod_ip: String,
    /// The node's allocatable amounts, for limits that are not set.
    pub(crate) allocatable: BTreeMap<String, String>,
}

/// A field of the pod by its path.
pub(crate) fn field(pod: &Pod, facts: &Facts, path: &str) -> Result<String, String> {
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(unknown(path)),
        };
        return Ok(values
            .as_ref()
            .and_then(|values| values.get(key))
            .cloned()
            .unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => spec::name(pod).to_owned(),
        "metadata.namespace" => spec::namespace(pod).to_owned(),
        "metadata.uid" => spec::uid(pod).to_owned(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => spec::spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" | "status.podIPs" => facts.pod_ip.clone(),
        _ => return Err(unknown(path)),
    })
}

fn unknown(path: &str) -> String {
    format!(
        "unsupported fieldPath {path:?}: use metadata.name, .namespace, .uid, .labels['KEY'], .annotations['KEY'], \
         spec.nodeName, spec.serviceAccountName, status.hostIP or status.podIP"
    )
}

/// `metadata.labels['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

/// A container's request or limit, in the selector's divisor, rounded up.
pub(crate) fn resource(
    pod: &Pod,
    facts: &Facts,
    selector: &ResourceFieldSelector,
    own_container: Option<&str>,
) -> Result<String, String> {
    let name = selector
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty())
        .or(own_container);
    let container = name
        .and_then(|name| spec::any_container(pod, name))
        .ok_or_else(|| {
            format!(
                "resourceFieldRef: no container named {:?}",
                name.unwrap_or_default()
            )
        })?;
    let (list, resource) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| unsupported(&selector.resource))?;
    let resources = container.resources.as_ref();
    let limit = resources
        .and_then(|r| r.limits.as_ref())
        .and_then(|map| map.get(resource));
    let amount = match list {
        "limits" => limit
            .map(|quantity| quantity.0.clone())
            .or_else(|| facts.allocatable.get(resource).cloned()),
        "requests" => {
            let request = resources
                .and_then(|r| r.requests.as_ref())
                .and_then(|map| map.get(resource));
            request.or(limit).map(|quantity| quantity.0.clone())
        }
        _ => return Err(unsupported(&selector.resource)),
    };
    let parse = |text: &str| {
        text.parse::<Quantity>()
            .map_err(|error| format!("quantity {text:?}: {error}"))
    };
    let amount = parse(amount.as_deref().unwrap_or("0"))?;
    let divisor = selector
        .divisor
        .as_ref()
        .map(|quantity| quantity.0.as_str())
        .filter(|text| !matches!(*text, "" | "0"));
    let divisor = parse(divisor.unwrap_or("1"))?;
    let (amount, divisor) = (
        i128::from(amount.milli_value()),
        i128::from(divisor.milli_value()),
    );
    if divisor <= 0 {
        return Err("resourceFieldRef: the divisor must be positive".into());
    }
    Ok(((amount + divisor - 1) / divisor).to_string())
}

fn unsupported(resource: &str) -> String {
    format!("unsupported resource {resource:?}: use limits.NAME or requests.NAME")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "uid": "u", "labels": { "app/x": "a", "b": "q\"" } },
            "spec": { "containers": [{ "name": "c", "resources": {
                "limits": { "cpu": "1500m", "memory": "64Mi" }, "requests": { "cpu": "250m" } } }] }
        }))
        .unwrap()
    }

    #[test]
    fn fields_by_path() {
        let facts = Facts {
            pod_ip: "10.1.1.1".into(),
            ..Default::default()
        };
        for (path, expected) in [
            ("metadata.labels['app/x']", "a"),
            ("metadata.labels", "app/x=\"a\"\nb=\"q\\\"\""),
            ("metadata.annotations['none']", ""),
            ("status.podIP", "10.1.1.1"),
        ] {
            assert_eq!(field(&pod(), &facts, path).as_deref(), Ok(expected), "{path}");
        }
        assert!(
            field(&pod(), &facts, "spec.oops")
                .unwrap_err()
                .contains("spec.oops")
        );
    }

    #[test]
    fn resources_round_up_and_fall_back() {
        let facts = Facts {
            allocatable: [("ephemeral-storage".to_owned(), "10Gi".to_owned())].into(),
            ..Default::default()
        };
        for (resource_name, divisor, expected) in [
            ("limits.cpu", "1", "2"),
            ("limits.cpu", "1m", "1500"),
            ("requests.memory", "1Mi", "64"),
            ("limits.ephemeral-storage", "1Gi", "10"),
        ] {
            let selector = ResourceFieldSelector {
                resource: resource_name.into(),
                divisor: Some(k8s_openapi::apimachinery::pkg::api::resource::Quantity(
                    divisor.into(),
                )),
                container_name: None,
            };
            assert_eq!(
                resource(&pod(), &facts, &selector, Some("c")).as_deref(),
                Ok(expected),
                "{resource_name}"
            );
        }
    }
}
