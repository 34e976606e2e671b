//! What a component is, read from its bytes before anything of it is compiled: imports, exports, worlds.
//!
//! A plugin exports `capstan:plugin/guest` and at least one interface of a world, each in a version that
//! this host speaks. Everything else is refused with what was found and what would be right.

use std::collections::BTreeSet;

use semver::Version;
use wasmparser::{Encoding, Parser, Payload};

use crate::error::LoadError;

/// The version of every WIT package that this host speaks; later patches of it are the same to a caller.
const SPOKEN: Version = Version::new(0, 1, 0);
/// The interfaces of the worlds.
const INTERFACES: [(&str, &[&str]); 5] = [
    (
        "scheduler",
        &[
            "view",
            "enqueue",
            "queue-sort",
            "pre-filter",
            "filter",
            "what-if",
            "post-filter",
            "pre-score",
            "score",
            "reserve",
            "permit",
            "pre-bind",
            "bind",
            "post-bind",
            "hints",
        ],
    ),
    ("admission", &["validate", "mutate"]),
    ("problem", &["monitor"]),
    ("remedy", &["decide"]),
    ("sidecar", &["logs", "adapter"]),
];
const LIFECYCLE: [&str; 3] = ["guest", "self-test", "hand-off"];

/// What a component imports and exports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Surface {
    pub(crate) imports: Vec<String>,
    /// `package/interface` of the known exports, without version.
    exports: BTreeSet<String>,
}

impl Surface {
    /// Reads the bytes' top level and checks the worlds.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        let (imports, exports) = names(bytes)?;
        Ok(Self {
            imports,
            exports: known(&exports)?,
        })
    }

    /// Whether the component exports `package/interface`.
    pub(crate) fn exports(&self, interface: &str) -> bool {
        self.exports.contains(interface)
    }

    /// All `package/interface` that it exports, sorted.
    pub(crate) fn all_exports(&self) -> Vec<String> {
        self.exports.iter().cloned().collect()
    }

    /// The worlds that it implements, in a fixed order.
    pub(crate) fn worlds(&self) -> Vec<String> {
        let has = |package: &str| self.exports.iter().any(|e| e.split('/').next() == Some(package));
        INTERFACES
            .iter()
            .map(|(package, _)| *package)
            .filter(|p| has(p))
            .map(str::to_owned)
            .collect()
    }
}

fn names(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>), LoadError> {
    let refused = |error: wasmparser::BinaryReaderError| LoadError::NotAComponent(error.to_string());
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(refused)? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => {
                return Err(LoadError::NotAComponent(
                    "it is a core module; turn it into a component (`cargo xtask components` does, or \
                     `wasm-tools component new`)"
                        .into(),
                ));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(refused)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(refused)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

fn known(exports: &[String]) -> Result<BTreeSet<String>, LoadError> {
    let wrong = |wanted: String| {
        let exports = if exports.is_empty() {
            "nothing".to_owned()
        } else {
            exports.join(", ")
        };
        LoadError::World { exports, wanted }
    };
    let mut known = BTreeSet::new();
    for export in exports.iter().filter(|e| e.starts_with("capstan:")) {
        let (path, version) = export["capstan:".len()..].split_once('@').unwrap_or((export, ""));
        let spoken =
            Version::parse(version).is_ok_and(|v| (v.major, v.minor) == (SPOKEN.major, SPOKEN.minor));
        let (package, interface) = path.split_once('/').unwrap_or((path, ""));
        if !spoken {
            return Err(wrong(format!(
                "this host speaks capstan:{package}@{SPOKEN}: build the plugin against that version, or \
                 upgrade the host"
            )));
        }
        let interfaces = INTERFACES
            .iter()
            .find(|(p, _)| *p == package)
            .map(|(_, interfaces)| *interfaces);
        let is_lifecycle = package == "plugin" && LIFECYCLE.contains(&interface);
        if !is_lifecycle && !interfaces.is_some_and(|i| i.contains(&interface)) {
            return Err(wrong(format!("this host does not know capstan:{path}")));
        }
        known.insert(path.to_owned());
    }
    if !known.contains("plugin/guest") {
        return Err(wrong(format!(
            "every plugin exports capstan:plugin/guest@{SPOKEN}"
        )));
    }
    if known.iter().all(|path| path.starts_with("plugin/")) {
        let choices: Vec<String> = INTERFACES
            .iter()
            .flat_map(|(package, interfaces)| {
                interfaces.iter().map(move |i| format!("capstan:{package}/{i}"))
            })
            .collect();
        return Err(wrong(format!(
            "a plugin exports at least one of {} (@{SPOKEN})",
            choices.join(", ")
        )));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_and_versions_are_told_apart() {
        let check = |exports: &[&str]| {
            known(&exports.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>()).map_err(|e| e.to_string())
        };
        assert!(check(&["capstan:plugin/guest@0.1.0", "capstan:scheduler/filter@0.1.7"]).is_ok());
        for (exports, hint) in [
            (
                &["wasi:cli/run@0.2.3"][..],
                "every plugin exports capstan:plugin/guest@0.1.0",
            ),
            (
                &["capstan:plugin/guest@0.1.0"][..],
                "at least one of capstan:scheduler/view",
            ),
            (
                &["capstan:plugin/guest@0.1.0", "capstan:scheduler/filter@0.2.0"][..],
                "speaks capstan:scheduler@0.1.0",
            ),
            (
                &["capstan:plugin/guest@0.1.0", "capstan:cloud/routes@0.1.0"][..],
                "does not know capstan:cloud/routes",
            ),
        ] {
            let message = check(exports).expect_err(hint);
            assert!(
                message.contains(hint) && message.contains(exports[exports.len() - 1]),
                "{message}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_component_are_told_so() {
        for (bytes, hint) in [
            (&b"hello"[..], "not a WebAssembly component"),
            (b"\0asm\x01\0\0\0", "core module"),
        ] {
            let message = Surface::read(bytes).expect_err(hint).to_string();
            assert!(message.contains(hint), "{message}");
        }
    }
}
