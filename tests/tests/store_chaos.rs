//! Two minutes of every fault against the store as processes, and a check of all that its clients saw.
//!
//! `cargo xtask bench chaos` does the same for longer. A run prints its seed, and keeps the history and the
//! members' output when a promise was broken; `CAPSTAN_CHAOS_SEED` takes a seed again, and
//! `CAPSTAN_CHAOS_STORE=/usr/bin/etcd` runs the original. What the machine does not permit is said and left
//! out, but fails the test under `CI=true`.

use std::time::Duration;

use capstan_tests::chaos::members::Program;
use capstan_tests::chaos::run::{Options, run};

/// That of an earlier run, or a new one.
fn seed() -> u64 {
    match std::env::var("CAPSTAN_CHAOS_SEED") {
        Ok(seed) => seed.parse().expect("CAPSTAN_CHAOS_SEED is a number"),
        Err(_) => fastrand::u64(..1_000_000),
    }
}

fn check(members: usize, length: Duration) {
    let options = Options {
        program: Program::find(),
        members,
        length,
        hold: Duration::from_millis(800)..Duration::from_secs(2),
        seed: seed(),
        missed: 2_000,
        only: None,
        without: Some("calm".to_owned()),
    };
    println!("seed {}: {members} members for {length:?}", options.seed);
    let outcome = run(&options, |line| println!("{line}")).expect("the machine has what a run needs");
    println!("\n{}", outcome.table);
    let violations = outcome.violations.join("\n");
    assert!(
        violations.is_empty(),
        "seed {}: {violations}\nkept in {:?}",
        options.seed,
        outcome.kept
    );
    let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(
        !in_ci || outcome.missing.is_empty(),
        "this machine is without {:?}",
        outcome.missing
    );
}

#[test]
fn one_member_and_then_three_keep_every_promise_through_every_fault() {
    check(1, Duration::from_secs(12));
    check(3, Duration::from_secs(90));
}
