//! Reports of what an audit found: one for each namespace, one for what stands in none. Pure.
//!
//! A report holds a bounded number of results, and counts of all. It has no times of its own, so that one that says
//! nothing new is the same document and is not written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::definitions::{GROUP, KINDS, VERSION};
use crate::survey::{Finding, Survey};

/// Results of one report; its summary counts all.
const RESULTS_MAX: usize = 200;
/// Bytes of one result's message.
const MESSAGE_BYTES_MAX: usize = 512;
const NAME: &str = "capstan-audit";
/// Selects our reports among those of others.
pub(super) const LABEL: &str = "app.kubernetes.io/managed-by=capstan";

/// The reports of namespaces, or the one of what stands in none.
pub(super) fn of(survey: &Survey, namespaced: bool) -> Vec<Value> {
    let is_ours = |namespace: &str| namespace.is_empty() != namespaced;
    let mut findings: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in survey
        .findings
        .iter()
        .filter(|finding| is_ours(&finding.namespace))
    {
        findings.entry(&finding.namespace).or_default().push(finding);
    }
    let passed = survey
        .passed
        .keys()
        .map(String::as_str)
        .filter(|namespace| is_ours(namespace));
    let namespaces: BTreeSet<&str> = passed.chain(findings.keys().copied()).collect();
    let report = |namespace: &str| {
        let found = findings.get(namespace).map(Vec::as_slice).unwrap_or_default();
        let passed = survey.passed.get(namespace).copied().unwrap_or(0);
        document(namespace, found, passed)
    };
    namespaces.into_iter().map(report).collect()
}

fn document(namespace: &str, found: &[&Finding], passed: usize) -> Value {
    let kind = KINDS[usize::from(namespace.is_empty())].kind;
    let mut metadata = json!({ "name": NAME, "labels": { "app.kubernetes.io/managed-by": "capstan" } });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    let mut sorted = found.to_vec();
    sorted.sort_by_key(|finding| (&finding.plugin, &finding.kind, &finding.name));
    let results: Vec<Value> = sorted.into_iter().take(RESULTS_MAX).map(result).collect();
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind, "metadata": metadata, "results": results,
        "summary": { "pass": passed, "fail": found.len(), "warn": 0, "error": 0, "skip": 0 },
    })
}

fn result(finding: &Finding) -> Value {
    let mut message = finding.message.clone();
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    let mut resource = json!({
        "apiVersion": finding.api_version, "kind": finding.kind, "name": finding.name, "uid": finding.uid,
    });
    if !finding.namespace.is_empty() {
        resource["namespace"] = json!(finding.namespace);
    }
    let mut result = json!({
        "policy": finding.plugin, "message": message, "result": "fail", "scored": true, "source": "capstan",
        "resources": [resource],
    });
    if let Some(field) = &finding.field {
        result["rule"] = json!(field);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_by_namespace_and_bounded() {
        let finding = |namespace: &str, n: usize| Finding {
            plugin: "p".into(),
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: namespace.into(),
            name: format!("n{n}"),
            uid: "u".into(),
            message: "m".repeat(1_000),
            field: None,
        };
        let mut survey = Survey {
            passed: [("a".to_owned(), 3), ("b".to_owned(), 1)].into(),
            ..Survey::default()
        };
        survey.findings = (0..RESULTS_MAX + 5).map(|n| finding("b", n)).collect();
        survey.findings.push(finding("", 0));
        let reports = of(&survey, true);
        let shown: Vec<String> = reports
            .iter()
            .map(|one| {
                let results = one["results"].as_array().map(Vec::len);
                format!("{} {results:?} {}", one["metadata"]["namespace"], one["summary"])
            })
            .collect();
        let summary =
            |fail, pass| format!("{{\"error\":0,\"fail\":{fail},\"pass\":{pass},\"skip\":0,\"warn\":0}}");
        assert_eq!(shown[0], format!("\"a\" Some(0) {}", summary(0, 3)));
        assert_eq!(shown[1], format!("\"b\" Some(200) {}", summary(205, 1)));
        assert_eq!(
            reports[1]["results"][0]["message"].as_str().map(str::len),
            Some(512)
        );
        let cluster = of(&survey, false);
        assert_eq!(
            (cluster.len(), &cluster[0]["kind"]),
            (1, &json!("ClusterPolicyReport"))
        );
    }
}
