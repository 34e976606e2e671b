//! A pod's quality of service class, from its requests and limits. Pure.

use k8s_openapi::api::core::v1::Pod;

use super::spec;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn class(pod: &Pod) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in spec::all_containers(pod) {
        let resources = container.resources.as_ref();
        for name in ["cpu", "memory"] {
            let request = resources
                .and_then(|r| r.requests.as_ref())
                .and_then(|map| map.get(name));
            let limit = resources
                .and_then(|r| r.limits.as_ref())
                .and_then(|map| map.get(name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}
