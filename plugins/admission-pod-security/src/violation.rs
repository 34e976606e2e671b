//! What a check finds, in the original's words.

/// A standard's demand that a pod breaks: `reason (detail)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) reason: String,
    pub(crate) detail: String,
}

impl Violation {
    pub(crate) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            detail: detail.into(),
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.reason, self.detail)
    }
}

/// `"a", "b"`.
pub(crate) fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    let each: Vec<String> = names
        .iter()
        .map(|name| format!("\"{}\"", name.as_ref()))
        .collect();
    each.join(", ")
}

/// The same, sorted and without repeats.
pub(crate) fn quoted_set(mut names: Vec<String>) -> String {
    names.sort();
    names.dedup();
    quoted(&names)
}

/// `container "a"` or `containers "a", "b"`.
pub(crate) fn containers<S: AsRef<str>>(names: &[S]) -> String {
    format!(
        "{} {}",
        plural(names.len(), "container", "containers"),
        quoted(names)
    )
}

/// `pod`, `container "a"`, or `pod and container "a"`.
pub(crate) fn setters<S: AsRef<str>>(pod: bool, names: &[S]) -> String {
    match (pod, names.is_empty()) {
        (true, true) => "pod".into(),
        (true, false) => format!("pod and {}", containers(names)),
        (false, _) => containers(names),
    }
}

pub(crate) fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}
