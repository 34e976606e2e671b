//! What uptime and leases say of a clock. Pure.

use serde::Deserialize;

/// A node's lease, renewed by the node itself with the time that it has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// What it says.
    pub spec: LeaseSpec,
}

/// What a lease says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// For instance `2026-01-02T03:04:05.678901Z`.
    pub renew_time: String,
}

/// That most other nodes have another time.
#[derive(Debug, PartialEq)]
pub(crate) struct Skew {
    pub(crate) way: &'static str,
    pub(crate) by_ms: u64,
    pub(crate) nodes: usize,
}

/// How often nodes renew their leases, at most.
const RENEW_MS: i64 = 10_000;
/// A lease that looks older than this is of a node that is gone, not of one with another clock.
const GONE_MS: i64 = 600_000;

pub(crate) fn uptime_ms(text: &str) -> Option<u64> {
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1e3).round() as u64)
}

/// Whether most other nodes' clocks differ by more than the tolerance; the smallest of their differences.
pub(crate) fn skew(leases: &[Lease], now_ms: u64, tolerance_ms: u64) -> Option<Skew> {
    let (now_ms, tolerance_ms) = (now_ms.cast_signed(), tolerance_ms.cast_signed());
    let ahead = leases
        .iter()
        .filter_map(|lease| Some(millis(&lease.spec.renew_time)? - now_ms));
    let ahead: Vec<i64> = ahead.filter(|ahead| *ahead > -GONE_MS).collect();
    // This node's own lease is among them, and right by its own clock.
    let others = ahead.len().saturating_sub(1);
    let verdict = |way, differences: Vec<i64>| {
        let by_ms = differences.iter().min()?.unsigned_abs();
        let nodes = differences.len();
        (others >= 2 && nodes * 2 > others).then_some(Skew { way, by_ms, nodes })
    };
    let behind = ahead
        .iter()
        .copied()
        .filter(|ahead| *ahead > tolerance_ms)
        .collect();
    let before = ahead
        .iter()
        .map(|ahead| -ahead - RENEW_MS)
        .filter(|late| *late > tolerance_ms);
    verdict("behind", behind).or_else(|| verdict("ahead", before.collect()))
}

/// RFC 3339 in UTC as milliseconds since the Unix epoch.
fn millis(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let rest = text.get(19..)?.strip_suffix('Z')?;
    let fraction: f64 = if rest.is_empty() {
        0.0
    } else {
        format!("0{rest}").parse().ok()?
    };
    // Years begin in March, so that leap days come last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let (of_era, of_year) = (year.rem_euclid(400), (153 * month + 2) / 5 + day - 1);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + (fraction * 1e3).floor() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_around_leap_days() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-28T23:59:59.999000Z", Some(951_782_399_999)),
            ("2000-02-29T00:00:00.000000Z", Some(951_782_400_000)),
            ("2026-01-02T03:04:05.678901Z", Some(1_767_323_045_678)),
            ("2026-01-02T03:04:05+01:00", None),
            ("", None),
        ] {
            assert_eq!(millis(text), ms, "{text}");
        }
        assert_eq!(uptime_ms("12.34 99.9\n"), Some(12_340));
        assert_eq!(uptime_ms("-1 2"), None);
    }
}
