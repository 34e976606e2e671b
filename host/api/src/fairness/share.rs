//! How the server's seats are shared among priority levels. Pure.
//!
//! Each level has a nominal share; what it does not need it lends, as far as its configuration allows, to
//! those that need more. The arithmetic is the original's: every level gets its target times one common
//! factor, within its bounds, so that all seats are given out.

/// What a level has and wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Claim {
    /// Never below it.
    pub min: f64,
    /// Never above it.
    pub max: f64,
    /// What it wants; at least `min`.
    pub target: f64,
}

/// A target of nothing would take part in nothing.
const TARGET_MIN: f64 = 0.001;
/// Halvings of the interval in which the common factor is looked for.
const STEPS: usize = 64;

/// The seats of each level, `total` together as far as the bounds allow.
pub(super) fn allocate(total: f64, claims: &[Claim]) -> Vec<f64> {
    let at = |factor: f64| -> Vec<f64> {
        claims
            .iter()
            .map(|claim| (claim.target.max(TARGET_MIN) * factor).clamp(claim.min, claim.max.max(claim.min)))
            .collect()
    };
    let sum = |factor: f64| at(factor).iter().sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while sum(high) < total && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if sum(middle) < total {
            low = middle;
        } else {
            high = middle;
        }
    }
    at(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_seats_are_given_within_the_bounds() {
        let claim = |min: f64, max: f64, target: f64| Claim { min, max, target };
        for (total, claims, expected) in [
            (
                100.0,
                vec![claim(10.0, 100.0, 10.0), claim(10.0, 100.0, 40.0)],
                [20.0, 80.0],
            ),
            (
                100.0,
                vec![claim(50.0, 100.0, 50.0), claim(10.0, 100.0, 200.0)],
                [50.0, 50.0],
            ),
            (
                100.0,
                vec![claim(5.0, 20.0, 20.0), claim(5.0, 200.0, 5.0)],
                [20.0, 80.0],
            ),
            (
                10.0,
                vec![claim(20.0, 30.0, 20.0), claim(5.0, 9.0, 5.0)],
                [20.0, 5.0],
            ),
        ] {
            let got: Vec<f64> = allocate(total, &claims).iter().map(|one| one.round()).collect();
            assert_eq!(got, expected, "{total} {claims:?}");
        }
    }
}
