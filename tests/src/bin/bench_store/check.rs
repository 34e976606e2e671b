use std::process::Command;

use anyhow::Context;

use super::report::Figures;
use super::subject::{Members, etcdctl};

/// etcd's own check: a minute of 150, 1,000 or 8,000 writes a second, with a bound on the slowest.
pub(crate) fn run(members: &Members, load: &str) -> anyhow::Result<Figures> {
    let endpoint = members.endpoints.first().context("there is a member")?;
    let output = bounded(&etcdctl(endpoint))
        .args(["check", "perf", "--load", load])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
    let mut verdicts = said.lines().filter(|line| ["PASS", "FAIL"].contains(line));
    let number = |line: &str| {
        line.split_whitespace()
            .find_map(|word| word.trim_end_matches('s').parse::<f64>().ok())
    };
    let find = |what: &str| said.lines().find(|line| line.contains(what)).and_then(number);
    Ok(Figures {
        per_second: find("Throughput"),
        max_ms: find("Slowest").map(|seconds| seconds * 1_000.0),
        verdict: Some(verdicts.next().unwrap_or("did not end").to_owned()),
        ..Figures::default()
    })
}

/// The same command, ended when it takes much longer than the minute that it should.
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded.arg("180").arg(command.get_program());
    for (name, value) in command.get_envs() {
        bounded.env(name, value.unwrap_or_default());
    }
    bounded
}
