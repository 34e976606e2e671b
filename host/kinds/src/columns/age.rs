//! Ages as kubectl shows them: `45s`, `5m12s`, `3h`, `2d4h`, `3y`.
//! Invariants: the same rounding as apimachinery's HumanDuration; a time that cannot be read shows as
//! `<unknown>`. The columns call it; times are RFC 3339 text of an object and a present in seconds.

use jiff::Timestamp;
use serde_json::Value;

/// Seconds since 1970 of an RFC 3339 text.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// The age of the time at a pointer of an object.
pub(super) fn since(object: &Value, pointer: &str, now_seconds: i64) -> String {
    let time = object.pointer(pointer).and_then(Value::as_str);
    time.and_then(seconds)
        .map_or_else(|| "<unknown>".to_string(), |then| human(now_seconds - then))
}

/// A span of seconds, short.
pub(crate) fn human(span_seconds: i64) -> String {
    let (minutes, hours, days) = (span_seconds / 60, span_seconds / 3600, span_seconds / 86400);
    let pair = |high: i64, unit: char, low: i64, low_unit: char| {
        if low == 0 {
            format!("{high}{unit}")
        } else {
            format!("{high}{unit}{low}{low_unit}")
        }
    };
    match span_seconds {
        ..-1 => "<invalid>".to_string(),
        -1..0 => "0s".to_string(),
        0..120 => format!("{span_seconds}s"),
        120..600 => pair(minutes, 'm', span_seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn rounds_as_kubectl() {
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (305, "5m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000 + 86_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(human(seconds), expected, "{seconds}");
        }
    }
}
