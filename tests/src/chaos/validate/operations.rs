//! Each answer is the one of its revision; each revision was made by just one request; and revisions keep to
//! real time. Since revisions order all writes, that is linearizability itself, for any number of keys.

use std::collections::HashMap;

use crate::chaos::field::RESTARTED;
use crate::chaos::history::{History, Mode, Operation, Outcome};
use crate::chaos::model::{Answered, Timeline};

use super::Findings;

pub(super) fn check(history: &History, timeline: &Timeline, findings: &mut Findings) {
    let mut makers: HashMap<i64, usize> = HashMap::new();
    let mut wrong = Vec::new();
    let mut lost = Vec::new();
    for (index, operation) in history.operations.iter().enumerate() {
        let Outcome::Ok { revision, .. } = &operation.outcome else {
            continue;
        };
        if *revision > timeline.last() {
            lost.push(format!(
                "no watch ever told of revision {revision}: {operation:?}"
            ));
            continue;
        }
        match timeline.judge(&operation.request, &operation.outcome) {
            Some(Answered::Wrote) => {
                if let Some(other) = makers.insert(*revision, index) {
                    let other = &history.operations[other];
                    wrong.push(format!(
                        "revision {revision} was made twice: {other:?} and {operation:?}"
                    ));
                }
            }
            Some(Answered::Differs(right)) => wrong.push(format!("{operation:?} should have had: {right}")),
            Some(Answered::Read) | None => {}
        }
    }
    findings.broken("nothing acknowledged is lost", lost);
    findings.broken("answers agree with the history of revisions", wrong);
    let unexplained = explain_the_rest(history, timeline, &mut makers);
    findings.broken("every change was asked for", unexplained);
    findings.broken(
        "no stale read, no write out of order",
        real_time(history, &makers),
    );
    findings.broken("a member's reads do not go back", member_order(history));
    let outcomes = |wanted: fn(&Outcome) -> bool| {
        history
            .operations
            .iter()
            .filter(|operation| wanted(&operation.outcome))
            .count()
    };
    findings.counted(
        "operations answered",
        outcomes(|outcome| matches!(outcome, Outcome::Ok { .. })),
    );
    findings.counted(
        "refused",
        outcomes(|outcome| matches!(outcome, Outcome::Refused(_))),
    );
    findings.counted(
        "unknown",
        outcomes(|outcome| matches!(outcome, Outcome::Unknown(_))),
    );
}

/// Finds the unanswered request, or the lease, behind each revision that no answered request made.
fn explain_the_rest(history: &History, timeline: &Timeline, makers: &mut HashMap<i64, usize>) -> Vec<String> {
    let mut by_value: HashMap<u64, usize> = HashMap::new();
    let mut removals: Vec<usize> = Vec::new();
    for (index, operation) in history.operations.iter().enumerate() {
        if matches!(operation.outcome, Outcome::Unknown(_)) && operation.request.writes() {
            by_value.extend(operation.request.values().map(|value| (value, index)));
            removals.push(index);
        }
    }
    let mut wrong = Vec::new();
    for (revision, events) in timeline.revisions() {
        if makers.contains_key(&revision) {
            continue;
        }
        let by_lease = events.iter().all(|event| {
            let before = timeline.key_at(&event.key, revision - 1);
            event.put.is_none() && before.is_some_and(|before| before.lease != 0)
        });
        if by_lease {
            continue;
        }
        let put = events.iter().find_map(|event| event.put.as_ref());
        let maker = match put {
            Some(put) => by_value.get(&put.value).copied(),
            None => removals
                .iter()
                .copied()
                .find(|index| timeline.made_by(revision, &history.operations[*index].request)),
        };
        match maker.filter(|index| timeline.made_by(revision, &history.operations[*index].request)) {
            Some(maker) => {
                removals.retain(|index| *index != maker);
                if put.is_some() {
                    makers.insert(revision, maker);
                }
            }
            None => wrong.push(format!("nobody asked for revision {revision}: {events:?}")),
        }
    }
    wrong
}

/// Whoever was asked after another was answered stands after it.
fn real_time(history: &History, makers: &HashMap<i64, usize>) -> Vec<String> {
    let made: HashMap<usize, i64> = makers
        .iter()
        .map(|(revision, index)| (*index, *revision))
        .collect();
    let mut asked: Vec<(u64, i64, usize)> = Vec::new();
    let mut answered: Vec<(u64, i64, usize)> = Vec::new();
    for (index, operation) in history.operations.iter().enumerate() {
        let revision = match (&operation.outcome, made.get(&index)) {
            (_, Some(revision)) => *revision,
            (Outcome::Ok { revision, .. }, None) => *revision,
            _ => continue,
        };
        if operation.request.mode == Mode::Linearizable {
            asked.push((operation.invoked, revision, index));
        }
        if matches!(operation.outcome, Outcome::Ok { .. }) {
            answered.push((operation.returned, revision, index));
        }
    }
    asked.sort_unstable();
    answered.sort_unstable();
    let (mut newest, mut next, mut wrong) = ((0, 0), 0, Vec::new());
    for (invoked, revision, index) in asked {
        while next < answered.len() && answered[next].0 < invoked {
            newest = newest.max((answered[next].1, answered[next].2));
            next += 1;
        }
        let writes = made.contains_key(&index);
        if revision < newest.0 || (writes && revision == newest.0) {
            let (one, other) = (&history.operations[newest.1], &history.operations[index]);
            wrong.push(format!(
                "{other:?} is of revision {revision} though {one:?} was answered before it was asked"
            ));
        }
    }
    wrong
}

/// What one client reads of one member without a restart only goes forward, serializable or not.
fn member_order(history: &History) -> Vec<String> {
    let mut order: Vec<&Operation> = history.operations.iter().collect();
    order.sort_by_key(|operation| operation.invoked);
    let mut newest: HashMap<(u32, usize, u32), i64> = HashMap::new();
    let mut wrong = Vec::new();
    for operation in order {
        let Outcome::Ok { revision, .. } = &operation.outcome else {
            continue;
        };
        if operation.incarnation == RESTARTED || matches!(operation.request.mode, Mode::At(_)) {
            continue;
        }
        let key = (operation.client, operation.member, operation.incarnation);
        let newest = newest.entry(key).or_insert(0);
        if revision < newest {
            wrong.push(format!(
                "{operation:?} after this client saw revision {newest} there"
            ));
        }
        *newest = (*newest).max(*revision);
    }
    wrong
}
