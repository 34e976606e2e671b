//! Decisions of admission policies: what each said of which request, kept for who asks and told to the host's log.
//!
//! Every denial, warning, audit, exception and fault is kept, and a sample of what passed. No object is kept, only its
//! name. Written by the admission bridge.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use capstan_points::Fault;
use capstan_points::admission::{Operation, Review, Verdict};
use serde::Serialize;

/// One verdict on one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Decision {
    /// RFC 3339, to the millisecond.
    pub time: String,
    /// `Allowed`, `Denied`, `Warned`, `Audited`, `Excepted` or `Faulted`.
    pub verdict: &'static str,
    /// Why: the denial's message, the exception's name, the fault.
    pub message: String,
    /// The revision's key, as in `status.history`, and its own name and version.
    pub revision: String,
    pub title: String,
    pub user: String,
    pub operation: Operation,
    /// `plural`, `plural.group`, with `/subresource` where there is one.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub dry_run: bool,
    /// Whether the revision was only looking on.
    pub shadow: bool,
}

/// What became of a request at one policy.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said<'a> {
    Verdict(&'a Verdict),
    Excepted(&'a str),
    Faulted(&'a Fault),
}

/// Which of what passed is kept.
#[derive(Debug)]
pub(crate) struct Sampler {
    one_of: u64,
    seen: AtomicU64,
}

impl Sampler {
    pub(crate) fn new(one_of: u64) -> Self {
        let seen = AtomicU64::new(0);
        Self { one_of, seen }
    }

    pub(crate) fn keeps(&self, said: Said<'_>) -> bool {
        match said {
            Said::Verdict(Verdict::Allow(_)) => {
                self.one_of > 0 && self.seen.fetch_add(1, Relaxed).is_multiple_of(self.one_of)
            }
            _ => true,
        }
    }
}

impl Said<'_> {
    fn shown(&self) -> (&'static str, String) {
        match self {
            Self::Verdict(Verdict::Allow(warnings)) => ("Allowed", warnings.join("; ")),
            Self::Verdict(Verdict::Deny(denial)) => ("Denied", denial.message.clone()),
            Self::Verdict(Verdict::Warn(denial)) => ("Warned", denial.message.clone()),
            Self::Verdict(Verdict::Audit(denial)) => ("Audited", denial.message.clone()),
            Self::Excepted(name) => ("Excepted", format!("by PolicyException {name}")),
            Self::Faulted(fault) => ("Faulted", fault.to_string()),
        }
    }
}

impl Decision {
    pub(crate) fn new(said: Said<'_>, review: &Review, revision: &str, title: &str, shadow: bool) -> Self {
        let (verdict, message) = said.shown();
        let mut resource = review.resource.clone();
        for (separator, part) in [('.', &review.group), ('/', &review.subresource)] {
            if !part.is_empty() {
                resource.push(separator);
                resource.push_str(part);
            }
        }
        let now_ms = i64::try_from(review.now_ms).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
        Self {
            time: format!("{time:.3}"),
            verdict,
            message,
            revision: revision.to_owned(),
            title: title.to_owned(),
            user: review.user.clone(),
            operation: review.operation,
            resource,
            namespace: review.namespace.clone(),
            name: review.name.clone(),
            dry_run: review.dry_run,
            shadow,
        }
    }

    /// Tells the host's log.
    pub(crate) fn tell(&self, plugin: &str) {
        tracing::info!(
            target: "capstan::decision", plugin, revision = %self.revision, verdict = self.verdict,
            message = %self.message, user = %self.user, operation = ?self.operation, resource = %self.resource,
            namespace = %self.namespace, name = %self.name, dry_run = self.dry_run, shadow = self.shadow
        );
    }
}
