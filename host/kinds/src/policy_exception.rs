//! Kind `PolicyException` (`plugins.capstan.dev/v1`, cluster-scoped): requests that named admission policies let
//! alone, until a time.
//!
//! Plain serde shapes; docs/plugins.md explains every field. There is no exception without an end. Not here: the
//! matching of requests, which is the plugin host's (`capstan-plugin`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plugin::{MatchCondition, Metadata};

/// Kind.
pub const KIND: &str = "PolicyException";
/// Plural, as in paths.
pub const PLURAL: &str = "policyexceptions";

/// The object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyException {
    /// Only what the plugin host reads of it.
    pub metadata: Metadata,
    /// What is excepted.
    pub spec: PolicyExceptionSpec,
}

/// What is excepted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyExceptionSpec {
    /// Names of the Plugin objects that it concerns.
    pub plugins: Vec<String>,
    /// The requests.
    #[serde(rename = "match")]
    pub requests: Excepted,
    /// RFC 3339; from then on it excepts nothing.
    pub expires: String,
    /// Why, for those who read it later.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Requests: what is given must hold, and what is not given holds for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Excepted {
    /// Of the object, by name or pattern (`team-*`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// `plural` or `plural.group`, for instance `deployments.apps`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Of the object, by name or pattern.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Who asks, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// A metav1.LabelSelector over the object's labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_selector: Option<Value>,
    /// CEL; all must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<MatchCondition>,
}
