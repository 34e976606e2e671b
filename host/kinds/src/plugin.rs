//! Kind `Plugin` (`plugins.capstan.dev/v1`, cluster-scoped): the one way to put a policy into the cluster.
//!
//! Plain serde shapes of the object as users write it and as the plugin host reports on it; docs/plugins.md
//! explains every field. [`SCHEMAS`] holds the same as OpenAPI. Parsing is tolerant: what the schema refuses
//! at the API never gets here. Not here: what the fields do, which is the plugin host's (`capstan-plugin`).

mod history;
mod rollout;
mod verdicts;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use history::{HISTORY_MAX, Outcome, PastRevision};
pub use rollout::{CandidateStatus, Promotion, Rollout, Strategy};
pub use verdicts::{DecisionLog, MatchCondition, Mode, Verdicts};

/// API group of the kind.
pub const GROUP: &str = "plugins.capstan.dev";
/// The only version so far.
pub const VERSION: &str = "v1";
/// Kind.
pub const KIND: &str = "Plugin";
/// Plural, as in paths.
pub const PLURAL: &str = "plugins";

/// The OpenAPI schemas of the kind: a JSON object by definition name, with references as in
/// `#/components/schemas/NAME`. The kind's own is `dev.capstan.plugins.v1.Plugin`.
pub const SCHEMAS: &str = include_str!("../data/plugin-schema.json");

/// The object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Plugin {
    /// Always `plugins.capstan.dev/v1`.
    pub api_version: String,
    /// Always `Plugin`.
    pub kind: String,
    /// Only what the plugin host reads of it.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: PluginSpec,
    /// What is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PluginStatus>,
}

/// The part of `metadata` that the plugin host reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Metadata {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What is wanted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginSpec {
    /// Where the component's bytes come from; exactly one member.
    pub source: Source,
    /// `sha256:` and 64 hexadecimal digits; what runs is what was reviewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `bundle`: a Sigstore bundle over the component, as an object or as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Value>,
    /// Configuration, checked against the schema that the component exports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// Configuration from elsewhere, in place of `config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_from: Option<ConfigFrom>,
    /// Host imports that are granted; none by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// What a call may cost.
    pub limits: Limits,
    /// What a request meets when the plugin cannot answer.
    pub failure_policy: FailurePolicy,
    /// How a new revision takes over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Which of its verdicts are kept for who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_log: Option<DecisionLog>,
    /// Where the plugin sits.
    pub bind: Bind,
}

/// Where the component's bytes come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// Name of a component that is embedded in the host's binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundled: Option<String>,
    /// Absolute path on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A key of a ConfigMap's `binaryData`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
    /// A reference in an OCI registry; with a digest it is fetched once and never asked about again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci: Option<String>,
    /// Secrets of type `kubernetes.io/dockerconfigjson` with a login to that registry; the first that fits is used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<SecretName>,
}

/// A Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct SecretName {
    pub namespace: String,
    pub name: String,
}

/// One key of one ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct ConfigMapKey {
    pub namespace: String,
    pub name: String,
    pub key: String,
}

/// Where a configuration comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigFrom {
    /// JSON text under a key of a ConfigMap's `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
    /// A part of any object that the plugin host may read; followed as it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectPart>,
}

/// A part of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct ObjectPart {
    pub api_version: String,
    pub kind: String,
    /// Empty for cluster-scoped kinds.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    /// JSON Pointer, `/spec` by default. A text there is read as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// One granted host import, with what bounds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capability {
    /// `log`, `clock`, `random`, `metrics`, `kube-read`, `node-files` or `node-logs`.
    pub name: String,
    /// For `kube-read`: `plural` or `plural.group`, for instance `deployments.apps`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// For `kube-read`: the namespaces that may be read; none stands for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// For `node-files` and `node-logs`: absolute paths or globs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// What a call may cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Processor time of one call, for instance `10ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Linear memory of one instance, for instance `32Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// What a request meets when the plugin cannot answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum FailurePolicy {
    #[default]
    Fail,
    Ignore,
}

/// Where the plugin sits, by extension point.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Bind {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerBind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionBind>,
    /// For problem daemons and remedies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesBind>,
    /// For sidecars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsBind>,
}

/// Scheduler profiles that the plugin takes part in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchedulerBind {
    /// `spec.schedulerName`s of pods.
    pub profiles: Vec<String>,
    /// Weight of its scores, at least 1.
    pub weight: i64,
    /// Lower is asked first, equals by name.
    #[serde(skip_serializing_if = "is_zero")]
    pub order: i32,
}

impl Default for SchedulerBind {
    fn default() -> Self {
        Self {
            profiles: vec!["default-scheduler".into()],
            weight: 1,
            order: 0,
        }
    }
}

/// Serde's `skip_serializing_if` takes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(order: &i32) -> bool {
    *order == 0
}

/// Requests that an admission policy judges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdmissionBind {
    /// One of them must match.
    pub rules: Vec<Rule>,
    /// A metav1.LabelSelector over the labels of the object's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Value>,
    /// A metav1.LabelSelector over the object's labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_selector: Option<Value>,
    /// Namespaces by name that it leaves alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_namespaces: Vec<String>,
    /// Lower is asked first; ties by name.
    pub order: i32,
    /// What a denial does.
    #[serde(skip_serializing_if = "Mode::is_enforce")]
    pub mode: Mode,
    /// All must hold, or the policy is not asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_conditions: Vec<MatchCondition>,
    /// Whether it judges what stands already as well, into PolicyReports.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scan: bool,
}

/// As in a ValidatingWebhookConfiguration; `*` stands for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Rule {
    pub api_groups: Vec<String>,
    pub api_versions: Vec<String>,
    /// `pods`, `pods/status`, `pods/*`, `*`, `*/*`.
    pub resources: Vec<String>,
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT`, `*`.
    pub operations: Vec<String>,
}

/// Nodes that a problem daemon runs on or a remedy looks after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodesBind {
    /// A metav1.LabelSelector; absent: all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Value>,
    /// How many nodes a remedy may have out of service at once.
    pub budget: u32,
}

impl Default for NodesBind {
    fn default() -> Self {
        Self {
            selector: None,
            budget: 1,
        }
    }
}

/// Pods that a sidecar is attached to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodsBind {
    /// By name; none stands for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// A metav1.LabelSelector; absent: all pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Value>,
}

/// What the plugin hosts report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name and version that the running component gives itself, for instance `rack-spread 1.2.0`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Digest of the running component.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Worlds that the running component implements, for instance `scheduler`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub worlds: Vec<String>,
    /// `Fetched`, `Verified`, `Compiled`, `Configured`, `Ready`, `Degraded`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// One entry for each process that runs it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostStatus>,
    /// Calls on all hosts.
    pub calls: u64,
    /// The slowest host's 99th percentile of a call, in microseconds.
    pub p99_micros: u64,
    /// Traps, deadlines and memory limits hit on all hosts.
    pub traps: u64,
    /// The last fault or failed load, with its time.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// What an admission policy said, on all hosts.
    #[serde(skip_serializing_if = "Verdicts::is_none")]
    pub verdicts: Verdicts,
    /// The revision on trial, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateStatus>,
    /// Revisions, the newest first, at most [`HISTORY_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastRevision>,
}

/// One process that runs the plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct HostStatus {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    pub ready: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    pub calls: u64,
    pub p50_micros: u64,
    pub p99_micros: u64,
    pub traps: u64,
    /// The most linear memory that one of its instances has held there.
    pub memory_bytes: u64,
    /// What an admission policy said there.
    #[serde(skip_serializing_if = "Verdicts::is_none")]
    pub verdicts: Verdicts,
}

/// A metav1.Condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Condition {
    #[serde(rename = "type")]
    pub type_name: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    pub reason: String,
    pub message: String,
    pub last_transition_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_manifest_parses_and_round_trips() {
        let manifest = serde_json::json!({
            "apiVersion": "plugins.capstan.dev/v1", "kind": "Plugin", "metadata": {"name": "rack-spread"},
            "spec": {
                "source": {"configMap": {"namespace": "policies", "name": "rack", "key": "plugin.wasm"}},
                "config": {"weight": 3}, "limits": {"deadline": "10ms"}, "failurePolicy": "Ignore",
                "capabilities": [{"name": "kube-read", "resources": ["deployments.apps"]}],
                "bind": {"scheduler": {"weight": 2}, "nodes": {"selector": {"matchLabels": {"a": "b"}}}}
            }
        });
        let plugin: Plugin = serde_json::from_value(manifest).expect("parses");
        let scheduler = plugin.spec.bind.scheduler.as_ref().expect("bound");
        assert_eq!(
            (scheduler.weight, &*scheduler.profiles[0]),
            (2, "default-scheduler")
        );
        assert_eq!(plugin.spec.failure_policy, FailurePolicy::Ignore);
        let again = serde_json::from_value(serde_json::to_value(&plugin).expect("serializes"));
        assert_eq!(again.ok(), Some(plugin));
    }

    #[test]
    fn every_reference_of_the_schemas_resolves() {
        let schemas: BTreeMap<String, Value> = serde_json::from_str(SCHEMAS).expect("valid JSON");
        for name in SCHEMAS
            .split("#/components/schemas/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            assert!(
                schemas.contains_key(name) || name.starts_with("io.k8s."),
                "{name}"
            );
        }
    }
}
