//! What is counted of each webhook and each policy in CEL, under the original's names and labels.
//!
//! Labels are names that an administrator has chosen, so that rows stay few; a family's own bound holds all the
//! same. A validating webhook's `type` is `validating`, a mutating one's `admit`, as in the original.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::family::{Family, Histogram};

const WEBHOOK_SECONDS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const EXPRESSION_SECONDS: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];
/// Codes above are shown as this one.
const CODE_MAX: u16 = 600;

/// A webhook that was asked about a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The webhook's name.
    pub name: &'a str,
    pub mutating: bool,
    /// `CREATE` and so on.
    pub operation: &'a str,
}

impl Asked<'_> {
    fn kind(&self) -> &'static str {
        if self.mutating { "admit" } else { "validating" }
    }
}

/// How its turn ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended {
    /// It let the request pass.
    Allowed,
    /// It refused it, with this code.
    Rejected(u16),
    /// It could not be called, and that refuses the request.
    Closed(u16),
    /// It could not be called, and that is passed over.
    Open(u16),
    /// The server itself could not go on.
    Internal,
}

/// What a policy's expression led to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Enforced {
    /// It could not be evaluated, and that is passed over.
    Allow,
    Deny,
    Audit,
    Warn,
}

impl Enforced {
    fn name(self) -> &'static str {
        match self {
            Enforced::Allow => "allow",
            Enforced::Deny => "deny",
            Enforced::Audit => "audit",
            Enforced::Warn => "warn",
        }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct HookMetrics {
    durations: Family<Histogram>,
    requests: Family<AtomicU64>,
    rejections: Family<AtomicU64>,
    opened: Family<AtomicU64>,
    excluded: Family<AtomicU64>,
    validated: Family<AtomicU64>,
    validations: Family<Histogram>,
    mutated: Family<AtomicU64>,
    mutations: Family<Histogram>,
}

impl HookMetrics {
    /// A webhook's turn has ended.
    pub(crate) fn asked(&self, asked: Asked<'_>, ended: Ended, took: Duration) {
        let (code, error) = match ended {
            Ended::Allowed => (200, None),
            Ended::Open(code) => (code, None),
            Ended::Rejected(code) => (code, Some("no_error")),
            Ended::Closed(code) => (code, Some("calling_webhook_error")),
            Ended::Internal => (0, Some("apiserver_internal_error")),
        };
        let code = code.min(CODE_MAX).to_string();
        let rejected = if error.is_some() { "true" } else { "false" };
        let (name, kind) = (("name", asked.name), ("type", asked.kind()));
        let operation = ("operation", asked.operation);
        let labels = [name, operation, ("rejected", rejected), kind];
        if let Some(row) = self.durations.row(&labels, || Histogram::new(&WEBHOOK_SECONDS)) {
            row.1.took(took);
        }
        let labels = [
            ("code", code.as_str()),
            name,
            operation,
            ("rejected", rejected),
            kind,
        ];
        self.requests.add(&labels, 1);
        if let Some(error) = error {
            let labels = [
                ("error_type", error),
                name,
                operation,
                ("rejection_code", code.as_str()),
                kind,
            ];
            self.rejections.add(&labels, 1);
        }
        if matches!(ended, Ended::Open(_)) {
            self.opened.add(&[name, kind], 1);
        }
    }

    /// A webhook was not asked because its conditions do not hold.
    pub(crate) fn excluded(&self, asked: Asked<'_>) {
        let labels = [
            ("kind", "webhook"),
            ("name", asked.name),
            ("operation", asked.operation),
            ("type", asked.kind()),
        ];
        self.excluded.add(&labels, 1);
    }

    /// A validating policy's expression led to something; `message` is what it said.
    pub(crate) fn validated(
        &self,
        (policy, binding): (&str, &str),
        enforced: Enforced,
        message: &str,
        took: Duration,
    ) {
        let labels = [
            ("enforcement_action", enforced.name()),
            ("error_type", error_type(Some(message))),
            ("policy", policy),
            ("policy_binding", binding),
        ];
        self.validated.add(&labels, 1);
        if let Some(row) = self
            .validations
            .row(&labels, || Histogram::new(&EXPRESSION_SECONDS))
        {
            row.1.took(took);
        }
    }

    /// A mutating policy's expression was evaluated; `failed` is why it could not be.
    pub(crate) fn mutated(&self, (policy, binding): (&str, &str), failed: Option<&str>, took: Duration) {
        let labels = [
            ("error_type", error_type(failed)),
            ("policy", policy),
            ("policy_binding", binding),
        ];
        self.mutated.add(&labels, 1);
        if let Some(row) = self
            .mutations
            .row(&labels, || Histogram::new(&EXPRESSION_SECONDS))
        {
            row.1.took(took);
        }
    }

    /// Writes all rows.
    pub(super) fn write(&self, text: &mut String) {
        self.durations
            .write(text, "apiserver_admission_webhook_admission_duration_seconds");
        let policies = [("validating", &self.validations), ("mutating", &self.mutations)];
        for (kind, family) in policies {
            family.write(
                text,
                &format!("apiserver_{kind}_admission_policy_check_duration_seconds"),
            );
        }
        for (name, family) in [
            ("apiserver_admission_webhook_request_total", &self.requests),
            ("apiserver_admission_webhook_rejection_count", &self.rejections),
            ("apiserver_admission_webhook_fail_open_count", &self.opened),
            (
                "apiserver_admission_match_condition_exclusions_total",
                &self.excluded,
            ),
            (
                "apiserver_validating_admission_policy_check_total",
                &self.validated,
            ),
            ("apiserver_mutating_admission_policy_check_total", &self.mutated),
        ] {
            family.write(text, name, "counter");
        }
    }
}

/// The original tells them apart by the words, and counts a plain refusal among the invalid.
fn error_type(said: Option<&str>) -> &'static str {
    match said {
        None => "no_error",
        Some(said) if said.starts_with("compilation") => "compile_error",
        Some(said) if said.starts_with("validation failed due to running out of cost budget") => {
            "out_of_budget"
        }
        Some(_) => "invalid_error",
    }
}
