//! `cargo xtask bench malformed [COUNT]`: a million malformed requests to a server in this process, and its memory
//! as it goes. Ends with 1 at the first answer that is wrong, or when memory grows.
#![allow(clippy::unwrap_used)]

#[path = "../tests/malformed/mod.rs"]
mod malformed;
#[path = "../tests/rig/mod.rs"]
mod rig;

use std::process::ExitCode;
use std::time::Instant;

const REQUESTS: usize = 1_000_000;
/// Requests until memory is as it stays.
const WARM: usize = 200_000;
/// Megabytes that memory may grow by after that.
const GROWTH_MB: u64 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let count = std::env::args()
        .nth(1)
        .map_or(REQUESTS, |count| count.parse().expect("a number"));
    let seed = std::env::args().nth(2).map_or_else(
        || fastrand::u64(..1_000_000),
        |seed| seed.parse().expect("a number"),
    );
    println!("seed {seed}: {count} requests");
    let rig = rig::Rig::start().await;
    let started = Instant::now();
    let (mut warm, mut last) = (None, 0);
    let came = malformed::run(&rig, seed, count, |n| {
        last = resident_mb();
        if n >= WARM {
            warm.get_or_insert(last);
        }
        if n % 100_000 == 0 {
            println!("{n} after {:?}: {last} MB", started.elapsed());
        }
    })
    .await;
    rig.stop().await;
    match came {
        Ok(statuses) => println!("{statuses:?}"),
        Err(wrong) => {
            println!("{wrong}");
            return ExitCode::FAILURE;
        }
    }
    println!(
        "all answered in {:?}; memory {} MB, then {last} MB",
        started.elapsed(),
        warm.unwrap_or(last)
    );
    if warm.is_some_and(|warm| last > warm + GROWTH_MB) {
        println!("memory grew");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}
