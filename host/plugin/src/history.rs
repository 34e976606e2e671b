//! `status.history` after a report: who serves has the newest number, who fell keeps its mark. Pure.
//!
//! A revision that comes back gets a new number, as with Deployments. A host that is behind (it has not seen the
//! object's newest generation) changes nothing. Called by `status`.

use capstan_kinds::plugin::{HISTORY_MAX, Outcome, PastRevision, PluginStatus};

use crate::report::Report;

pub(crate) fn after(before: &PluginStatus, report: &Report, now: &str) -> Vec<PastRevision> {
    let mut history = before.history.clone();
    if report.generation < before.observed_generation {
        return history;
    }
    for fallen in &report.fallen {
        mark(&mut history, fallen, now);
    }
    if let Some(serving) = &report.serving {
        let is_known = |past: &PastRevision| past.key == serving.key && past.outcome == Outcome::Serving;
        if !history.iter().any(is_known) {
            for past in history.iter_mut().filter(|past| past.outcome == Outcome::Serving) {
                past.outcome = Outcome::Superseded;
                past.since = now.to_owned();
            }
            history.retain(|past| past.key != serving.key);
            insert(&mut history, serving, now);
        }
    }
    history.truncate(HISTORY_MAX);
    history
}

/// Marks a revision that fell; one that serves again meanwhile is left as it is.
fn mark(history: &mut Vec<PastRevision>, fallen: &PastRevision, now: &str) {
    match history.iter_mut().find(|past| past.key == fallen.key) {
        Some(past) if past.outcome == fallen.outcome => {}
        // It was asked for again since and took its seat: what it did before is past.
        Some(past) if past.outcome == Outcome::Superseded => {}
        Some(past) => {
            past.outcome = fallen.outcome;
            past.reason = fallen.reason.clone();
            past.since = now.to_owned();
        }
        None => insert(history, fallen, now),
    }
}

fn insert(history: &mut Vec<PastRevision>, past: &PastRevision, now: &str) {
    let newest = history.iter().map(|past| past.number).max().unwrap_or(0);
    let past = PastRevision {
        number: newest + 1,
        since: now.to_owned(),
        ..past.clone()
    };
    history.insert(0, past);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(key: &str, outcome: Outcome) -> PastRevision {
        PastRevision {
            key: key.into(),
            outcome,
            ..PastRevision::default()
        }
    }

    fn shown(history: &[PastRevision]) -> String {
        let one = |past: &PastRevision| format!("{}:{} {:?}", past.number, past.key, past.outcome);
        history.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn revisions_come_go_fall_and_come_back() {
        let mut status = PluginStatus::default();
        let mut fallen: Vec<PastRevision> = Vec::new();
        for (serving, fell, wanted) in [
            ("a", None, "1:a Serving"),
            ("a", None, "1:a Serving"),
            ("b", None, "2:b Serving, 1:a Superseded"),
            ("a", Some("b"), "3:a Serving, 2:b RolledBack"),
            ("a", None, "3:a Serving, 2:b RolledBack"),
            ("a", Some("c"), "4:c RolledBack, 3:a Serving, 2:b RolledBack"),
            ("b", None, "5:b Serving, 4:c RolledBack, 3:a Superseded"),
        ] {
            if serving == "b" {
                fallen.clear();
            }
            fallen.extend(fell.map(|key| past(key, Outcome::RolledBack)));
            let report = Report {
                generation: Some(1),
                serving: Some(past(serving, Outcome::Serving)),
                fallen: fallen.clone(),
                ..Report::default()
            };
            status.history = after(&status, &report, "now");
            assert_eq!(shown(&status.history), wanted);
        }
        let old = Report {
            serving: Some(past("z", Outcome::Serving)),
            ..Report::default()
        };
        status.observed_generation = Some(2);
        assert_eq!(
            after(&status, &old, "now"),
            status.history,
            "a host that is behind"
        );
        status.observed_generation = None;
        for n in 0..2 * HISTORY_MAX {
            let report = Report {
                serving: Some(past(&format!("n{n}"), Outcome::Serving)),
                ..Report::default()
            };
            status.history = after(&status, &report, "now");
        }
        assert_eq!(status.history.len(), HISTORY_MAX);
        assert_eq!(status.history[0].number, 25);
    }
}
