//! From raw scores to the contract's 0 to 100, the ways that the original's plugins do it.

/// The best score.
pub const SCORE_MAX: i64 = 100;

/// `dividend / divisor` of numbers that are seldom negative and mostly small. Division of 64 bits is several
/// times dearer than of 32, and the compilers of guests do not look at the values as those of hosts do.
#[inline]
pub fn quotient(dividend: i64, divisor: i64) -> i64 {
    match (u32::try_from(dividend), u32::try_from(divisor)) {
        (Ok(dividend), Ok(divisor)) => i64::from(dividend / divisor),
        _ => dividend / divisor,
    }
}

/// Scales so that the highest is 100; all zero stays zero.
pub fn by_highest(scores: &mut [i64]) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    if highest > 0 {
        scores
            .iter_mut()
            .for_each(|score| *score = quotient(SCORE_MAX * *score, highest));
    }
}

/// Scales so that 0 becomes 100 and the highest becomes 0: raw scores count what is bad.
pub fn by_highest_reversed(scores: &mut [i64]) {
    by_highest(scores);
    scores.iter_mut().for_each(|score| *score = SCORE_MAX - *score);
}

/// Scales so that the lowest is 0 and the highest 100; all equal becomes zero.
pub fn by_range(scores: &mut [i64]) {
    let lowest = scores.iter().copied().min().unwrap_or(0);
    let range = scores.iter().copied().max().unwrap_or(0) - lowest;
    for score in scores {
        *score = if range > 0 {
            (SCORE_MAX as f64 * ((*score - lowest) as f64 / range as f64)) as i64
        } else {
            0
        };
    }
}
