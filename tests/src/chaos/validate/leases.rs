//! No lease ends before its time, whoever leads, and an abandoned one does end.
//!
//! Counted from when the last keep-alive that was granted was asked, by the client's clock: the server can only
//! have heard it later. The end is when a watch first told of the key's removal, which can only be late.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::chaos::history::{History, Lease, Said};

use super::Findings;

/// How long after its time an abandoned lease may still stand: its leader may have changed several times, and
/// each new one gives it its whole time again.
const LATE_MAX: Duration = Duration::from_secs(90);

pub(super) fn check(history: &History, findings: &mut Findings) {
    let mut removed: HashMap<&str, u64> = HashMap::new();
    let mut put: HashSet<&str> = HashSet::new();
    let mut last = 0;
    for frame in history.streams.iter().flat_map(|stream| &stream.frames) {
        last = last.max(frame.received);
        let Said::Events { events, .. } = &frame.said else {
            continue;
        };
        put.extend(
            events
                .iter()
                .filter(|event| event.put.is_some())
                .map(|event| event.key.as_str()),
        );
        for event in events.iter().filter(|event| event.put.is_none()) {
            let at = removed.entry(&event.key).or_insert(frame.received);
            *at = frame.received.min(*at);
        }
    }
    let mut wrong = Vec::new();
    // One whose key was never put, since that put got lost, has no end that could be seen.
    for lease in history
        .leases
        .iter()
        .filter(|lease| put.contains(lease.key.as_str()))
    {
        if let Err(message) = keeps_its_time(lease, removed.get(lease.key.as_str()).copied(), last) {
            wrong.push(message);
        }
    }
    findings.broken("leases last their time and end", wrong);
    findings.counted("leases", history.leases.len());
    findings.counted(
        "keep-alives",
        history.leases.iter().map(|lease| lease.renewals.len()).sum(),
    );
}

fn nanoseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0) * 1_000_000_000
}

fn keeps_its_time(lease: &Lease, removed: Option<u64>, now: u64) -> Result<(), String> {
    let granted = lease.granted.0 + nanoseconds(lease.granted.1);
    let renewed = |before: u64| {
        let heard = lease
            .renewals
            .iter()
            .filter(move |(_, answered, ttl)| *answered < before && *ttl > 0);
        heard
            .map(|(asked, _, ttl)| asked + nanoseconds(*ttl))
            .max()
            .unwrap_or(0)
            .max(granted)
    };
    match removed {
        Some(at) if lease.revoked.is_some_and(|revoked| revoked < at) => Ok(()),
        Some(at) if at < renewed(at) => {
            let early = Duration::from_nanos(renewed(at) - at);
            Err(format!("{lease:?} ended at {at}, {early:?} early"))
        }
        Some(_) => Ok(()),
        None => {
            let due = renewed(u64::MAX) + LATE_MAX.as_nanos() as u64;
            match lease.abandoned {
                Some(_) if now > due => Err(format!("{lease:?} still stood at {now}")),
                _ => Ok(()),
            }
        }
    }
}
