//! When a clock counts as wrong.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::{
    Config, HandOff, Plugin,
    problem::{ConditionStatus, Finding},
};
use problem_clock::{Clock, LeaseSpec, NodeLease};

/// 2026-01-02T03:04:05Z.
const NOW_MS: u64 = 1_767_323_045_000;

fn clock() -> Clock {
    Clock::new(Config::read(r#"{"skew": "5s", "readings": 2}"#).unwrap()).unwrap()
}

/// Leases of this node and of others whose seconds are given.
fn leases(seconds: &[&str]) -> Vec<NodeLease> {
    let lease = |second: &&str| NodeLease {
        spec: LeaseSpec {
            renew_time: format!("2026-01-02T03:{second}.000000Z"),
        },
    };
    ["04:03"].iter().chain(seconds).map(lease).collect()
}

fn look(clock: &mut Clock, seconds: &[&str], now_ms: u64, uptime: &str) -> Vec<String> {
    let mut found = Vec::new();
    clock.judge(uptime, &leases(seconds), now_ms, &mut found).unwrap();
    let short = |finding: &Finding| match finding {
        Finding::Condition(c) => format!(
            "{}={} {}",
            c.type_name,
            c.status == ConditionStatus::Yes,
            c.message
        ),
        Finding::Event(event) => format!("{}: {}", event.reason, event.message),
    };
    found.iter().map(short).collect()
}

#[test]
fn most_of_the_other_nodes_decide_who_is_wrong() {
    let well = "ClockSkewed=false the node's clock is as the other nodes'";
    let behind =
        "ClockSkewed=true by the leases of 2 other nodes this node's clock is behind by 15000 ms or more";
    let ahead =
        "ClockSkewed=true by the leases of 3 other nodes this node's clock is ahead by 20000 ms or more";
    for (seconds, said) in [
        (&["04:01", "04:09", "03:59"][..], well),
        (&["04:20", "04:22", "04:04"], behind),
        // One node alone is itself the one with the wrong clock, and two cannot say who is.
        (&["04:20", "04:02", "04:04"], well),
        (&["04:20"], well),
        (&["03:35", "03:34", "03:30"], ahead),
    ] {
        let mut clock = clock();
        let mut all = look(&mut clock, seconds, NOW_MS, "100.00 1.0");
        all.extend(look(&mut clock, seconds, NOW_MS, "100.00 1.0"));
        assert_eq!(all.last().map(String::as_str), Some(said), "{seconds:?}");
    }
}

#[test]
fn a_step_shows_against_the_uptime() {
    let mut clock = clock();
    look(&mut clock, &[], NOW_MS, "100.00 1.0");
    assert_eq!(
        look(&mut clock, &[], NOW_MS + 10_000, "110.20 1.0"),
        Vec::<String>::new()
    );
    assert_eq!(
        look(&mut clock, &[], NOW_MS + 50_000, "120.20 1.0"),
        ["ClockStepped: the node's clock was set forward by 30000 ms"]
    );
    assert_eq!(
        look(&mut clock, &[], NOW_MS + 30_000, "130.20 1.0"),
        ["ClockStepped: the node's clock was set back by 30000 ms"]
    );
    assert!(clock.judge("soon", &[], NOW_MS, &mut Vec::new()).is_err());
}

#[test]
fn the_next_revision_goes_on_from_there() {
    let (mut first, mut next) = (clock(), clock());
    let off = ["04:20", "04:22", "04:24"];
    look(&mut first, &off, NOW_MS, "100.00 1.0");
    assert_eq!(look(&mut first, &off, NOW_MS, "100.00 1.0").len(), 1);
    next.restore(&first.save()).unwrap();
    assert_eq!(
        look(&mut next, &off, NOW_MS, "100.00 1.0").len(),
        1,
        "said again once"
    );
    assert_eq!(look(&mut next, &off, NOW_MS, "100.00 1.0"), Vec::<String>::new());
}
