//! Finds or gets a compiler for `wasm32-unknown-unknown`, in the order of least effort.
//!
//! 1. the sysroot already has the target; 2. rustup adds it, within [`RUSTUP_BOUND`]; 3. on Debian as root,
//! the packages `rustc-web`, `cargo-web` and `rust-web-src` build `std` for it; 4. an error that names the
//! way out.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::run::{cargo, say, succeed};

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// How long rustup may take; a machine without its server should not wait for minutes.
const RUSTUP_BOUND: Duration = Duration::from_secs(60);

/// Debian's compiler, installed by its package.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// How guests are compiled on this machine.
pub(crate) enum GuestToolchain {
    /// The toolchain that builds the host.
    Own,
    /// Debian's rustc, building `std` from its sources, with this linker.
    Debian { linker: PathBuf },
}

impl GuestToolchain {
    /// Finds or installs one.
    pub(crate) fn find() -> anyhow::Result<Self> {
        if has_target()? {
            return Ok(Self::Own);
        }
        say(&format!("this toolchain has no {TARGET}: asking rustup for it"));
        match rustup_add() {
            Ok(()) if has_target()? => return Ok(Self::Own),
            Ok(()) => say("rustup added it, but not to the toolchain in use"),
            Err(error) => say(&format!("rustup cannot add it ({error:#})")),
        }
        say("trying Debian's packages rustc-web, cargo-web and rust-web-src");
        match debian() {
            Ok(toolchain) => Ok(toolchain),
            Err(error) => bail!(
                "no compiler for {TARGET} ({error:#}).\nRun `rustup target add {TARGET}` where rustup has a \
                 network, or on Debian as root `apt-get install rustc-web cargo-web rust-web-src`, then try again"
            ),
        }
    }

    /// `cargo build` for guests.
    pub(crate) fn cargo_build(&self) -> Command {
        let mut build = cargo();
        build.args([
            "build",
            "--target",
            TARGET,
            "--profile",
            "guest",
            "--target-dir",
            "target/guest",
        ]);
        if let Self::Debian { linker } = self {
            build.args(["-Z", "build-std=std,panic_abort"]);
            build.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            build.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        build
    }
}

fn sysroot() -> anyhow::Result<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .context("cannot run rustc")?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn has_target() -> anyhow::Result<bool> {
    Ok(sysroot()?.join("lib/rustlib").join(TARGET).join("lib").is_dir())
}

fn rustup_add() -> anyhow::Result<()> {
    let mut rustup = Command::new("rustup")
        .args(["target", "add", TARGET])
        .stdin(Stdio::null())
        .spawn()
        .context("there is no rustup")?;
    let started = Instant::now();
    loop {
        if let Some(status) = rustup.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                Err(anyhow::anyhow!("it ended with {status}"))
            };
        }
        if started.elapsed() > RUSTUP_BOUND {
            rustup.kill()?;
            rustup.wait()?;
            bail!("it took longer than {} s", RUSTUP_BOUND.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn debian() -> anyhow::Result<GuestToolchain> {
    let sources = PathBuf::from("/usr/lib/rustlib/src/rust/library/std");
    let installed = || sources.exists() || PathBuf::from("/usr/src/rustc").exists();
    if !(PathBuf::from(DEBIAN_RUSTC).exists() && installed()) {
        succeed(Command::new("apt-get").arg("update").stdout(Stdio::null()))?;
        let mut install = Command::new("apt-get");
        install
            .args(["install", "--yes", "rustc-web", "cargo-web", "rust-web-src"])
            .stdout(Stdio::null());
        succeed(install.env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    let host = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("cannot run rustc")?;
    let host = String::from_utf8(host.stdout)?;
    let triple = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names no host")?;
    let linker = sysroot()?.join("lib/rustlib").join(triple).join("bin/rust-lld");
    if !linker.exists() {
        bail!("the toolchain has no rust-lld at {}", linker.display());
    }
    Ok(GuestToolchain::Debian { linker })
}
