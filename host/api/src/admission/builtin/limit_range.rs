//! LimitRanger: the defaults and bounds that a namespace's LimitRanges set for its containers, pods and claims.

use capstan_kinds::pod_resources::{Amounts, amounts, limits_of, requests_of};
use capstan_kinds::quantity::Quantity;
use capstan_kinds::resource::find;
use capstan_points::admission::Operation;
use serde_json::{Value, json};

use super::{Asked, each, text};
use crate::refusal::Refusal;

/// Says on the pod what was set.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn ranges(asked: &Asked<'_>) -> Vec<Value> {
    let Some(resource) = find("", "v1", "limitranges") else {
        return Vec::new();
    };
    let below = format!("{}/", asked.call.namespace());
    let (_, all) = asked.server.registry.cache(&resource).list(&below);
    all.into_iter().map(|(_, entry)| entry.decode()).collect()
}

fn of_type<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    each(&range["spec"]["limits"]).filter(move |limit| limit["type"] == kind)
}

/// Gives a new pod's containers the defaults.
pub(super) fn default(asked: &Asked<'_>, pod: &mut Value) {
    let resize = asked.is("", "pods", Operation::Update, "resize");
    if !asked.creates("", "pods") && !resize {
        return;
    }
    for range in ranges(asked) {
        let mut set = Vec::new();
        for (field, shown) in [("containers", "container"), ("initContainers", "init container")] {
            let list = pod["spec"].get_mut(field).and_then(Value::as_array_mut);
            for container in list.into_iter().flatten() {
                let name = text(&container["name"]).to_owned();
                for (part, word, from) in [
                    ("requests", "request", "defaultRequest"),
                    ("limits", "limit", "default"),
                ] {
                    let added = fill(container, part, &range, from);
                    if !added.is_empty() {
                        set.push(format!("{} {word} for {shown} {name}", added.join(", ")));
                    }
                }
            }
        }
        if !set.is_empty() {
            let said = format!("LimitRanger plugin set: {}", set.join("; "));
            pod["metadata"]["annotations"][ANNOTATION] = json!(said);
        }
    }
}

/// Sets what a container does not state; says what.
fn fill(container: &mut Value, part: &str, range: &Value, from: &str) -> Vec<String> {
    let mut added = Vec::new();
    for limit in of_type(range, "Container") {
        for (name, amount) in limit[from].as_object().into_iter().flatten() {
            if container["resources"][part][name].is_null() || added.contains(name) {
                container["resources"][part][name] = amount.clone();
                if !added.contains(name) {
                    added.push(name.clone());
                }
            }
        }
    }
    if container["resources"][part].is_null() {
        container["resources"]
            .as_object_mut()
            .map(|resources| resources.remove(part));
    }
    added.sort();
    added
}

pub(super) fn validate(asked: &Asked<'_>, object: &Value) -> Result<(), Refusal> {
    let pod = asked.creates("", "pods") || asked.is("", "pods", Operation::Update, "resize");
    let plural = "persistentvolumeclaims";
    let claim = asked.creates("", plural) || asked.updates("", plural);
    if !pod && !claim {
        return Ok(());
    }
    let old = asked.subject.old.as_deref();
    if old.is_some_and(|old| old["metadata"]["deletionTimestamp"].is_string()) {
        return Ok(());
    }
    for range in ranges(asked) {
        let errors = if pod {
            pod_errors(&range, object)
        } else {
            claim_errors(&range, object)
        };
        match errors.as_slice() {
            [] => {}
            [one] => return Err(asked.forbid(object, one)),
            many => return Err(asked.forbid(object, &format!("[{}]", many.join(", ")))),
        }
    }
    Ok(())
}

fn pod_errors(range: &Value, pod: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in each(&range["spec"]["limits"]) {
        match text(&limit["type"]) {
            "Container" => {
                let spec = &pod["spec"];
                for container in each(&spec["containers"]).chain(each(&spec["initContainers"])) {
                    let resources = &container["resources"];
                    let (requests, limits) = (amounts(&resources["requests"]), amounts(&resources["limits"]));
                    check("Container", limit, &requests, &limits, &mut errors);
                }
            }
            "Pod" => check("Pod", limit, &requests_of(pod), &limits_of(pod), &mut errors),
            _ => {}
        }
    }
    distinct(errors)
}

/// As the original's lists of errors do: each text once.
fn distinct(errors: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    errors
        .into_iter()
        .filter(|error| seen.insert(error.clone()))
        .collect()
}

fn check(kind: &str, limit: &Value, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    for (name, least) in &amounts(&limit["min"]) {
        let base = format!("minimum {name} usage per {kind} is {least}");
        match (requests.get(name), limits.get(name)) {
            (None, _) => errors.push(format!("{base}.  No request is specified")),
            (Some(request), _) if request < least => errors.push(format!("{base}, but request is {request}")),
            (_, Some(own)) if own < least => errors.push(format!("{base}, but limit is {own}")),
            _ => {}
        }
    }
    for (name, most) in &amounts(&limit["max"]) {
        let base = format!("maximum {name} usage per {kind} is {most}");
        match (requests.get(name), limits.get(name)) {
            (_, None) => errors.push(format!("{base}.  No limit is specified")),
            (_, Some(own)) if own > most => errors.push(format!("{base}, but limit is {own}")),
            (Some(request), _) if request > most => errors.push(format!("{base}, but request is {request}")),
            _ => {}
        }
    }
    for (name, most) in &amounts(&limit["maxLimitRequestRatio"]) {
        let base = format!("{name} max limit to request ratio per {kind} is {most}");
        match (requests.get(name), limits.get(name)) {
            (None, _) => errors.push(format!("{base}, but no request is specified or request is 0")),
            (Some(request), _) if request.is_zero() => {
                errors.push(format!("{base}, but no request is specified or request is 0"));
            }
            (_, None) => errors.push(format!("{base}, but no limit is specified or limit is 0")),
            (_, Some(own)) if own.is_zero() => {
                errors.push(format!("{base}, but no limit is specified or limit is 0"));
            }
            (Some(request), Some(own)) => {
                let ratio = own.milli_value() as f64 / request.milli_value() as f64;
                if ratio * 1000.0 > most.milli_value() as f64 {
                    errors.push(format!("{base}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

fn claim_errors(range: &Value, claim: &Value) -> Vec<String> {
    let kind = "PersistentVolumeClaim";
    let asked: Amounts = amounts(&claim["spec"]["resources"]["requests"]);
    let mut errors = Vec::new();
    for limit in of_type(range, kind) {
        let mut bound = |word: &str, bounds: &Value, broken: fn(&Quantity, &Quantity) -> bool| {
            for (name, bound) in &amounts(bounds) {
                let base = format!("{word} {name} usage per {kind} is {bound}");
                match asked.get(name) {
                    None => errors.push(format!("{base}.  No request is specified")),
                    Some(request) if broken(request, bound) => {
                        errors.push(format!("{base}, but request is {request}"));
                    }
                    Some(_) => {}
                }
            }
        };
        bound("minimum", &limit["min"], |request, least| request < least);
        bound("maximum", &limit["max"], |request, most| request > most);
    }
    distinct(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_told_in_the_originals_words() {
        let range = json!({"spec": {"limits": [{"type": "Container",
            "max": {"cpu": "500m"}, "min": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": "2"}}]}});
        let check = |request: Value, limit: Value, expected: &str| {
            let pod = json!({"spec": {"containers": [{"name": "a", "resources": {"requests": request, "limits": limit}}]}});
            assert_eq!(pod_errors(&range, &pod).join("|"), expected);
        };
        check(json!({"cpu": "300m"}), json!({"cpu": "500m"}), "");
        check(
            json!({"cpu": "50m"}),
            json!({"cpu": "100m"}),
            "minimum cpu usage per Container is 100m, but request is 50m",
        );
        check(
            json!({"cpu": "300m"}),
            json!({"cpu": "600m"}),
            "maximum cpu usage per Container is 500m, but limit is 600m",
        );
        check(
            json!({"cpu": "100m"}),
            json!({"cpu": "400m"}),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
        );
        check(
            Value::Null,
            Value::Null,
            "minimum cpu usage per Container is 100m.  No request is specified|maximum cpu usage per Container is 500m.  No limit is specified|cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        );
        let claims =
            json!({"spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}});
        let claim = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        let said = "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi";
        assert_eq!(claim_errors(&claims, &claim), [said]);
    }
}
