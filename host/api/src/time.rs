//! Times as Kubernetes writes them: RFC 3339 in UTC, in whole seconds.

use jiff::{Timestamp, Unit};

/// Now.
pub(crate) fn now() -> String {
    at(0)
}

/// So many seconds from now.
pub(crate) fn at(seconds: i64) -> String {
    let now = Timestamp::now();
    let shifted = Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now);
    shifted.round(Unit::Second).unwrap_or(shifted).to_string()
}

/// So many seconds from now, as HTTP's headers write it.
pub(crate) fn http_date(seconds: i64) -> String {
    let now = Timestamp::now();
    let shifted = Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now);
    shifted.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}
