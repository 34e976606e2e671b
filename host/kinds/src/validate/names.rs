//! Naming rules that only some fields follow: headers, paths with a domain, domains of several parts.
//! Invariants: each gives the original's words; the rules that many kinds share are in `crate::name`.

use std::sync::LazyLock;

use regex::Regex;

use super::at::At;
use crate::name;

/// A pattern that is compiled once; the patterns here are constants, so that none fails.
pub(super) struct Pattern(LazyLock<Option<Regex>>);

impl Pattern {
    pub(super) const fn new(compile: fn() -> Option<Regex>) -> Self {
        Self(LazyLock::new(compile))
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

macro_rules! pattern {
    ($text:expr) => {
        $crate::validate::names::Pattern::new(|| regex::Regex::new($text).ok())
    };
}
pub(super) use pattern;

const UNDERSCORED: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const HTTP_PATH: &str = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";

/// A subdomain in which labels may hold and begin with an underscore, as in DNS search paths.
pub(super) fn underscored_subdomain(text: &str) -> Vec<String> {
    static PART: Pattern = pattern!("^_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?$");
    let mut problems = Vec::new();
    if text.len() > name::SUBDOMAIN_LENGTH_MAX {
        problems.push(format!(
            "must be no more than {} characters",
            name::SUBDOMAIN_LENGTH_MAX
        ));
    }
    if !text.split('.').all(|part| PART.matches(part)) {
        problems.push(UNDERSCORED.to_string());
    }
    problems
}

/// The name of an HTTP header.
pub(super) fn http_header(text: &str) -> Vec<String> {
    let fine = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fine {
        Vec::new()
    } else {
        vec![HEADER.to_string()]
    }
}

/// A host with `*.` in front.
pub(super) fn wildcard_subdomain(text: &str) -> Vec<String> {
    let rest = text.strip_prefix("*.").unwrap_or_default();
    if rest.is_empty() || !name::dns1123_subdomain(rest).is_empty() {
        vec![WILDCARD.to_string()]
    } else {
        Vec::new()
    }
}

/// A domain and a path, such as `acme.io/foo`.
pub(super) fn domain_path(at: &At, field: &str) {
    let text = at.text(field);
    if text.is_empty() {
        return at.required(field, "");
    }
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    if host.is_empty() || path.is_empty() {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return at.invalid_as(field, text, why);
    }
    for why in name::dns1123_subdomain(host) {
        at.invalid_as(field, host, &why);
    }
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !path.bytes().all(fine) {
        at.invalid_as(field, path, HTTP_PATH);
    }
}

/// Only upper and lower letters, digits and underscores, no digit in front.
pub(super) fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
