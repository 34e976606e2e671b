//! Rules of the status that a kubelet reports about a pod.
//! Invariants: what ended does not go on; a pod's class and node are not changed by its status.

use super::change;
use crate::name;
use crate::validate::address;
use crate::validate::at::At;

pub(in crate::validate) fn update(new: &At, old: &At) {
    change::annotations(&new.at("metadata"), &old.at("metadata"));
    let (status, before) = (new.at("status"), old.at("status"));
    for condition in status.each("conditions") {
        if condition.number("observedGeneration") < 0 {
            condition.invalid("observedGeneration", "must be a non-negative integer");
        }
        let kind = condition.text("type");
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind) {
            for why in name::qualified(kind) {
                condition.invalid_as("Type", kind, &why);
            }
        }
    }
    let nominated = status.text("nominatedNodeName");
    if nominated != before.text("nominatedNodeName") && !nominated.is_empty() {
        status.name("nominatedNodeName", name::dns1123_subdomain);
        if !old.text("spec.nodeName").is_empty() {
            let why = "may not be set on pods that are already bound to a node";
            status.forbidden("nominatedNodeName", why);
        }
    }
    if status.number("observedGeneration") < 0 {
        status.invalid("observedGeneration", "must be a non-negative integer");
    }
    status.frozen("qosClass", &before);
    let spec = old.at("spec");
    for (field, list) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ] {
        transitions(&status, &before, field, |name, code| {
            !list.is_empty() && restarts(&spec, list, name, code)
        });
    }
    claims(&status, new);
    for field in ["podIPs", "hostIPs"] {
        addresses(&status, &before, field);
    }
}

/// Whether a container that ended with a code may run again.
fn restarts(spec: &At, list: &str, name: &str, code: i64) -> bool {
    let Some(container) = spec.each(list).find(|one| one.text("name") == name) else {
        return spec.text("restartPolicy") == "Always";
    };
    let whole = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| spec.each(list))
        .flat_map(|one| one.each("restartPolicyRules"))
        .any(|rule| rule.text("action") == "RestartAllContainers");
    let by_rule = container.each("restartPolicyRules").any(|rule| {
        let among = rule
            .list("exitCodes.values")
            .iter()
            .any(|one| one.as_i64() == Some(code));
        among == (rule.text("exitCodes.operator") == "In")
    });
    let policy = match container.text("restartPolicy") {
        "" => spec.text("restartPolicy"),
        own => own,
    };
    whole || by_rule || policy == "Always" || (policy == "OnFailure" && code != 0)
}

fn transitions(status: &At, before: &At, field: &str, restarts: impl Fn(&str, i64) -> bool) {
    for (index, old) in before.each(field).enumerate() {
        let Some(ended) = old.some("state.terminated") else {
            continue;
        };
        let name = old.text("name");
        let goes_on = status
            .each(field)
            .any(|one| one.text("name") == name && !one.has("state.terminated"));
        if goes_on && !restarts(name, ended.number("exitCode")) {
            let why = "may not be transitioned to non-terminated state";
            status.forbidden(&format!("{field}[{index}].state"), why);
        }
    }
}

fn claims(status: &At, pod: &At) {
    let mut seen = Vec::new();
    for claim in status.each("resourceClaimStatuses") {
        let name = claim.text("name");
        let known = pod
            .each("spec.resourceClaims")
            .any(|one| one.text("name") == name);
        if !known {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            claim.invalid_as("name", name, why);
        }
        if seen.contains(&name) {
            claim.duplicate("name");
        }
        seen.push(name);
        claim.may_name("resourceClaimName", name::dns1123_subdomain);
    }
}

fn addresses(status: &At, before: &At, field: &str) {
    let old: Vec<&str> = before.each(field).map(|one| one.text("ip")).collect();
    for one in status.each(field) {
        let told = one.at("ip").named(one.path(""));
        address::check(&told, "", &old);
    }
    let given: Vec<&str> = status.each(field).map(|one| one.text("ip")).collect();
    if field == "hostIPs"
        && let Some(first) = given.first()
        && status.text("hostIP") != *first
    {
        status.invalid_as("hostIPs[0].ip", *first, "must be equal to `hostIP`");
    }
    if !address::one_of_each_family(given) {
        let why = "may specify no more than one IP for each IP family";
        status.invalid(field, why);
    }
}
