//! What users read about a cycle: the message of events and conditions, in the original's words.

use std::collections::BTreeMap;

use capstan_points::scheduler::Rejection;

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}.`
pub(crate) fn unschedulable(nodes: usize, rejections: &[(String, Rejection)]) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, rejection) in rejections {
        *counts.entry(&rejection.reason).or_default() += rejection.nodes.count();
    }
    let mut reasons: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_points::Bits;

    #[test]
    fn reasons_are_counted_over_plugins_and_sorted_as_the_original_sorts_them() {
        let row = |plugin: &str, reason: &str, nodes| {
            let nodes = Bits::all_below(nodes);
            (
                plugin.to_owned(),
                Rejection {
                    reason: reason.to_owned(),
                    resolvable: true,
                    nodes,
                },
            )
        };
        let rows = [
            row("b", "Too many pods", 2),
            row("a", "Insufficient cpu", 1),
            row("c", "Insufficient cpu", 1),
        ];
        assert_eq!(
            unschedulable(3, &rows),
            "0/3 nodes are available: 2 Insufficient cpu, 2 Too many pods."
        );
        assert_eq!(unschedulable(0, &[]), "no nodes available to schedule pods");
    }
}
