//! `cargo xtask bench chaos`: a store's members as processes, real faults, and a check of all that clients saw.
//!
//! Prints its seed first, a line for each fault, a table at the end; its exit code says whether all promises
//! were kept. `CAPSTAN_CHAOS_STORE=/usr/bin/etcd` does the same to the original.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use capstan_tests::chaos::members::Program;
use capstan_tests::chaos::run::{Options, run};

fn main() -> anyhow::Result<ExitCode> {
    let options = options(std::env::args().skip(1))?;
    println!(
        "seed {}: {} members of {}",
        options.seed,
        options.members,
        options.program.path().display()
    );
    let outcome = run(&options, |line| println!("{line}"))?;
    println!("\n{}", outcome.table);
    for known in &outcome.known {
        println!("known of the original: {known}");
    }
    for violation in &outcome.violations {
        println!("VIOLATION {violation}");
    }
    match outcome.kept {
        Some(folder) => {
            println!(
                "seed {}; history and members' output are in {}",
                options.seed,
                folder.display()
            );
            Ok(ExitCode::FAILURE)
        }
        None => {
            println!("all promises were kept; seed {}", options.seed);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options {
        program: Program::find(),
        members: 3,
        length: Duration::from_secs(30 * 60),
        hold: Duration::from_secs(3)..Duration::from_secs(10),
        seed: fastrand::u64(..1_000_000),
        missed: 2_500,
        only: None,
        without: None,
    };
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} takes a value"))?;
        let number = || {
            value
                .parse::<f64>()
                .with_context(|| format!("{name} takes a number, not {value}"))
        };
        match name.as_str() {
            "--minutes" => options.length = Duration::from_secs_f64(number()? * 60.0),
            "--hold" => {
                options.hold = Duration::from_secs_f64(number()? / 2.0)..Duration::from_secs_f64(number()?)
            }
            "--members" => options.members = number()? as usize,
            "--seed" => options.seed = value.parse()?,
            "--without" => options.without = Some(value),
            "--missed" => options.missed = number()? as usize,
            "--only" => options.only = Some(value),
            _ => bail!(
                "{name}: the flags are --minutes, --seed, --members, --hold, --missed, --only and --without"
            ),
        }
    }
    Ok(options)
}
