//! Thousands of hot swaps in every world while its plugin is called without a break.
//!
//! No call may fail, none may be lost or doubled (the problem daemon counts its own and traps), and memory must
//! not grow. The longest call during the swaps stands beside the longest of as many calls without any.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use capstan_plugin::Host;
use capstan_points::Bits;
use capstan_points::admission::Verdict;
use capstan_points::problem::Line;
use capstan_points::remedy::Case;
use capstan_points::scheduler::Pod;
use capstan_points::sidecar::{self, Stream, StreamContext};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::Options;
use crate::attacks::every_request;
use crate::measure::{Table, host, memory_bytes, micros, plugin};
use crate::review::review;
use crate::wrap;

/// A world: its fixture, how it is bound, and one call that proves its answer.
struct World {
    name: &'static str,
    fixture: &'static str,
    bind: fn() -> Value,
    call: fn(&Host, &Runtime, u64),
}

const WORLDS: [World; 5] = [
    World {
        name: "scheduler",
        fixture: "steady",
        bind: || json!({"scheduler": {}}),
        call: |host, _, _| {
            let row = host.scheduler_seats().borrow().clone();
            let scores = row[0].policy.score(&Pod::default(), &Bits::all_below(3));
            assert_eq!(scores, Ok(vec![1, 2, 3]));
        },
    },
    World {
        name: "admission",
        fixture: "denies-host-network",
        bind: || json!({"admission": {"rules": [every_request()]}}),
        call: |host, runtime, number| {
            let row = host.admission_seats().borrow().clone();
            let denied = number.is_multiple_of(2);
            let spec = if denied {
                json!({"hostNetwork": true})
            } else {
                json!({})
            };
            let verdict = runtime.block_on(row[0].policy.validate(review(json!({"spec": spec}), None)));
            assert_eq!(matches!(verdict.expect("it answers"), Verdict::Deny(_)), denied);
        },
    },
    World {
        name: "problem",
        fixture: "counts-lines",
        bind: || json!({"nodes": {}}),
        call: |host, _, number| {
            let row = host.problem_seats().borrow().clone();
            let line = Line {
                time_ms: 0,
                text: "x".into(),
            };
            row[0]
                .policy
                .on_lines(0, &[line], 0, number)
                .expect("none is lost or doubled");
        },
    },
    World {
        name: "remedy",
        fixture: "cordons",
        bind: || json!({"nodes": {}}),
        call: |host, _, _| {
            let row = host.remedy_seats().borrow().clone();
            assert_eq!(row[0].policy.decide(&Case::default()), Ok(Vec::new()));
        },
    },
    World {
        name: "sidecar",
        fixture: "echoes",
        bind: || json!({"pods": {}}),
        call: |host, _, number| {
            let row = host.sidecar_seats().borrow().clone();
            let mut stream = row[0].policy.open(&StreamContext::default()).expect("it opens");
            let line = sidecar::Line {
                time_ms: number,
                stream: Stream::Stdout,
                text: "a line".into(),
            };
            assert_eq!(stream.on_lines(vec![line.clone()]), Ok(vec![line]));
        },
    },
];

pub(crate) fn measure(options: &Options, runtime: &Runtime, table: &mut Table) {
    for world in &WORLDS {
        of_world(world, options, runtime, table);
    }
}

fn of_world(world: &World, options: &Options, runtime: &Runtime, table: &mut Table) {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = host(
        folder.path(),
        &[(world.fixture.to_owned(), wrap::fixture(world.fixture))],
    );
    // Two configurations in turn, so that each load is another revision of the same code.
    let load = |weight: usize| {
        let spec = json!({"source": {"bundled": world.fixture}, "bind": (world.bind)(), "config": {"weight": weight}});
        bench.load(&plugin("swapped", spec)).expect("it swaps").changed
    };
    load(1);
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let run = |act: &mut dyn FnMut()| -> Vec<Duration> {
        stop.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                let mut times = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
                    let started = Instant::now();
                    (world.call)(&bench, runtime, number);
                    times.push(started.elapsed());
                }
                times
            });
            act();
            stop.store(true, Ordering::SeqCst);
            caller.join().expect("no call fails")
        })
    };
    let swaps = options.count(2_000);
    let warm = swaps / 10 + 1;
    (0..warm).for_each(|swap| assert!(load(swap % 2 + 2)));
    let before = memory_bytes();
    let started = Instant::now();
    let mut swapped = run(&mut || (0..swaps).for_each(|swap| assert!(load((swap + warm) % 2 + 2))));
    let took = started.elapsed();
    // What the bench itself has noted down is not the host's.
    let noted = swapped.len() * size_of::<Duration>();
    let grown = memory_bytes() - before - noted as f64;
    let mut quiet = run(&mut || std::thread::sleep(took.min(Duration::from_secs(5))));
    let name = world.name;
    table.row(&format!("{name}: swaps under load"), swaps as f64, "", None);
    table.row(
        &format!("{name}: calls meanwhile, none lost or doubled"),
        swapped.len() as f64,
        "",
        None,
    );
    table.row(
        &format!("{name}: longest call during swaps"),
        micros(&mut swapped, 1.0) / 1e3,
        "ms",
        Some(1.0),
    );
    table.row(
        &format!("{name}: longest call without"),
        micros(&mut quiet, 1.0) / 1e3,
        "ms",
        None,
    );
    table.row(
        &format!("{name}: p99 of calls during swaps"),
        micros(&mut swapped, 0.99),
        "µs",
        None,
    );
    table.row(
        &format!("{name}: p99 of calls without"),
        micros(&mut quiet, 0.99),
        "µs",
        None,
    );
    table.row(
        &format!("{name}: memory grown by the swaps"),
        grown / 1e6,
        "MB",
        None,
    );
    drop(Arc::clone(&bench));
}
