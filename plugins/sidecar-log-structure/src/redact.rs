//! What must not stand in a log.

use capstan_sdk::Fault;
use regex_lite::Regex;

/// A rule of the configuration.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pattern: String,
    #[serde(default = "redacted")]
    replacement: String,
}

fn redacted() -> String {
    "[REDACTED]".into()
}

/// Well-known secrets: what the line must contain for the expression to be tried, the expression, and
/// its replacement.
const KNOWN: [(&[&str], &str, &str); 4] = [
    (
        &[
            "pass", "secret", "token", "key", "PASS", "SECRET", "TOKEN", "KEY", "Pass", "Secret", "Token",
            "Key",
        ],
        r#"(?i)((?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)["']?\s*[=:]\s*["']?)[^\s"',;&]+"#,
        "${1}[REDACTED]",
    ),
    (
        &["earer "],
        r"(?i)(bearer\s+)[A-Za-z0-9._~+/=-]{8,}",
        "${1}[REDACTED]",
    ),
    (
        &["eyJ"],
        r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*",
        "[REDACTED]",
    ),
    (&["AKIA", "ASIA"], r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", "[REDACTED]"),
];

pub(crate) struct Redaction {
    hints: &'static [&'static str],
    expression: Regex,
    replacement: String,
}

pub(crate) fn all(rules: &[Rule], known: bool) -> Result<Vec<Redaction>, Fault> {
    let known = KNOWN
        .iter()
        .filter(|_| known)
        .map(|(hints, pattern, replacement)| (*hints, *pattern, *replacement, 0));
    let own = rules
        .iter()
        .enumerate()
        .map(|(at, rule)| (&[][..], rule.pattern.as_str(), rule.replacement.as_str(), at));
    let ready = |(hints, pattern, replacement, at): (&'static [&'static str], &str, &str, usize)| {
        let refused = |e| {
            Fault::permanent(format!(
                "redact[{at}].pattern: {pattern:?} is not a regular expression: {e}"
            ))
        };
        Ok(Redaction {
            hints,
            expression: Regex::new(pattern).map_err(refused)?,
            replacement: replacement.to_owned(),
        })
    };
    own.chain(known).map(ready).collect()
}

impl Redaction {
    pub(crate) fn apply(&self, text: &mut String) {
        let likely = self.hints.is_empty() || self.hints.iter().any(|hint| text.contains(hint));
        if likely && self.expression.is_match(text) {
            *text = self
                .expression
                .replace_all(text, self.replacement.as_str())
                .into_owned();
        }
    }
}
