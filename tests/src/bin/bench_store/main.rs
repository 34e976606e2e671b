//! `cargo xtask bench store`: our store against Debian's etcd, on the same disk in the same run, both syncing.
//!
//! One generator loads both alike, by etcd's own API over several connections. Rounds are interleaved (ours, etcd,
//! ours, etcd) and each figure is the median of its rounds; beside each round the bare disk's sync rate is
//! measured. What is compared is a ratio within one run, never a figure of another machine.

mod bulk;
mod check;
mod disk;
mod load;
mod report;
mod requests;
mod scenarios;
mod subject;
mod watching;

use std::path::PathBuf;

use clap::Parser;

use report::Report;
use subject::Subject;

/// Measures our store against Debian's etcd; prints a table and writes target/bench-store.json.
#[derive(Parser)]
pub(crate) struct Options {
    /// One short round
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds [default: 3, or 1 with --quick]
    #[arg(long)]
    rounds: Option<usize>,
    /// Our server: a program and its first arguments [default: target/release/capstan store]
    #[arg(long)]
    capstan: Option<String>,
    /// Engines of the log to measure beside each other, the first against etcd
    #[arg(long, value_delimiter = ',', default_value = "sled,plain")]
    engines: Vec<String>,
    /// Only these parts: load, three, bulk, check
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave etcd out, to look at ours alone
    #[arg(long)]
    alone: bool,
    /// The table's JSON
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| one == part)
    }

    fn subjects(&self) -> Vec<Subject> {
        let command = self
            .capstan
            .clone()
            .unwrap_or_else(|| format!("{} store", root().join("target/release/capstan").display()));
        let mut all: Vec<Subject> = self
            .engines
            .iter()
            .map(|engine| Subject::ours(&command, engine))
            .collect();
        if !self.alone {
            all.insert(1.min(all.len()), Subject::etcd());
        }
        all
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 3 });
    let mut report = Report::default();
    for round in 1..=rounds {
        for subject in options.subjects() {
            eprintln!("round {round} of {rounds}: {}", subject.name);
            measure(&options, &subject, &mut report)?;
        }
    }
    print!("{}", report.table());
    let path = options
        .out
        .clone()
        .unwrap_or_else(|| root().join("target/bench-store.json"));
    std::fs::write(&path, report.json())?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

fn measure(options: &Options, subject: &Subject, report: &mut Report) -> anyhow::Result<()> {
    // One thread: what the generator takes of the machine is the same for all and told with the results.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut tell = |name: &str, figures: report::Figures| {
        eprintln!("  {name}: {figures}");
        report.add(&subject.name, name, figures);
    };
    if options.wants("load") {
        tell("bare disk: append 512 B, sync", disk::sync_rate(options.quick)?);
        let members = subject.start(1)?;
        runtime.block_on(scenarios::run(&members, "1 member", options.quick, &mut tell))?;
    }
    if options.wants("three") {
        let members = subject.start(3)?;
        runtime.block_on(scenarios::run(&members, "3 members", options.quick, &mut tell))?;
    }
    if options.wants("bulk") {
        let members = subject.start(1)?;
        runtime.block_on(bulk::run(&members, options.quick, &mut tell))?;
    }
    if options.wants("check") && !options.quick {
        for load in ["s", "m", "l"] {
            let members = subject.start(1)?;
            tell(&format!("etcdctl check perf {load}"), check::run(&members, load)?);
        }
    }
    Ok(())
}
