//! The project's two README commands and their siblings: `up`, `test`, `build`, `components`, `bench`.
//!
//! Each step says what it does before it does it. Nothing is assumed on the machine but git, a C compiler and
//! a stable Rust toolchain; what else a step needs, it installs or names. Called by people and by `.ci/run`.

mod clients;
mod components;
mod guest_toolchain;
mod run;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs, tests and measures Capstan")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build and run a whole cluster; what follows goes to `capstan up`
    Up {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build everything and pass every test; what follows goes to `cargo test`
    Test {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the self-contained binary at target/release/capstan
    Build,
    /// Build the plugins and demonstration workloads into target/components
    Components,
    /// Measure, print a table and write it as JSON; each bench tells its options by --help
    ///
    /// `bench`: the cluster, to target/bench.json. `bench store [--quick]`: the store against Debian's etcd, to
    /// target/bench-store.json. `bench chaos`: members of the store under faults and load, and a check of all
    /// that their clients saw. `bench crash`: kills of the store, and losses of power in a model of it.
    /// `bench api`: the API server under load. `bench malformed`: a million malformed requests to it.
    /// `bench plugins`: what policies cost, swaps of them under load, and hostile ones beside others.
    /// `bench scheduler [--quick]`: pods a second in the shapes of the original's scheduler_perf, to
    /// target/bench-scheduler.json.
    #[command(verbatim_doc_comment)]
    Bench {
        /// [store|chaos|crash|api|malformed|plugins|scheduler] and the bench's own options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Up { arguments } => run::up(&arguments),
        Task::Test { arguments } => run::test(&arguments),
        Task::Build => run::build(),
        Task::Components => components::build(),
        Task::Bench { arguments } => run::bench(&arguments),
    }
}
