//! What a pod asks for and is limited to, as a whole: its containers together, or its largest init container
//! where that is more; what the pod says for itself goes before. Pure; quotas and limit ranges ask it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::Quantity;

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// A list of amounts as it stands in a document; what cannot be read is left out.
pub fn amounts(list: &Value) -> Amounts {
    let pairs = list.as_object().into_iter().flatten();
    pairs
        .filter_map(|(name, amount)| {
            let written = match amount {
                Value::Number(number) => number.to_string(),
                other => text(other).to_owned(),
            };
            Some((name.clone(), written.parse().ok()?))
        })
        .collect()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The pod's requests.
pub fn requests_of(pod: &Value) -> Amounts {
    total(&pod["spec"], "requests")
}

/// The pod's limits.
pub fn limits_of(pod: &Value) -> Amounts {
    total(&pod["spec"], "limits")
}

fn total(spec: &Value, field: &str) -> Amounts {
    let mut sum = Amounts::new();
    for container in each(&spec["containers"]) {
        add(&mut sum, &amounts(&container["resources"][field]));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in each(&spec["initContainers"]) {
        let own = amounts(&container["resources"][field]);
        if container["restartPolicy"] == "Always" {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut starting, &sidecars);
        } else {
            let mut beside = own;
            add(&mut beside, &sidecars);
            raise(&mut starting, &beside);
        }
    }
    raise(&mut sum, &starting);
    for (name, amount) in amounts(&spec["resources"][field]) {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            sum.insert(name, amount);
        }
    }
    sum
}

/// Adds amounts.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match sum.get_mut(name) {
            Some(known) => known.add(amount),
            None => {
                sum.insert(name.clone(), *amount);
            }
        }
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        match most.get_mut(name) {
            Some(known) if *known >= *amount => {}
            _ => {
                most.insert(name.clone(), *amount);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn init_containers_count_where_they_are_more() {
        let with = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = with("100m");
        sidecar["restartPolicy"] = json!("Always");
        let pod = json!({"spec": {
            "containers": [with("200m"), with("300m")],
            "initContainers": [sidecar, with("2")],
        }});
        assert_eq!(requests_of(&pod)["cpu"].to_string(), "2100m");
        let own = json!({"spec": {"containers": [with("200m")], "resources": {"requests": {"cpu": "1"}}}});
        assert_eq!(requests_of(&own)["cpu"].to_string(), "1");
    }
}
