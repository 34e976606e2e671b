//! Grants: what of the host a plugin may reach, and the check of a component's imports against them.
//!
//! Deny by default. An import outside `capstan:*` is never available, types-only interfaces and the call's
//! own documents always are, everything else needs an entry of `spec.capabilities`. The check runs before
//! the component is compiled; host functions that take arguments check theirs again at each call.

use capstan_kinds::plugin::Capability;

use crate::error::{LoadError, Step};
use crate::glob;

/// Names that `spec.capabilities` may hold.
const NAMES: [&str; 7] = [
    "log",
    "clock",
    "random",
    "metrics",
    "kube-read",
    "node-files",
    "node-logs",
];
/// Entries of one list of a capability.
const ENTRIES_MAX: usize = 64;

/// A mistake in `spec.capabilities`; the imports cannot be verified against it.
fn invalid(field: impl Into<String>, value: impl Into<String>, wanted: impl Into<String>) -> LoadError {
    let (field, value, wanted) = (field.into(), value.into(), wanted.into());
    LoadError::Spec {
        field,
        value,
        wanted,
        step: Step::Verified,
    }
}

/// The granted capabilities of one revision.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grants(Vec<Capability>);

impl Grants {
    pub(crate) fn parse(capabilities: &[Capability]) -> Result<Self, LoadError> {
        for (index, capability) in capabilities.iter().enumerate() {
            let field = format!("spec.capabilities[{index}]");
            let name = capability.name.as_str();
            if !NAMES.contains(&name) {
                return Err(invalid(
                    field + ".name",
                    name,
                    format!("one of {}", NAMES.join(", ")),
                ));
            }
            let is_path = matches!(name, "node-files" | "node-logs");
            if name == "kube-read" && capability.resources.is_empty() {
                return Err(invalid(
                    field + ".resources",
                    "",
                    "a list such as [pods, deployments.apps]",
                ));
            }
            if is_path && capability.paths.is_empty() {
                return Err(invalid(field + ".paths", "", "a list of absolute paths or globs"));
            }
            if let Some(path) = capability.paths.iter().find(|path| !path.starts_with('/')) {
                return Err(invalid(field + ".paths", path, "an absolute path or glob"));
            }
            let longest = capability
                .paths
                .len()
                .max(capability.resources.len())
                .max(capability.namespaces.len());
            if longest > ENTRIES_MAX {
                let wanted = format!("lists of at most {ENTRIES_MAX} entries");
                return Err(invalid(field, longest.to_string(), wanted));
            }
        }
        Ok(Self(capabilities.to_vec()))
    }

    /// Every interface, though nothing behind one that takes arguments: enough to look at a component.
    pub(crate) fn every_interface() -> Self {
        let named = |name: &str| Capability {
            name: name.to_owned(),
            ..Capability::default()
        };
        Self(NAMES.into_iter().map(named).collect())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|capability| capability.name == name)
    }

    /// Whether a host call may keep a guest waiting for another machine or a disk.
    pub(crate) fn may_wait(&self) -> bool {
        self.has("kube-read") || self.has("node-files")
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Capability> {
        self.0.iter().filter(move |capability| capability.name == name)
    }

    /// Whether `path` is covered by a path capability of that name.
    pub(crate) fn covers_path(&self, name: &str, path: &str) -> bool {
        self.named(name)
            .flat_map(|c| &c.paths)
            .any(|granted| granted == path || (!path.contains("**") && glob::matches(granted, path)))
    }

    /// Whether objects of this resource may be read in this namespace; the empty one stands for all.
    pub(crate) fn covers_read(&self, group: &str, plural: &str, namespace: &str) -> bool {
        let full = if group.is_empty() {
            plural.to_owned()
        } else {
            format!("{plural}.{group}")
        };
        self.named("kube-read").any(|c| {
            let all = c.namespaces.is_empty() || c.namespaces.iter().any(|n| n == "*");
            c.resources.contains(&full) && (all || c.namespaces.iter().any(|n| n == namespace))
        })
    }

    /// Refuses the first import that is not available, and says what would make it so.
    pub(crate) fn admit_imports(&self, imports: &[String]) -> Result<(), LoadError> {
        imports.iter().try_for_each(|import| {
            let refused = |way_out: String| {
                Err(LoadError::Import {
                    import: import.clone(),
                    way_out,
                })
            };
            let path = import.split('@').next().unwrap_or(import);
            let Some((package, interface)) = path.strip_prefix("capstan:").and_then(|p| p.split_once('/'))
            else {
                return refused(format!(
                    "no plugin can have it; plugins have no WASI and no ambient access, only capstan:plugin \
                     interfaces ({}) listed in spec.capabilities. Build for wasm32-unknown-unknown",
                    NAMES.join(", ")
                ));
            };
            match (package, interface) {
                (_, "types") | ("admission", "documents") => Ok(()),
                ("plugin", name) if name != "node-logs" && NAMES.contains(&name) => {
                    if self.has(name) {
                        return Ok(());
                    }
                    refused(format!(
                        "add {{name: {name}}} to spec.capabilities if the plugin may have it"
                    ))
                }
                _ => refused("this host does not know it".into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(json: serde_json::Value) -> Result<Grants, LoadError> {
        Grants::parse(&serde_json::from_value::<Vec<Capability>>(json).expect("shape"))
    }

    #[test]
    fn imports_are_denied_by_default() {
        let grants = grants(serde_json::json!([{"name": "log"}])).expect("valid");
        let check = |import: &str| grants.admit_imports(&[import.into()]).map_err(|e| e.to_string());
        assert_eq!(check("capstan:plugin/log@0.1.0"), Ok(()));
        assert_eq!(check("capstan:scheduler/types@0.1.0"), Ok(()));
        assert_eq!(check("capstan:admission/documents@0.1.0"), Ok(()));
        for (import, hint) in [
            ("capstan:plugin/clock@0.1.0", "add {name: clock}"),
            ("wasi:cli/environment@0.2.3", "no WASI"),
            ("capstan:plugin/sockets@0.1.0", "does not know"),
            ("env", "no plugin can have it"),
        ] {
            let message = check(import).expect_err(import);
            assert!(message.contains(hint) && message.contains(import), "{message}");
        }
    }

    #[test]
    fn reads_are_bounded_by_resource_and_namespace() {
        let grants = grants(serde_json::json!([
            {"name": "kube-read", "resources": ["pods"], "namespaces": ["a"]},
            {"name": "kube-read", "resources": ["deployments.apps"]}
        ]))
        .expect("valid");
        assert!(grants.covers_read("", "pods", "a"));
        assert!(!grants.covers_read("", "pods", "b"));
        assert!(!grants.covers_read("", "pods", ""));
        assert!(grants.covers_read("apps", "deployments", ""));
        assert!(!grants.covers_read("", "deployments", "a"));
    }

    #[test]
    fn mistakes_name_their_field() {
        for (json, named) in [
            (serde_json::json!([{"name": "http"}]), "spec.capabilities[0].name"),
            (
                serde_json::json!([{"name": "log"}, {"name": "kube-read"}]),
                "spec.capabilities[1].resources",
            ),
            (
                serde_json::json!([{"name": "node-logs", "paths": ["log"]}]),
                "spec.capabilities[0].paths",
            ),
        ] {
            let message = grants(json).expect_err(named).to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
