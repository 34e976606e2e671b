//! Kind `PluginTrust` (`plugins.capstan.dev/v1`, cluster-scoped): whose signatures may load into which world with
//! which capabilities.
//!
//! Plain serde shapes; docs/plugins.md explains every field. Not here: how a signature is checked, which is the plugin
//! host's (`capstan-plugin`).

use serde::{Deserialize, Serialize};

use crate::plugin::Metadata;

/// Kind.
pub const KIND: &str = "PluginTrust";
/// Plural, as in paths.
pub const PLURAL: &str = "plugintrusts";

/// The object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginTrust {
    /// Only what the plugin host reads of it.
    pub metadata: Metadata,
    /// Who is trusted for what.
    pub spec: PluginTrustSpec,
}

/// Who is trusted for what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginTrustSpec {
    /// Whose signatures count.
    pub keys: Vec<TrustedKey>,
    /// Worlds that a component of theirs may implement; none stands for all.
    pub worlds: Vec<String>,
    /// Capabilities that a plugin of theirs may be granted; `*` stands for all, none for none.
    pub capabilities: Vec<String>,
}

/// A public key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrustedKey {
    /// What it is called in messages.
    pub name: String,
    /// ECDSA over P-256, in PEM.
    pub public_key: String,
}
