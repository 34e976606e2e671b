//! Columns of scores, added up by weight, and the best of the nodes.
//!
//! Among those with the highest total one is drawn at random, as the original does. The best few are kept with what
//! each policy gave them, for whoever asks why.

use capstan_points::Bits;
use capstan_points::Seat;
use capstan_points::scheduler::{NodeId, Pod, Policy};

use crate::cycle::{Failed, excuse};

/// Nodes whose scores are kept.
const KEPT_MAX: usize = 5;

/// What the nodes that could take a pod were given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranking {
    /// Policies that gave scores, with their weights.
    pub(crate) policies: Vec<(String, i64)>,
    /// The best nodes, the best first; the chosen one is among the first equals.
    pub(crate) best: Vec<Scored>,
    /// How many nodes could take the pod.
    pub(crate) feasible: usize,
}

/// A node and what it was given.
#[derive(Debug, Clone)]
pub(crate) struct Scored {
    pub(crate) node: NodeId,
    pub(crate) total: i64,
    /// By policy, before weights.
    pub(crate) scores: Vec<i32>,
}

/// Asks all who score about the nodes, of which there are some. Returns the chosen one too.
pub(crate) fn rank(
    seats: &[Seat<dyn Policy>],
    pod: &Pod,
    left: &Bits,
    feasible: &[NodeId],
) -> Result<(NodeId, Ranking), Failed> {
    let mut totals = vec![0i64; feasible.len()];
    let mut columns: Vec<Vec<i32>> = Vec::new();
    let mut policies = Vec::new();
    for seat in seats.iter().filter(|seat| seat.policy.asks().score) {
        let sits_out =
            seat.policy.asks().pre_score && excuse(seat, seat.policy.pre_score(pod, left))? != Some(true);
        if sits_out {
            continue;
        }
        let Some(column) = excuse(seat, seat.policy.score(pod, left))? else {
            continue;
        };
        let weight = seat.policy.weight();
        for (total, score) in totals.iter_mut().zip(&column) {
            *total += i64::from(*score) * weight;
        }
        policies.push((seat.plugin.clone(), weight));
        columns.push(column);
    }
    let chosen = draw(&totals);
    let scored = |at: usize| Scored {
        node: feasible[at],
        total: totals[at],
        scores: columns.iter().map(|column| column[at]).collect(),
    };
    let ranking = Ranking {
        policies,
        best: highest(&totals, chosen).into_iter().map(scored).collect(),
        feasible: feasible.len(),
    };
    Ok((feasible[chosen], ranking))
}

/// The position of one of the highest totals.
fn draw(totals: &[i64]) -> usize {
    let highest = totals.iter().copied().max().unwrap_or_default();
    let equals = totals.iter().filter(|total| **total == highest).count();
    let drawn = fastrand::usize(..equals.max(1));
    let mut among = totals.iter().enumerate().filter(|(_, total)| **total == highest);
    among.nth(drawn).map_or(0, |(at, _)| at)
}

/// The positions of the highest totals, the drawn one first.
fn highest(totals: &[i64], drawn: usize) -> Vec<usize> {
    let mut best = vec![drawn];
    let mut least = i64::MIN;
    for (at, &total) in totals.iter().enumerate() {
        if at == drawn || (best.len() == KEPT_MAX && total <= least) {
            continue;
        }
        let place = 1 + best[1..].partition_point(|&other| totals[other] >= total);
        best.insert(place, at);
        best.truncate(KEPT_MAX);
        least = best.last().map_or(least, |&last| totals[last]);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawn_one_leads_and_the_best_follow_in_order() {
        let totals = [1, 9, 3, 9, 7, 8, 2];
        let drawn = draw(&totals);
        assert!(drawn == 1 || drawn == 3);
        assert_eq!(highest(&totals, 3), [3, 1, 5, 4, 2]);
        assert_eq!(highest(&[5], 0), [0]);
    }
}
