//! A host's report in the object's status, beside what other hosts said there. Pure: the time is an argument.
//!
//! The newest writer's conditions stand; `Ready` is true only while every host that is listed is ready.

use capstan_kinds::plugin::{Condition, HostStatus, PluginStatus, Verdicts};

use crate::error::Step;
use crate::history;
use crate::report::{Report, Said};

/// Hosts that one status lists.
const HOSTS_MAX: usize = 512;

/// The status after this report. `now` is RFC 3339.
pub(crate) fn merge(before: &PluginStatus, report: &Report, now: &str) -> PluginStatus {
    let mut hosts: Vec<HostStatus> = before
        .hosts
        .iter()
        .filter(|host| host.name != report.host.name)
        .take(HOSTS_MAX - 1)
        .cloned()
        .collect();
    hosts.push(report.host.clone());
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let unready = hosts
        .iter()
        .find(|host| !host.ready && host.name != report.host.name);
    let conditions = report.conditions.iter().map(|said| {
        let said = match unready {
            Some(host) if said.type_name == Step::Ready.condition() && said.status == "True" => Said {
                type_name: said.type_name,
                status: "False",
                reason: "HostNotReady",
                message: format!("on {}: {}", host.name, host.message),
            },
            _ => said.clone(),
        };
        condition(&before.conditions, said, report.generation, now)
    });
    PluginStatus {
        observed_generation: report.generation,
        revision: report.title.clone(),
        digest: report.digest.clone(),
        worlds: report.worlds.clone(),
        conditions: conditions.collect(),
        calls: hosts.iter().map(|host| host.calls).sum(),
        p99_micros: hosts.iter().map(|host| host.p99_micros).max().unwrap_or(0),
        traps: hosts.iter().map(|host| host.traps).sum(),
        last_error: report.last_error.clone(),
        verdicts: hosts.iter().fold(Verdicts::default(), |mut sum, host| {
            sum += host.verdicts;
            sum
        }),
        candidate: report.candidate.clone(),
        history: history::after(before, report, now),
        hosts,
    }
}

/// A condition keeps its time for as long as its status stays.
fn condition(before: &[Condition], said: Said, generation: Option<i64>, now: &str) -> Condition {
    let same = before
        .iter()
        .find(|c| c.type_name == said.type_name && c.status == said.status);
    Condition {
        type_name: said.type_name.into(),
        status: said.status.into(),
        reason: said.reason.into(),
        message: said.message,
        last_transition_time: same.map_or(now, |c| &c.last_transition_time).to_owned(),
        observed_generation: generation,
    }
}

/// How two statuses differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Difference {
    None,
    /// Counts alone: worth a write now and then.
    Counts,
    /// Something that a user waits for.
    Facts,
}

pub(crate) fn difference(before: &PluginStatus, after: &PluginStatus) -> Difference {
    if before == after {
        return Difference::None;
    }
    if without_counts(before) == without_counts(after) {
        Difference::Counts
    } else {
        Difference::Facts
    }
}

fn without_counts(status: &PluginStatus) -> PluginStatus {
    let mut status = PluginStatus {
        calls: 0,
        p99_micros: 0,
        verdicts: Verdicts::default(),
        ..status.clone()
    };
    for host in &mut status.hosts {
        (host.calls, host.p50_micros, host.p99_micros) = (0, 0, 0);
        host.memory_bytes = 0;
        host.verdicts = Verdicts::default();
    }
    if let Some(candidate) = &mut status.candidate {
        (
            candidate.calls,
            candidate.p99_micros,
            candidate.serving_p99_micros,
        ) = (0, 0, 0);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(host: &str, ready: bool, calls: u64) -> Report {
        let status = if ready { "True" } else { "False" };
        let said = Said {
            type_name: "Ready",
            status,
            reason: "Because",
            message: String::new(),
        };
        let mut report = Report {
            conditions: vec![said],
            ..Report::default()
        };
        report.host = HostStatus {
            name: host.into(),
            ready,
            calls,
            ..HostStatus::default()
        };
        report
    }

    #[test]
    fn hosts_stand_side_by_side_and_all_must_be_ready() {
        let first = merge(&PluginStatus::default(), &report("b", false, 2), "t1");
        let second = merge(&first, &report("a", true, 3), "t2");
        assert_eq!(
            second.hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(
            (second.calls, second.conditions[0].reason.as_str()),
            (5, "HostNotReady")
        );
        assert_eq!(
            second.conditions[0].last_transition_time, "t1",
            "it was False before"
        );
        let third = merge(&second, &report("b", true, 2), "t3");
        assert_eq!(
            (
                &*third.conditions[0].status,
                &*third.conditions[0].last_transition_time
            ),
            ("True", "t3")
        );
    }

    #[test]
    fn counts_are_told_from_facts() {
        let before = merge(&PluginStatus::default(), &report("a", true, 1), "t");
        let check = |report: &Report| difference(&before, &merge(&before, report, "t2"));
        assert_eq!(check(&report("a", true, 1)), Difference::None);
        assert_eq!(check(&report("a", true, 9)), Difference::Counts);
        assert_eq!(check(&report("a", false, 1)), Difference::Facts);
    }
}
