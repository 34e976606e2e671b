//! The rules of `APIService`: a group and version that another server answers for.
//! Invariants: fields and words are the original's. `validate` calls it; what the cluster's admission
//! configurations must be is in `admission`.

use super::at::{At, PORT_MAX, in_range};
use crate::name;

/// A group of APIs that another server answers for.
pub(super) fn api_service(object: &At) {
    let spec = object.at("spec");
    let (group, version) = (spec.text("group"), spec.text("version"));
    let (name, wanted) = (object.text("metadata.name"), format!("{version}.{group}"));
    let problems = name::path_segment(name);
    for why in &problems {
        object.invalid("metadata.name", why);
    }
    if problems.is_empty() && !name.is_empty() && name != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        object.invalid("metadata.name", &why);
    }
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        spec.required("group", why);
    }
    spec.may_name("group", name::dns1123_subdomain);
    spec.name("version", name::dns1035_label);
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let number = spec.number(field);
        if !(1..=most).contains(&number) {
            let why = format!("must be positive and less than {most}");
            spec.invalid_as(field, number, &why);
        }
    }
    let (bundle, insecure) = (spec.text("caBundle"), spec.flag("insecureSkipTLSVerify"));
    let Some(service) = spec.some("service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.len() / 4 * 3);
            spec.invalid_as("caBundle", shown, "local APIServices may not have a caBundle");
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            spec.invalid("insecureSkipTLSVerify", why);
        }
        return;
    };
    service.need(&["namespace", "name"]);
    service_port(&service);
    if insecure && !bundle.is_empty() {
        let why = "may not be true if caBundle is present";
        spec.invalid("insecureSkipTLSVerify", why);
    }
}

fn service_port(at: &At) {
    let port = at.number("port");
    if !(1..=PORT_MAX).contains(&port) {
        let why = format!("port is not valid: {}", in_range(1, PORT_MAX));
        at.invalid_as("port", port, &why);
    }
}
