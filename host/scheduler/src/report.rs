//! What users read about a cycle: the message of events and conditions, in the original's words.

use std::collections::BTreeMap;

use crate::cycle::Refusal;

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}.`
///
/// What a post-filter has to say follows.
pub(crate) fn unschedulable(nodes: usize, refusals: &[Refusal], way: &str) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for refusal in refusals.iter().filter(|refusal| !refusal.of_pod) {
        *counts.entry(&refusal.rejection.reason).or_default() += refusal.rejection.nodes.count();
    }
    let of_pod = refusals.iter().filter(|refusal| refusal.of_pod);
    let mut reasons: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .chain(of_pod.map(|refusal| refusal.rejection.reason.clone()))
        .collect();
    reasons.sort();
    let text = format!("0/{nodes} nodes are available: {}.", reasons.join(", "));
    match way {
        "" => text,
        way => format!("{text} {way}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_points::Bits;
    use capstan_points::scheduler::Rejection;

    #[test]
    fn reasons_are_counted_over_plugins_and_sorted_as_the_original_sorts_them() {
        let row = |plugin: &str, reason: &str, nodes, of_pod| Refusal {
            plugin: plugin.to_owned(),
            rejection: Rejection {
                reason: reason.to_owned(),
                resolvable: true,
                nodes: Bits::all_below(nodes),
            },
            of_pod,
        };
        let rows = [
            row("b", "Too many pods", 2, false),
            row("a", "Insufficient cpu", 1, false),
            row("c", "Insufficient cpu", 1, false),
        ];
        assert_eq!(
            unschedulable(3, &rows, ""),
            "0/3 nodes are available: 2 Insufficient cpu, 2 Too many pods."
        );
        assert_eq!(
            unschedulable(3, &[row("v", "no such claim", 3, true)], "preemption: no."),
            "0/3 nodes are available: no such claim. preemption: no."
        );
        assert_eq!(unschedulable(0, &[], ""), "no nodes available to schedule pods");
    }
}
