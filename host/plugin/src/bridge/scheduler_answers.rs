//! From a component's answers to the scheduler point's types; what makes no sense is told so.

use capstan_points::Bits;
use capstan_points::scheduler::{
    Binding, Hypothesis, Narrowing, Permit, Preparation, Readiness, Rejection, Release, Step, Verdict,
};

use crate::bindings::scheduler::capstan::scheduler::types as wit;
use crate::bindings::scheduler::exports::capstan::scheduler::{
    bind, enqueue, permit, post_filter, pre_bind, pre_filter,
};

/// Scores lie between 0 and this.
const SCORE_MAX: i32 = 100;
/// Rows of one answer of a filter, and bytes of one reason.
const REJECTIONS_MAX: usize = 1_000;
const REASON_BYTES_MAX: usize = 1_024;
/// Numbers of one rank.
const RANK_MAX: usize = 8;
/// Hypotheses of one question.
const HYPOTHESES_MAX: usize = 4_096;

pub(super) fn column(column: Vec<i32>, candidates: usize) -> Result<Vec<i32>, String> {
    if column.len() != candidates {
        return Err(format!(
            "score gave {} scores for {candidates} candidates",
            column.len()
        ));
    }
    match column.iter().find(|score| !(0..=SCORE_MAX).contains(*score)) {
        Some(score) => Err(format!(
            "score gave {score}; scores lie between 0 and {SCORE_MAX}"
        )),
        None => Ok(column),
    }
}

/// Rows with only what was asked about, and reasons of bounded length.
pub(super) fn rejections(rows: Vec<wit::Rejection>, asked: &Bits) -> Result<Vec<Rejection>, String> {
    if rows.len() > REJECTIONS_MAX {
        return Err(format!(
            "filter gave {} rows; at most {REJECTIONS_MAX} make sense",
            rows.len()
        ));
    }
    let row = |row: wit::Rejection| {
        let mut nodes = Bits::from_words(row.nodes);
        nodes.intersect(asked);
        Rejection {
            reason: cut(row.reason),
            resolvable: row.resolvable,
            nodes,
        }
    };
    Ok(rows.into_iter().map(row).collect())
}

fn cut(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let mut end = REASON_BYTES_MAX;
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
    }
    reason
}

pub(super) fn readiness(readiness: enqueue::Readiness) -> Readiness {
    match readiness {
        enqueue::Readiness::Ready => Readiness::Ready,
        enqueue::Readiness::Gated(reason) => Readiness::Gated(cut(reason)),
    }
}

pub(super) fn rank(rank: Vec<i64>) -> Result<Vec<i64>, String> {
    if rank.len() > RANK_MAX {
        return Err(format!(
            "rank gave {} numbers; at most {RANK_MAX} count",
            rank.len()
        ));
    }
    Ok(rank)
}

pub(super) fn narrowing(narrowing: pre_filter::Narrowing) -> Narrowing {
    match narrowing {
        pre_filter::Narrowing::All => Narrowing::All,
        pre_filter::Narrowing::Skip => Narrowing::Skip,
        pre_filter::Narrowing::Only((nodes, reason)) => Narrowing::Only(Bits::from_words(nodes), cut(reason)),
        pre_filter::Narrowing::Rejected(reason) => Narrowing::Rejected(cut(reason)),
    }
}

pub(super) fn step(step: post_filter::Step) -> Result<Step, String> {
    Ok(match step {
        post_filter::Step::Ask(asked) => {
            if asked.len() > HYPOTHESES_MAX || asked.is_empty() {
                return Err(format!(
                    "post-filter asked about {} hypotheses; 1 to {HYPOTHESES_MAX} make sense",
                    asked.len()
                ));
            }
            let hypothesis = |one: wit::Hypothesis| Hypothesis {
                node: one.node,
                removed: one.removed,
                added: Vec::new(),
            };
            Step::Ask(asked.into_iter().map(hypothesis).collect())
        }
        post_filter::Step::Nominate(nomination) => Step::Nominate {
            node: nomination.node,
            victims: nomination.victims,
        },
        post_filter::Step::GiveUp((reason, clear)) => Step::GiveUp {
            reason: cut(reason),
            clear,
        },
    })
}

pub(super) fn verdict(verdict: wit::Verdict) -> Verdict {
    match verdict {
        wit::Verdict::Accepted => Verdict::Accepted,
        wit::Verdict::Rejected(reason) => Verdict::Rejected(cut(reason)),
    }
}

pub(super) fn permission(permission: permit::Permission) -> (Permit, Vec<Release>) {
    let decision = match permission.decision {
        permit::Decision::Allow => Permit::Allow,
        permit::Decision::Wait(ms) => Permit::Wait(ms),
        permit::Decision::Rejected(reason) => Permit::Rejected(cut(reason)),
    };
    (decision, releases(permission.others))
}

pub(super) fn releases(releases: Vec<permit::Release>) -> Vec<Release> {
    let release = |one: permit::Release| Release {
        uid: one.uid,
        rejected: one.rejected.map(cut),
    };
    releases.into_iter().map(release).collect()
}

pub(super) fn preparation(preparation: pre_bind::Preparation) -> Preparation {
    match preparation {
        pre_bind::Preparation::Proceed(annotations) => Preparation::Proceed(annotations),
        pre_bind::Preparation::Rejected(reason) => Preparation::Rejected(cut(reason)),
    }
}

pub(super) fn binding(binding: bind::Binding) -> Binding {
    match binding {
        bind::Binding::Pass => Binding::Pass,
        bind::Binding::Bound => Binding::Bound,
        bind::Binding::Rejected(reason) => Binding::Rejected(cut(reason)),
    }
}
