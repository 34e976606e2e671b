use anyhow::Context;

use super::report::Figures;
use super::subject::{Members, etcdctl};

/// etcd's own check: a minute of 150, 1,000 or 8,000 writes a second, with a bound on the slowest.
pub(crate) fn run(members: &Members, load: &str) -> anyhow::Result<Figures> {
    let endpoint = members.endpoints.first().context("there is a member")?;
    let output = etcdctl(endpoint)
        .args(["check", "perf", "--load", load])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
    let verdicts: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("PASS") || line.starts_with("FAIL"))
        .collect();
    let number = |line: &str| {
        line.split_whitespace()
            .find_map(|word| word.trim_end_matches('s').parse::<f64>().ok())
    };
    let find = |what: &str| {
        verdicts
            .iter()
            .find(|line| line.contains(what))
            .and_then(|line| number(line))
    };
    Ok(Figures {
        per_second: find("Throughput"),
        max_ms: find("Slowest").map(|seconds| seconds * 1_000.0),
        verdict: verdicts.last().map(|last| (*last).to_owned()),
        ..Figures::default()
    })
}
