//! Two minutes of every fault against the store as processes, and a check of all that its clients saw.
//!
//! `cargo xtask bench chaos` does the same for longer. A run prints its seed, and keeps the history and the
//! members' output when a promise was broken.

use std::time::Duration;

use capstan_tests::chaos::members::Program;
use capstan_tests::chaos::run::{Options, run};

fn check(members: usize, length: Duration) {
    let options = Options {
        program: Program::find(),
        members,
        length,
        hold: Duration::from_secs(1)..Duration::from_millis(2_500),
        seed: fastrand::u64(..1_000_000),
        missed: 3_000,
        only: None,
        without: None,
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
    check(1, Duration::from_secs(15));
    check(3, Duration::from_secs(80));
}
