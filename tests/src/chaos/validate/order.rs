//! The history of each register, and of each few keys that transactions join, has a linear order; found
//! without any trust in revisions.

use crate::chaos::history::History;
use crate::chaos::model::{Group, Verdict, linearizable};

use super::Findings;

/// The most states looked at for one group; some hundred bytes each.
const STATES_MAX: usize = 1_000_000;

pub(super) fn check(history: &History, findings: &mut Findings) {
    let groups = Group::all(&history.operations);
    let (mut wrong, mut undecided) = (Vec::new(), 0);
    for group in &groups {
        match linearizable(&group.model, group.model.empty(), &group.calls, STATES_MAX) {
            Verdict::Linearizable => {}
            Verdict::Undecided => undecided += 1,
            Verdict::Violation { ordered, stuck } => {
                let (of, call) = (group.calls.len(), &group.calls[stuck].operation);
                wrong.push(format!(
                    "{:?}: only {ordered} of {of} calls have an order; in the way: {call:?}",
                    group.model
                ));
            }
        }
    }
    findings.broken("registers and transactions are linearizable", wrong);
    findings.counted("groups ordered", groups.len() - undecided);
    findings.counted("groups undecided", undecided);
}
