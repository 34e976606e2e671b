//! Two revisions of an admission policy at one seat: the one that serves, and a candidate on trial beside it.
//!
//! In `Shadow` the serving one decides every request and the candidate looks on, after the answer is known and out of
//! its way. In `Canary` the candidate decides some objects, chosen by their names, so that one object meets one
//! revision; where it faults, the serving one decides instead: no request is lost to a trial. Comparisons are bounded;
//! over the bound a request is decided and not compared.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use capstan_kinds::plugin::{Promotion, Strategy};
use capstan_points::Fault;
use capstan_points::admission::{self, Patch, Policy as _, Review, Verdict};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::admission::Policy;
use crate::stats::Stats;
use crate::trial::{Ledger, Outcome, Seen, Tally};

/// Comparisons under way at once.
const COMPARISONS_MAX: usize = 64;

type Listener = Box<dyn Fn(Outcome) + Send + Sync>;

/// Both revisions of a seat, and the account of the trial.
pub(crate) struct Trial(Arc<Inner>);

struct Inner {
    serving: Arc<Policy>,
    candidate: Arc<Policy>,
    strategy: Strategy,
    percent: u64,
    rule: Promotion,
    ledger: Ledger,
    /// The serving revision's, and the candidate's.
    stats: (Arc<Stats>, Arc<Stats>),
    room: Arc<Semaphore>,
    on_decided: OnceLock<Listener>,
}

/// What was asked, and what came of it.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Patches(Vec<Patch>),
    Verdict(Verdict),
}

impl Trial {
    pub(crate) fn new(
        (serving, candidate): (&Arc<Policy>, &Arc<Policy>),
        stats: (Arc<Stats>, Arc<Stats>),
        (strategy, percent): (Strategy, u32),
        rule: Promotion,
    ) -> Self {
        Self(Arc::new(Inner {
            serving: Arc::clone(serving),
            candidate: Arc::clone(candidate),
            strategy,
            percent: u64::from(percent),
            rule,
            ledger: Ledger::default(),
            stats,
            room: Arc::new(Semaphore::new(COMPARISONS_MAX)),
            on_decided: OnceLock::new(),
        }))
    }

    /// Who is told, once, what the trial came to.
    pub(crate) fn on_decided(&self, listener: impl Fn(Outcome) + Send + Sync + 'static) {
        // A trial begins once; a second listener would be the same host again.
        let _ = self.0.on_decided.set(Box::new(listener));
    }

    pub(crate) fn strategy(&self) -> Strategy {
        self.0.strategy
    }

    pub(crate) fn rule(&self) -> &Promotion {
        &self.0.rule
    }

    pub(crate) fn tally(&self) -> Tally {
        self.0.ledger.tally()
    }

    async fn decide(&self, kind: Kind, review: Arc<Review>) -> Result<Answer, Fault> {
        let inner = &self.0;
        if inner.strategy == Strategy::Canary && inner.is_chosen(&review) {
            match inner.ask(Side::Candidate, kind, &review, false).await {
                Ok(answer) => {
                    inner.compare(Side::Serving, kind, review, answer.clone());
                    return Ok(answer);
                }
                Err(fault) => inner.note(Seen::Error(fault)),
            }
            return inner.ask(Side::Serving, kind, &review, false).await;
        }
        let answer = inner.ask(Side::Serving, kind, &review, false).await?;
        if inner.strategy == Strategy::Shadow {
            inner.compare(Side::Candidate, kind, review, answer.clone());
        }
        Ok(answer)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mutate,
    Validate,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Serving,
    Candidate,
}

impl Inner {
    /// Whether the candidate decides this object.
    fn is_chosen(&self, review: &Review) -> bool {
        let mut hasher = DefaultHasher::new();
        (&review.group, &review.resource, &review.namespace).hash(&mut hasher);
        match review.name.is_empty() {
            true => review.uid.hash(&mut hasher),
            false => review.name.hash(&mut hasher),
        }
        hasher.finish() % 100 < self.percent
    }

    async fn ask(&self, side: Side, kind: Kind, review: &Arc<Review>, shadow: bool) -> Result<Answer, Fault> {
        let policy = match side {
            Side::Serving => &self.serving,
            Side::Candidate => &self.candidate,
        };
        let covered = policy.covers(review);
        match kind {
            Kind::Mutate if covered && policy.mutates() => {
                policy.change(Arc::clone(review)).await.map(Answer::Patches)
            }
            Kind::Validate if covered && policy.validates() => policy
                .judge(Arc::clone(review), shadow)
                .await
                .map(Answer::Verdict),
            Kind::Mutate => Ok(Answer::Patches(Vec::new())),
            Kind::Validate => Ok(Answer::Verdict(Verdict::Allow(Vec::new()))),
        }
    }

    /// Asks the other side as well, out of the request's way, and takes note of what differs.
    fn compare(self: &Arc<Self>, other: Side, kind: Kind, review: Arc<Review>, answer: Answer) {
        let (Ok(runtime), Ok(place)) = (Handle::try_current(), Arc::clone(&self.room).try_acquire_owned())
        else {
            return;
        };
        let this = Arc::clone(self);
        runtime.spawn(async move {
            let _place = place;
            let seen = match (this.ask(other, kind, &review, true).await, other) {
                (Ok(others), _) if is_same(&others, &answer) => Seen::Same,
                (Ok(others), Side::Candidate) => Seen::Other(difference(&review, &answer, &others)),
                (Ok(others), Side::Serving) => Seen::Other(difference(&review, &others, &answer)),
                (Err(fault), Side::Candidate) => Seen::Error(fault),
                // The candidate answers what the serving one cannot.
                (Err(_), Side::Serving) => Seen::Same,
            };
            this.note(seen);
        });
    }

    fn note(&self, seen: Seen) {
        let outcome = self.ledger.note(seen, &self.rule, (&self.stats.0, &self.stats.1));
        if let (Some(outcome), Some(listener)) = (outcome, self.on_decided.get()) {
            listener(outcome);
        }
    }
}

/// Whether both decide the same, whatever their words are.
fn is_same(a: &Answer, b: &Answer) -> bool {
    match (a, b) {
        (Answer::Verdict(a), Answer::Verdict(b)) => name(a) == name(b),
        (a, b) => a == b,
    }
}

fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow(_) => "allow",
        Verdict::Deny(_) => "deny",
        Verdict::Warn(_) => "warn",
        Verdict::Audit(_) => "audit",
    }
}

fn difference(review: &Review, serving: &Answer, candidate: &Answer) -> String {
    let shown = |answer: &Answer| match answer {
        Answer::Patches(patches) => format!("{} patches", patches.len()),
        Answer::Verdict(verdict @ Verdict::Allow(_)) => name(verdict).to_owned(),
        Answer::Verdict(
            verdict @ (Verdict::Deny(denial) | Verdict::Warn(denial) | Verdict::Audit(denial)),
        ) => {
            format!("{} ({})", name(verdict), denial.message)
        }
    };
    let Review {
        resource,
        namespace,
        name,
        ..
    } = review;
    format!(
        "{resource} {namespace}/{name}: serving {}, candidate {}",
        shown(serving),
        shown(candidate)
    )
}

#[async_trait]
impl admission::Policy for Trial {
    fn covers(&self, review: &Review) -> bool {
        self.0.serving.covers(review) || self.0.candidate.covers(review)
    }

    fn mutates(&self) -> bool {
        self.0.serving.mutates() || self.0.candidate.mutates()
    }

    fn validates(&self) -> bool {
        self.0.serving.validates() || self.0.candidate.validates()
    }

    async fn mutate(&self, review: Arc<Review>) -> Result<Vec<Patch>, Fault> {
        Ok(match self.decide(Kind::Mutate, review).await? {
            Answer::Patches(patches) => patches,
            Answer::Verdict(_) => Vec::new(),
        })
    }

    async fn validate(&self, review: Arc<Review>) -> Result<Verdict, Fault> {
        Ok(match self.decide(Kind::Validate, review).await? {
            Answer::Verdict(verdict) => verdict,
            Answer::Patches(_) => Verdict::Allow(Vec::new()),
        })
    }

    async fn audit(&self, review: Arc<Review>) -> Result<Verdict, Fault> {
        self.0.serving.audit(review).await
    }
}
