//! What stands between a request and an admission policy: whom it concerns, who is excepted, what a denial does, and
//! the account of it.
//!
//! The component knows nothing of all this: it is asked and answers, whatever its mode. Called by the admission bridge.

use std::sync::Arc;

use capstan_kinds::admission::Matched;
use capstan_kinds::plugin::{AdmissionBind, FailurePolicy, Mode};
use capstan_points::admission::{Review, Verdict};
use capstan_points::{Fault, FaultKind};
use serde_json::Value;

use super::admission_conditions::Conditions;
use super::admission_rules::Coverage;
use crate::decision::{Decision, Said, Sampler};
use crate::error::LoadError;
use crate::revision::Fingerprint;
use crate::state::Context;

pub(crate) struct Binding {
    coverage: Coverage,
    conditions: Conditions,
    pub(crate) mode: Mode,
    /// The plugin's configuration, which conditions call `params`.
    params: Arc<Value>,
    sampler: Sampler,
    /// The revision's.
    key: String,
    title: String,
}

/// Whether the policy is asked.
pub(super) enum Asked {
    Yes,
    No,
    /// A PolicyException, by name, keeps the request from it.
    Excepted(String),
}

impl Binding {
    pub(crate) fn parse(
        bind: &AdmissionBind,
        fingerprint: &Fingerprint,
        title: &str,
    ) -> Result<Self, LoadError> {
        let spec = &fingerprint.spec;
        let fails = spec.failure_policy == FailurePolicy::Fail;
        let field = "spec.bind.admission.matchConditions";
        let one_of = spec.decision_log.clone().unwrap_or_default().allowed_one_of;
        Ok(Self {
            coverage: Coverage::parse(bind)?,
            conditions: Conditions::compile(field, &bind.match_conditions, fails)?,
            mode: bind.mode,
            params: Arc::new(fingerprint.config.clone()),
            sampler: Sampler::new(one_of),
            key: fingerprint.key(),
            title: title.to_owned(),
        })
    }

    pub(super) fn covers(&self, review: &Review) -> bool {
        self.coverage.covers(review)
    }

    pub(super) async fn asks(&self, context: &Context, review: &Arc<Review>) -> Result<Asked, Fault> {
        match self.conditions.hold(review, &self.params).await {
            Matched::Yes => {}
            Matched::No => return Ok(Asked::No),
            Matched::Failed(why) => {
                let message = format!("its matchConditions cannot be evaluated: {why}");
                return Err(Fault::new(FaultKind::Reported, message));
            }
        }
        let exceptions = context.services.exceptions();
        Ok(match exceptions.of_request(&context.plugin, review).await {
            Some(name) => Asked::Excepted(name),
            None => Asked::Yes,
        })
    }

    /// The verdict as the mode has it.
    pub(super) fn weigh(&self, verdict: Verdict) -> Verdict {
        match (self.mode, verdict) {
            (Mode::Warn, Verdict::Deny(denial)) => Verdict::Warn(denial),
            (Mode::Audit, Verdict::Deny(denial)) => Verdict::Audit(denial),
            (_, verdict) => verdict,
        }
    }

    /// Counts what was said, and keeps it where it is to be kept.
    pub(super) fn note(&self, context: &Context, review: &Review, said: Said<'_>, shadow: bool) {
        context.stats.note_verdict(said);
        if self.sampler.keeps(said) {
            let decision = Decision::new(said, review, &self.key, &self.title, shadow);
            decision.tell(&context.plugin);
            context.services.decisions.write(&context.plugin, decision);
        }
    }
}
