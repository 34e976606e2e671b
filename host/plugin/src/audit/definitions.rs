//! The kinds of reports, as the Policy Working Group defines them, in what is used of them. Tools that read reports
//! (kubectl, dashboards) know them by these names.

use serde_json::{Value, json};

pub(super) const GROUP: &str = "wgpolicyk8s.io";
pub(super) const VERSION: &str = "v1alpha2";

/// A kind of report.
pub(super) struct Kind {
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) namespaced: bool,
    short: &'static str,
}

pub(super) const KINDS: [Kind; 2] = [
    Kind {
        kind: "PolicyReport",
        plural: "policyreports",
        namespaced: true,
        short: "polr",
    },
    Kind {
        kind: "ClusterPolicyReport",
        plural: "clusterpolicyreports",
        namespaced: false,
        short: "cpolr",
    },
];

impl Kind {
    /// Name of the definition.
    pub(super) fn name(&self) -> String {
        format!("{}.{GROUP}", self.plural)
    }

    pub(super) fn definition(&self) -> Value {
        let column =
            |name: &str, kind: &str, path: &str| json!({ "name": name, "type": kind, "jsonPath": path });
        let counts = ["Pass", "Fail", "Warn", "Error", "Skip"];
        let mut columns: Vec<Value> = counts
            .iter()
            .map(|count| column(count, "integer", &format!(".summary.{}", count.to_lowercase())))
            .collect();
        columns.push(column("Age", "date", ".metadata.creationTimestamp"));
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": self.name() },
            "spec": {
                "group": GROUP, "scope": if self.namespaced { "Namespaced" } else { "Cluster" },
                "names": {
                    "kind": self.kind, "listKind": format!("{}List", self.kind), "plural": self.plural,
                    "singular": self.kind.to_lowercase(), "shortNames": [self.short],
                },
                "versions": [{
                    "name": VERSION, "served": true, "storage": true, "additionalPrinterColumns": columns,
                    "schema": { "openAPIV3Schema": schema() },
                }],
            },
        })
    }
}

fn schema() -> Value {
    let text = json!({ "type": "string" });
    let count = json!({ "type": "integer" });
    let free = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let result = json!({
        "type": "object", "required": ["policy"],
        "properties": {
            "policy": text, "rule": text, "message": text, "source": text, "category": text,
            "result": { "type": "string", "enum": ["pass", "fail", "warn", "error", "skip"] },
            "severity": { "type": "string", "enum": ["critical", "high", "low", "medium", "info"] },
            "scored": { "type": "boolean" },
            "timestamp": free, "resourceSelector": free,
            "properties": { "type": "object", "additionalProperties": text },
            "resources": { "type": "array", "items": free },
        },
    });
    json!({
        "type": "object",
        "properties": {
            "apiVersion": text, "kind": text, "metadata": { "type": "object" }, "scope": free, "scopeSelector": free,
            "summary": {
                "type": "object",
                "properties": { "pass": count, "fail": count, "warn": count, "error": count, "skip": count },
            },
            "results": { "type": "array", "items": result },
        },
    })
}
