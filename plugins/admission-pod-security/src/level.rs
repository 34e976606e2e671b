//! Levels and versions, from the configuration and the namespace's labels.

use capstan_sdk::admission::{Denial, Object, Verdict, allow};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict a standard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Privileged, Self::Baseline, Self::Restricted]
            .into_iter()
            .find(|level| level.name() == text)
    }
}

/// A level as of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standard {
    pub(crate) level: Level,
    pub(crate) version: String,
}

/// What holds in a namespace. The audit level is left out: nothing reads it yet.
pub(crate) struct Standards {
    pub(crate) enforce: Standard,
    pub(crate) warn: Standard,
}

/// What holds without labels.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Defaults {
    enforce: Level,
    enforce_version: String,
    audit: Level,
    audit_version: String,
    warn: Level,
    warn_version: String,
}

impl Default for Defaults {
    fn default() -> Self {
        let (level, latest) = (Level::Privileged, || "latest".to_owned());
        Self {
            enforce: level,
            enforce_version: latest(),
            audit: level,
            audit_version: latest(),
            warn: level,
            warn_version: latest(),
        }
    }
}

impl Defaults {
    /// A label that names no level counts as the strictest, as in the original.
    pub(crate) fn with_labels<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> Standards {
        let standard = |mode: &str, level: Level, version: &str| {
            let asked = label(&format!("{PREFIX}{mode}"));
            let version = label(&format!("{PREFIX}{mode}-version"))
                .filter(|v| is_version(v))
                .unwrap_or(version);
            let level = asked.map_or(level, |name| Level::parse(name).unwrap_or(Level::Restricted));
            Standard {
                level,
                version: version.to_owned(),
            }
        };
        let enforce = standard("enforce", self.enforce, &self.enforce_version);
        let mut warn = standard("warn", self.warn, &self.warn_version);
        // Where only `enforce` is labelled, workloads are warned about what their pods would be denied for.
        let only_enforced =
            label(&format!("{PREFIX}warn")).is_none() && label(&format!("{PREFIX}enforce")).is_some();
        if only_enforced && self.warn == Level::Privileged {
            warn = enforce.clone();
        }
        Standards { enforce, warn }
    }
}

fn is_version(text: &str) -> bool {
    let minor = |minor: &str| !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
    text == "latest" || text.strip_prefix("v1.").is_some_and(minor)
}

/// Whether a namespace's own labels name levels and versions that there are.
pub(crate) fn check_labels(namespace: Object<'_>) -> Verdict {
    for mode in ["enforce", "audit", "warn"] {
        let key = format!("{PREFIX}{mode}");
        if let Some(value) = namespace
            .label(&key)
            .filter(|value| Level::parse(value).is_none())
        {
            return invalid(&key, &value, "must be one of privileged, baseline, restricted");
        }
        let key = format!("{key}-version");
        if let Some(value) = namespace.label(&key).filter(|value| !is_version(value)) {
            return invalid(&key, &value, "must be \"latest\" or \"v1.x\"");
        }
    }
    allow()
}

fn invalid(key: &str, value: &str, rule: &str) -> Verdict {
    let field = format!("metadata.labels[{key}]");
    let message = format!("{field}: Invalid value: {value:?}: {rule}");
    Verdict::Deny(Denial {
        code: 422,
        message,
        field: Some(field),
    })
}
