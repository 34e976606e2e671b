//! The tasks that build the host and run something with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::{clients, components, tools};

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// A cargo command in the workspace, of the toolchain that runs us.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Says what is about to happen.
pub(crate) fn say(step: &str) {
    eprintln!("\x1b[1m==>\x1b[0m {step}");
}

/// Runs to success or explains.
pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{:?} ended with {status}", command.get_program());
    }
    Ok(())
}

pub(crate) fn build() -> anyhow::Result<()> {
    components::build()?;
    say("building target/release/capstan (the first time takes some minutes)");
    build_capstan(&["--release", "--package", "capstan"], "release")
}

/// Builds the binary, has it compile its plugins, and builds it again with these inside: a fresh cluster then
/// starts without a compiler's work. The second build only links.
fn build_capstan(arguments: &[&str], profile: &str) -> anyhow::Result<()> {
    let mut build = cargo();
    build.arg("build").args(arguments);
    succeed(&mut build)?;
    let precompiled = root().join("target/precompiled");
    succeed(
        Command::new(root().join("target").join(profile).join("capstan"))
            .arg("precompile")
            .arg(precompiled),
    )?;
    succeed(&mut build)
}

pub(crate) fn up(arguments: &[String]) -> anyhow::Result<()> {
    build()?;
    say("starting the cluster");
    let mut capstan = Command::new(root().join("target/release/capstan"));
    capstan.arg("up").args(arguments);
    hand_over(capstan)
}

pub(crate) fn test(arguments: &[String]) -> anyhow::Result<()> {
    components::build()?;
    let kubectl = tools::kubectl()?;
    let newest = tools::newest_kubectl();
    clients::all();
    if let Err(error) = tools::etcd() {
        // As below.
        say(&format!("going on without etcd and etcdctl: {error:#}"));
    }
    if let Err(error) = tools::registry() {
        say(&format!("going on without a registry: {error:#}"));
    }
    if let Err(error) = tools::networks() {
        say(&format!(
            "going on without networks and disks for the store's chaos: {error:#}"
        ));
    }
    say("building the host for tests");
    // The whole workspace at once, as the tests below: what is built for one is built for the other.
    build_capstan(&["--workspace", "--all-targets"], "debug")?;
    say("running every test");
    let mut test = cargo();
    test.args(["test", "--workspace", "--no-fail-fast"])
        .args(arguments)
        .env("CAPSTAN_KUBECTL", kubectl);
    match newest {
        Ok(newest) => _ = test.env("CAPSTAN_KUBECTL_NEW", newest),
        // The tests say what they go without, and fail for it under CI.
        Err(error) => say(&format!("going on without the newest kubectl: {error:#}")),
    }
    succeed(&mut test)
}

pub(crate) fn bench(arguments: &[String]) -> anyhow::Result<()> {
    if let Some((first, rest)) = arguments.split_first() {
        match first.as_str() {
            "store" => return bench_store(rest),
            "chaos" => return bench_chaos(rest),
            "crash" => return bench_crash(rest),
            "api" => return bench_api(rest),
            "malformed" => return bench_malformed(rest),
            "plugins" => return bench_plugins(rest),
            "scheduler" => return bench_scheduler(rest),
            _ => {}
        }
    }
    build()?;
    let kubectl = tools::kubectl()?;
    say("building the bench");
    let mut bench = cargo();
    bench.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        "capstan-tests",
        "--bin",
        "bench",
        "--",
    ]);
    bench.args(arguments).env("CAPSTAN_KUBECTL", kubectl);
    succeed(&mut bench)
}

/// The API server of a cluster under load.
fn bench_api(arguments: &[String]) -> anyhow::Result<()> {
    build()?;
    say("building the bench");
    let mut bench = cargo();
    bench.args(["run", "--release", "--quiet", "--package", "capstan-tests"]);
    bench.args(["--bin", "bench_api", "--"]).args(arguments);
    succeed(&mut bench)
}

/// Malformed requests to an API server.
fn bench_malformed(arguments: &[String]) -> anyhow::Result<()> {
    say("building the bench");
    let mut bench = cargo();
    bench.args(["run", "--release", "--quiet", "--package", "capstan-api"]);
    bench.args(["--example", "malformed", "--"]).args(arguments);
    succeed(&mut bench)
}

/// Policies as components: what they cost, hot swaps under load, hostile ones beside others.
fn bench_plugins(arguments: &[String]) -> anyhow::Result<()> {
    components::build()?;
    say("building the bench");
    let mut bench = cargo();
    bench.args(["run", "--release", "--quiet", "--package", "capstan-plugin"]);
    bench
        .args(["--example", "plugins", "--", "--components"])
        .arg(root().join("target/components"))
        .args(arguments);
    succeed(&mut bench)
}

/// The shapes of the original's scheduler_perf, by cycles alone and end to end.
fn bench_scheduler(arguments: &[String]) -> anyhow::Result<()> {
    build()?;
    say("building the bench");
    let mut bench = cargo();
    bench.args(["run", "--release", "--quiet", "--package", "capstan-tests"]);
    bench.args(["--bin", "bench_scheduler", "--"]).args(arguments);
    bench.env("CAPSTAN_BIN", root().join("target/release/capstan"));
    succeed(&mut bench)
}

/// Our store against Debian's etcd; with `--capstan` that binary instead of a newly built one.
fn bench_store(arguments: &[String]) -> anyhow::Result<()> {
    if !arguments.iter().any(|argument| argument.starts_with("--capstan")) {
        build()?;
    }
    tools::etcd()?;
    say("building the bench");
    let mut bench = cargo();
    bench.args(["run", "--release", "--quiet", "--package", "capstan-tests"]);
    bench.args(["--bin", "bench_store", "--"]).args(arguments);
    succeed(&mut bench)
}

/// Kills of our store, and losses of power in a model of it; `--cycles` kills, and a tenth as many losses of power
/// with each of three sizes of values.
fn bench_crash(arguments: &[String]) -> anyhow::Result<()> {
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    say("building the bench");
    let mut bench = cargo();
    bench.args(["run", "--release", "--quiet", "--package", "capstan-store"]);
    bench.args(["--example", "crash", "--"]).args(arguments);
    succeed(&mut bench)?;
    say("losing power");
    let cycles = value("--cycles")
        .and_then(|cycles| cycles.parse::<u64>().ok())
        .unwrap_or(1_000);
    let mut losses = cargo();
    losses.args([
        "test",
        "--release",
        "--quiet",
        "--package",
        "capstan-store",
        "--lib",
    ]);
    losses.args(["power_loss_loses_nothing", "--", "--nocapture"]);
    losses.env("CAPSTAN_POWER_LOSS_CYCLES", (cycles / 10).max(1).to_string());
    if let Some(seed) = value("--seed") {
        losses.env("CAPSTAN_POWER_LOSS_SEED", seed);
    }
    succeed(&mut losses)
}

/// Members of our store as processes, real faults, and a check of all that clients saw; another store's where
/// `CAPSTAN_CHAOS_STORE` names it.
fn bench_chaos(arguments: &[String]) -> anyhow::Result<()> {
    let ours = root().join("target/release/capstan");
    let program = std::env::var_os("CAPSTAN_CHAOS_STORE").map_or(ours.clone(), PathBuf::from);
    if program == ours {
        build()?;
    }
    tools::networks()?;
    say("building the bench");
    let mut bench = cargo();
    bench.args(["run", "--release", "--quiet", "--package", "capstan-tests"]);
    bench
        .args(["--bin", "chaos", "--"])
        .args(arguments)
        .env("CAPSTAN_CHAOS_STORE", program);
    succeed(&mut bench)
}

/// Becomes the command, so that signals and the exit status are its own.
fn hand_over(mut command: Command) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {:?}", command.get_program()))
}
