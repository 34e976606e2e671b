//! Hostile plugins beside one that means well: how late each is stopped, and what the other notices.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use capstan_points::admission::Policy;
use capstan_points::{Fault, FaultKind};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::Options;
use crate::attacks::{ATTACKS, compile_bomb, every_request};
use crate::measure::{Table, host, micros, plugin};
use crate::review::review;
use crate::wrap;

/// `spec.limits.deadline` where nothing is said.
const DEADLINE_MS: f64 = 10.0;
const VICTIM: &str = "denies-host-network";
/// How often the victim is asked.
const INTERVAL: Duration = Duration::from_millis(1);

fn object_name(attack: &str) -> String {
    attack.replace([' ', ','], "-")
}

pub(crate) fn measure(options: &Options, runtime: &Runtime, table: &mut Table) {
    let folder = tempfile::tempdir().expect("a folder");
    overruns(options, folder.path(), runtime, table);
    beside(options, folder.path(), runtime, table);
}

fn components() -> Vec<(String, Vec<u8>)> {
    let attacks = ATTACKS
        .iter()
        .map(|attack| (attack.name.to_owned(), attack.component()));
    let more = [
        (VICTIM.to_owned(), wrap::fixture(VICTIM)),
        ("bomb".to_owned(), compile_bomb(1_500, 400)),
    ];
    attacks.chain(more).collect()
}

/// A fresh instance each time: after three faults a plugin is set aside and stops nothing.
fn overruns(options: &Options, folder: &Path, runtime: &Runtime, table: &mut Table) {
    let bench = host(folder, &components());
    for attack in ATTACKS
        .iter()
        .filter(|attack| attack.ends_in == FaultKind::Deadline)
    {
        let (mut times, mut spent) = (Vec::new(), Vec::new());
        for _ in 0..options.count(100) {
            bench.load(&plugin("runaway", attack.spec())).expect("it loads");
            let started = Instant::now();
            let fault: Fault = runtime
                .block_on(attack.call(&bench, "runaway"))
                .expect_err("it is stopped");
            times.push(started.elapsed());
            assert_eq!(fault.kind, FaultKind::Deadline);
            // The deadline is of processor time, and so is what the message gives: on a busy machine less.
            let words = fault.message.split_whitespace();
            spent.extend(
                words
                    .filter_map(|word| word.parse().ok())
                    .map(Duration::from_millis)
                    .next(),
            );
            bench.unload("runaway");
        }
        let name = attack.name;
        let most = micros(&mut spent, 1.0) / 1e3;
        table.row(
            &format!("{name}: processor time when stopped, most"),
            most,
            "ms",
            None,
        );
        let late = |times: &mut Vec<Duration>, share| micros(times, share) / 1e3 - DEADLINE_MS;
        table.row(
            &format!("{}: stopped after its deadline, median", attack.name),
            late(&mut times, 0.5),
            "ms",
            None,
        );
        table.row(
            &format!("{}: stopped after its deadline, p99", attack.name),
            late(&mut times, 0.99),
            "ms",
            Some(20.0),
        );
    }
}

fn ask(victim: &dyn Policy, runtime: &Runtime, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..count {
        let review = review(json!({"spec": {}}), None);
        let started = Instant::now();
        runtime
            .block_on(victim.validate(review))
            .expect("the victim answers");
        times.push(started.elapsed());
        std::thread::sleep(INTERVAL);
    }
    times
}

fn beside(options: &Options, folder: &Path, runtime: &Runtime, table: &mut Table) {
    let bench = host(folder, &components());
    let spec = json!({"source": {"bundled": VICTIM}, "bind": {"admission": {"rules": [every_request()], "order": -1}}});
    bench.load(&plugin("victim", spec)).expect("it loads");
    let victim = Arc::clone(&bench.admission_seats().borrow()[0].policy);
    let count = options.count(10_000);
    ask(&*victim, runtime, count / 10);
    let mut quiet = ask(&*victim, runtime, count);
    for attack in &ATTACKS {
        bench
            .load(&plugin(&object_name(attack.name), attack.spec()))
            .expect("it loads");
    }
    let stop = AtomicBool::new(false);
    let mut attacked = std::thread::scope(|scope| {
        for attack in &ATTACKS {
            let (bench, stop) = (&bench, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    assert!(
                        runtime
                            .block_on(attack.call(bench, &object_name(attack.name)))
                            .is_err()
                    );
                    std::thread::sleep(INTERVAL);
                }
            });
        }
        let times = ask(&*victim, runtime, count);
        stop.store(true, Ordering::SeqCst);
        times
    });
    let (before, beside) = (micros(&mut quiet, 0.99), micros(&mut attacked, 0.99));
    table.row("another policy: p99 while quiet", before, "µs", None);
    table.row("another policy: p99 beside all attacks", beside, "µs", None);
    table.row(
        "another policy: p99 beside attacks to quiet",
        beside / before,
        "×",
        Some(1.5),
    );
    let mut compiling = std::thread::scope(|scope| {
        let bomb = scope.spawn(|| {
            let started = Instant::now();
            let spec = json!({"source": {"bundled": "bomb"}, "bind": {"nodes": {}}});
            bench.load(&plugin("bomb", spec)).expect("it is only large");
            started.elapsed()
        });
        let mut times = Vec::new();
        while !bomb.is_finished() {
            times.extend(ask(&*victim, runtime, 10));
        }
        let took = bomb.join().expect("it compiles");
        table.row("a compile bomb: time to compile", took.as_secs_f64(), "s", None);
        times
    });
    let bombed = micros(&mut compiling, 0.99);
    table.row(
        "another policy: p99 beside the compile bomb to quiet",
        bombed / before,
        "×",
        Some(1.5),
    );
}
