//! `cargo xtask bench store`: our store against Debian's etcd, on the same disk in the same run, both syncing.
//!
//! One generator loads both alike, by etcd's own API over several connections. Each load goes to one after the
//! other before the next load begins, and each figure is the median of the rounds; beside each round the bare
//! disk's sync rate is measured. What is compared is a ratio within one run, never a figure of another machine.

mod bulk;
mod check;
mod disk;
mod goals;
mod load;
mod report;
mod requests;
mod scenarios;
mod subject;
mod watching;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use load::Span;
use report::{Figures, Report};
use scenarios::Scenario;
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
    /// Engines of the log, each measured beside the others and etcd
    #[arg(long, value_delimiter = ',', default_value = "sled,plain")]
    engines: Vec<String>,
    /// Only these parts: load, three, bulk, check
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only loads whose names have this in them
    #[arg(long, default_value = "")]
    named: String,
    /// How long each load is counted [default: 6, or 2 with --quick]
    #[arg(long)]
    seconds: Option<u64>,
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
    let subjects = options.subjects();
    // One thread: what the generator takes of the machine is the same for all and told with the results.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let bare = disk::sync_rate(options.quick)?;
        eprintln!("  {}: {bare}", report::DISK);
        report.add(report::DISK, report::BARE, bare);
        for (part, count) in [("load", 1), ("three", 3)] {
            if options.wants(part) {
                runtime.block_on(load(&options, &subjects, count, &mut report))?;
            }
        }
        if options.wants("bulk") {
            for subject in &subjects {
                let members = subject.start(1)?;
                let mut tell = |name: &str, figures| told(&mut report, &subject.name, name, figures);
                runtime.block_on(bounded(bulk::run(&members, options.quick, &mut tell)))?;
            }
        }
        // These take a minute each, and say themselves whether they pass.
        if options.wants("check") && !options.quick && round == 1 {
            check(&subjects, &mut report)?;
        }
    }
    print!("{}\n{}", report.table(), report.goals());
    let path = options
        .out
        .clone()
        .unwrap_or_else(|| root().join("target/bench-store.json"));
    std::fs::write(&path, report.json())?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

fn told(report: &mut Report, subject: &str, scenario: &str, figures: Figures) {
    eprintln!("  {scenario}: {subject}: {figures}");
    report.add(subject, scenario, figures);
}

/// Every load, and of each all subjects one after the other: what the machine does beside is the same for all.
async fn load(
    options: &Options,
    subjects: &[Subject],
    count: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let on = if count == 1 { "1 member" } else { "3 members" };
    let running: Vec<_> = subjects
        .iter()
        .map(|subject| Ok((subject, subject.start(count)?)))
        .collect::<anyhow::Result<_>>()?;
    let span = Span::new(options.seconds, options.quick);
    let wanted = Scenario::ALL.into_iter();
    for scenario in wanted.filter(|one| one.to_string().contains(&options.named)) {
        for (subject, members) in &running {
            let figures = bounded(scenario.run(members, span)).await;
            let figures =
                figures.with_context(|| format!("{}: {scenario}\n{}", subject.name, members.logs()))?;
            told(report, &subject.name, &format!("{on}: {scenario}"), figures);
            members.settle().await?;
        }
    }
    Ok(())
}

/// A store that hangs does not hang the bench.
async fn bounded<T>(running: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    const BOUND: Duration = Duration::from_secs(600);
    tokio::time::timeout(BOUND, running)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("it takes more than {BOUND:?}")))
}

fn check(subjects: &[Subject], report: &mut Report) -> anyhow::Result<()> {
    for load in ["s", "m", "l"] {
        for subject in subjects {
            let members = subject.start(1)?;
            let figures = check::run(&members, load)?;
            told(
                report,
                &subject.name,
                &format!("etcdctl check perf {load}"),
                figures,
            );
        }
    }
    Ok(())
}
