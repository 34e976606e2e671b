//! Rules of requests for certificates.
//! Invariants: what a request asks for stays; who approved it stays said. What is inside of the request is the
//! signer's to judge: here only that it is one by its wrapping.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::at::At;
use crate::name;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEGACY: &str = "kubernetes.io/legacy-unknown";
const CONDITIONS: &str = "status.conditions";
/// A label, a dot, a subdomain.
const SIGNER_PATH_LENGTH_MAX: usize = name::SUBDOMAIN_LENGTH_MAX + name::LABEL_LENGTH_MAX + 1;

pub(super) fn request(object: &At, old: Option<&At>) {
    let spec = object.at("spec");
    if old.is_none() {
        let bytes = STANDARD.decode(spec.text("request")).unwrap_or_default();
        if !String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE REQUEST-----") {
            let why = "PEM block type must be CERTIFICATE REQUEST";
            spec.invalid("request", why);
        }
    }
    if spec.count("usages") == 0 {
        spec.required("usages", "");
    }
    for usage in spec.each("usages") {
        usage.exactly_one_of("", &USAGES);
    }
    let mut seen = HashSet::new();
    for usage in spec.each("usages") {
        if !seen.insert(usage.text("")) {
            usage.duplicate("");
        }
    }
    if spec.text("signerName") == LEGACY && old.is_none() {
        let why = "the legacy signerName is not allowed via this API version";
        spec.invalid("signerName", why);
    } else {
        signer_name(&spec, "signerName");
    }
    if spec.int("expirationSeconds").is_some_and(|seconds| seconds < 600) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        spec.invalid("expirationSeconds", why);
    }
}

/// A domain and a path, such as `example.com/signer`.
pub(super) fn signer_name(at: &At, field: &str) {
    let name = at.text(field);
    if name.is_empty() {
        return at.required(field, "");
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, path] = parts[..] else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return at.invalid(field, why);
    };
    if domain.len() > name::SUBDOMAIN_LENGTH_MAX {
        at.too_long(field, name::SUBDOMAIN_LENGTH_MAX);
    }
    labels(at, field, domain, name::dns1123_label);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        at.invalid_as(field, domain, why);
    }
    labels(at, field, path, name::dns1123_subdomain);
    if path.len() > SIGNER_PATH_LENGTH_MAX {
        at.too_long(field, SIGNER_PATH_LENGTH_MAX);
    }
}

/// The first label that is none is told.
fn labels(at: &At, field: &str, whole: &str, rule: super::at::NameRule) {
    for label in whole.split('.') {
        let problems = rule(label);
        for why in &problems {
            at.invalid_as(field, whole, &format!("validating label {label:?}: {why}"));
        }
        if !problems.is_empty() {
            return;
        }
    }
}

/// A change of what was decided: conditions by approval, the certificate by status.
pub(super) fn decision(new: &At, old: &At, approval: bool) {
    conditions(new, old);
    let of = |at: &At, kind: &str| -> Vec<Value> {
        let all = at.list(CONDITIONS).iter();
        all.filter(|condition| condition["type"] == kind)
            .cloned()
            .collect()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if of(new, kind).len() < of(old, kind).len() {
            let why = format!("updates may not remove a condition of type {kind:?}");
            new.forbidden(CONDITIONS, &why);
        }
    }
    if !approval {
        for kind in ["Approved", "Denied"] {
            let (after, before) = (of(new, kind), of(old, kind));
            let what = if after.len() > before.len() {
                "add"
            } else if after.len() == before.len() && after != before {
                "modify"
            } else {
                continue;
            };
            let why = format!("updates may not {what} a condition of type {kind:?}");
            new.forbidden(CONDITIONS, &why);
        }
    }
    let (after, before) = (new.text("status.certificate"), old.text("status.certificate"));
    if after == before {
        return;
    }
    if approval {
        new.forbidden("status.certificate", "updates may not set certificate content");
    } else if !before.is_empty() {
        let why = "updates may not modify existing certificate content";
        new.forbidden("status.certificate", why);
    }
    if !after.is_empty() {
        let bytes = STANDARD.decode(after).unwrap_or_default();
        if !String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE-----") {
            let why = "must contain at least one CERTIFICATE PEM block";
            new.invalid_as("status.certificate", "<certificate data>", why);
        }
    }
}

fn conditions(new: &At, old: &At) {
    let (mut seen, mut decided) = (HashSet::new(), HashSet::new());
    let duplicates = {
        let mut types = HashSet::new();
        old.each(CONDITIONS)
            .any(|condition| !types.insert(condition.text("type")))
    };
    for condition in new.each(CONDITIONS) {
        let kind = condition.text("type");
        if kind.is_empty() {
            condition.required("type", "");
        }
        if matches!(kind, "Approved" | "Denied" | "Failed") {
            condition.must_be_one_of("status", &["True"]);
        } else {
            condition.must_be_one_of("status", &["False", "True", "Unknown"]);
        }
        if matches!(kind, "Approved" | "Denied") {
            decided.insert(kind);
            if decided.len() > 1 {
                let why = "Approved and Denied conditions are mutually exclusive";
                new.invalid_as(CONDITIONS, kind, why);
            }
        }
        if !seen.insert(kind) && !duplicates {
            condition.duplicate("type");
        }
    }
}
