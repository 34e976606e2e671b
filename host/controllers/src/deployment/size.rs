//! How many pods each ReplicaSet of a Deployment is to have: rolling update and proportional scaling. Pure.
//!
//! Invariants (rolling update): never more than `replicas + maxSurge` pods wanted in all, never fewer than
//! `replicas - maxUnavailable` available by our doing. The arithmetic is the original's.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision::{note_size, noted_desired, noted_max};

/// The numbers of a Deployment's strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) desired: i32,
    pub(crate) surge: i32,
    pub(crate) unavailable: i32,
    pub(crate) recreate: bool,
}

impl Limits {
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let desired = spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0);
        let strategy = spec.and_then(|spec| spec.strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Self {
                desired,
                surge: 0,
                unavailable: 0,
                recreate: true,
            };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = rolling
            .and_then(|rolling| rolling.max_surge.as_ref())
            .unwrap_or(&quarter);
        let unavailable = rolling
            .and_then(|rolling| rolling.max_unavailable.as_ref())
            .unwrap_or(&quarter);
        let surge = scaled(surge, desired, true);
        let mut unavailable = scaled(unavailable, desired, false);
        if surge == 0 && unavailable == 0 {
            // Both round to zero: something must give, or nothing could ever roll.
            unavailable = 1;
        }
        Self {
            desired,
            surge,
            unavailable: unavailable.min(desired),
            recreate: false,
        }
    }

    pub(crate) fn max(&self) -> i32 {
        if self.desired == 0 {
            0
        } else {
            self.desired + self.surge
        }
    }
}

/// A count, or a share of `total`, rounded up or down.
pub(crate) fn scaled(value: &IntOrString, total: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(count) => (*count).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent.max(0) * i64::from(total);
            let count = if up { (product + 99) / 100 } else { product / 100 };
            i32::try_from(count).unwrap_or(i32::MAX)
        }
    }
}

pub(crate) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

pub(crate) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

/// Sets the size, and notes the size of the whole.
pub(crate) fn resize(set: &mut ReplicaSet, size: i32, limits: &Limits) {
    set.spec.get_or_insert_with(Default::default).replicas = Some(size);
    note_size(set, limits.desired, limits.desired + limits.surge);
}

/// The size that a new ReplicaSet may have now; `all` is the sum of all sets' sizes.
pub(crate) fn size_of_new(limits: &Limits, all: i32, current: i32) -> i32 {
    if limits.recreate {
        return limits.desired;
    }
    let max = limits.desired + limits.surge;
    if all >= max {
        return current;
    }
    (current + (max - all)).min(limits.desired)
}

/// One step of a rolling update. Answers whether anything changed.
pub(crate) fn roll(sets: &mut [ReplicaSet], new: usize, limits: &Limits) -> bool {
    let all: i32 = sets.iter().map(wanted).sum();
    let current = wanted(&sets[new]);
    let size = if current > limits.desired {
        limits.desired
    } else {
        size_of_new(limits, all, current)
    };
    if size != current {
        resize(&mut sets[new], size, limits);
        return true;
    }
    shrink_old(sets, new, limits)
}

fn shrink_old(sets: &mut [ReplicaSet], new: usize, limits: &Limits) -> bool {
    let old_total: i32 = sets
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != new)
        .map(|(_, set)| wanted(set))
        .sum();
    if old_total == 0 {
        return false;
    }
    let all = old_total + wanted(&sets[new]);
    let min_available = limits.desired - limits.unavailable;
    let new_unavailable = wanted(&sets[new]) - available(&sets[new]);
    let mut may_shrink = all - min_available - new_unavailable;
    if may_shrink <= 0 {
        return false;
    }
    let mut order: Vec<usize> = (0..sets.len())
        .filter(|at| *at != new && wanted(&sets[*at]) > 0)
        .collect();
    order.sort_by_key(|at| sets[*at].metadata.creation_timestamp.as_ref().map(|time| time.0));
    let mut changed = false;
    // Pods that do not work go first, whatever the budget of availability says.
    for &at in &order {
        let size = wanted(&sets[at]);
        let broken = (size - available(&sets[at])).clamp(0, may_shrink);
        if broken > 0 {
            resize(&mut sets[at], size - broken, limits);
            may_shrink -= broken;
            changed = true;
        }
    }
    let available_now: i32 = sets.iter().map(|set| available(set).min(wanted(set))).sum();
    let mut may_lose = available_now - min_available;
    for &at in &order {
        if may_lose <= 0 {
            break;
        }
        let size = wanted(&sets[at]);
        let lose = size.min(may_lose);
        if lose > 0 {
            resize(&mut sets[at], size - lose, limits);
            may_lose -= lose;
            changed = true;
        }
    }
    changed
}

/// Whether the Deployment was scaled since its sets were last sized.
pub(crate) fn was_scaled(sets: &[ReplicaSet], limits: &Limits) -> bool {
    sets.iter()
        .any(|set| wanted(set) > 0 && noted_desired(set).is_some_and(|noted| noted != limits.desired))
}

/// Spreads a change of scale over the active sets in proportion to their sizes.
pub(crate) fn scale(sets: &mut [ReplicaSet], new: Option<usize>, limits: &Limits) {
    let mut active: Vec<usize> = (0..sets.len()).filter(|at| wanted(&sets[*at]) > 0).collect();
    let only = match (active.len(), new) {
        (0, Some(new)) => Some(new),
        (1, _) => active.first().copied(),
        _ => None,
    };
    if let Some(at) = only {
        if wanted(&sets[at]) != limits.desired || noted_desired(&sets[at]) != Some(limits.desired) {
            resize(&mut sets[at], limits.desired, limits);
        }
        return;
    }
    let saturated = new.is_some_and(|new| {
        wanted(&sets[new]) == limits.desired
            && noted_desired(&sets[new]) == Some(limits.desired)
            && available(&sets[new]) == limits.desired
    });
    if saturated {
        for at in active.into_iter().filter(|at| Some(*at) != new) {
            resize(&mut sets[at], 0, limits);
        }
        return;
    }
    if limits.recreate {
        return;
    }
    let all: i32 = sets.iter().map(wanted).sum();
    let mut to_add = limits.max() - all;
    // The largest, and of equals the newest, bears the rounding.
    active.sort_by_key(|at| {
        let created = sets[*at].metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(wanted(&sets[*at])), std::cmp::Reverse(created))
    });
    let asked = to_add;
    for &at in &active {
        let size = wanted(&sets[at]);
        let max_before = noted_max(&sets[at]).filter(|max| *max > 0).unwrap_or(all.max(1));
        let share = f64::from(size) * f64::from(limits.desired + limits.surge) / f64::from(max_before);
        #[allow(clippy::cast_possible_truncation)]
        let fraction = share.round() as i32 - size;
        let step = if asked > 0 {
            fraction.clamp(0, to_add)
        } else {
            fraction.clamp(to_add, 0)
        };
        resize(&mut sets[at], (size + step).max(0), limits);
        to_add -= step;
    }
    if let (Some(&largest), true) = (active.first(), to_add != 0) {
        let size = wanted(&sets[largest]);
        resize(&mut sets[largest], (size + to_add).max(0), limits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn set(size: i32, available: i32, noted: Option<(i32, i32)>) -> ReplicaSet {
        let mut set: ReplicaSet = from_value(json!({
            "metadata": {"name": "s"},
            "spec": {"replicas": size, "selector": {}},
            "status": {"replicas": size, "availableReplicas": available},
        }))
        .unwrap();
        if let Some((desired, max)) = noted {
            note_size(&mut set, desired, max);
        }
        set
    }

    fn limits(desired: i32, surge: i32, unavailable: i32) -> Limits {
        Limits {
            desired,
            surge,
            unavailable,
            recreate: false,
        }
    }

    #[test]
    fn shares_round_as_the_original_does() {
        let of = |surge: serde_json::Value, unavailable: serde_json::Value, replicas: i32| {
            let deployment: Deployment = from_value(json!({"spec": {"replicas": replicas, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}))
            .unwrap();
            let limits = Limits::of(&deployment);
            (limits.surge, limits.unavailable)
        };
        assert_eq!(of(json!("25%"), json!("25%"), 3), (1, 0));
        assert_eq!(of(json!("25%"), json!("25%"), 10), (3, 2));
        assert_eq!(
            of(json!(0), json!("10%"), 3),
            (0, 1),
            "both zero would never roll"
        );
        assert_eq!(of(json!(2), json!(5), 3), (2, 3));
    }

    #[test]
    fn rolling_steps() {
        // (new size, new available, old size, old available) → sizes after, with 3 wanted, surge 1.
        let cases = [
            ("surge first", (0, 0, 3, 3), limits(3, 1, 0), (1, 3)),
            ("wait for the new one", (1, 0, 3, 3), limits(3, 1, 0), (1, 3)),
            ("then shrink the old", (1, 1, 3, 3), limits(3, 1, 0), (1, 2)),
            ("then grow", (1, 1, 2, 2), limits(3, 1, 0), (2, 2)),
            ("last old one", (3, 3, 1, 1), limits(3, 1, 0), (3, 0)),
            ("done", (3, 3, 0, 0), limits(3, 1, 0), (3, 0)),
            (
                "without surge shrink first",
                (0, 0, 3, 3),
                limits(3, 0, 1),
                (0, 2),
            ),
            (
                "broken old ones go at once",
                (1, 0, 3, 0),
                limits(3, 1, 1),
                (1, 2),
            ),
            ("new too large", (5, 5, 0, 0), limits(3, 1, 0), (3, 0)),
        ];
        for (name, (new, new_up, old, old_up), limits, want) in cases {
            let mut sets = [set(new, new_up, None), set(old, old_up, None)];
            roll(&mut sets, 0, &limits);
            assert_eq!((wanted(&sets[0]), wanted(&sets[1])), want, "{name}");
        }
    }

    #[test]
    fn a_rollout_never_breaks_its_bounds() {
        for (desired, surge, unavailable) in [(1, 1, 0), (3, 1, 0), (10, 3, 2), (5, 0, 1), (4, 4, 4)] {
            let limits = limits(desired, surge, unavailable);
            let mut sets = [set(0, 0, None), set(desired, desired, None)];
            for step in 0.. {
                assert!(step < 100, "never ends: {limits:?}");
                let changed = roll(&mut sets, 0, &limits);
                assert!(
                    sets.iter().map(wanted).sum::<i32>() <= desired + surge,
                    "{limits:?}"
                );
                for set in &mut sets {
                    let size = wanted(set);
                    set.status.as_mut().unwrap().available_replicas = Some(available(set).min(size));
                }
                assert!(
                    sets.iter().map(available).sum::<i32>() >= desired - unavailable,
                    "{limits:?}"
                );
                if !changed && wanted(&sets[0]) == available(&sets[0]) {
                    break;
                }
                // One more pod comes up.
                if available(&sets[0]) < wanted(&sets[0]) {
                    let up = available(&sets[0]) + 1;
                    sets[0].status.as_mut().unwrap().available_replicas = Some(up);
                }
            }
            assert_eq!((wanted(&sets[0]), wanted(&sets[1])), (desired, 0));
        }
    }

    #[test]
    fn scaling_is_proportional() {
        let mut one = [set(3, 3, Some((3, 4)))];
        assert!(was_scaled(&one, &limits(5, 2, 1)));
        scale(&mut one, Some(0), &limits(5, 2, 1));
        assert_eq!(wanted(&one[0]), 5);
        assert!(!was_scaled(&one, &limits(5, 2, 1)));

        let mut two = [set(5, 5, Some((10, 13))), set(8, 8, Some((10, 13)))];
        scale(&mut two, Some(0), &limits(15, 3, 2));
        assert_eq!((wanted(&two[0]), wanted(&two[1])), (7, 11), "18 in all, 5 to 8");
        scale(&mut two, Some(0), &limits(0, 0, 0));
        assert_eq!((wanted(&two[0]), wanted(&two[1])), (0, 0));
    }
}
