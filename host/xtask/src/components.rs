//! Builds every plugin and demonstration workload into `target/components/<package>.wasm`.
//!
//! Each folder of `plugins/` and `tests/workloads/` is one package, compiled to a core module for
//! `wasm32-unknown-unknown` (a policy has no ambient WASI) and made a component by `wit-component`, which
//! reads the WIT that the module's own custom sections carry.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use wit_component::ComponentEncoder;

use crate::guest_toolchain::{GuestToolchain, TARGET};
use crate::run::{root, say, succeed};

const FOLDERS: [&str; 2] = ["plugins", "tests/workloads"];

pub(crate) fn build() -> anyhow::Result<()> {
    let packages = packages()?;
    if packages.is_empty() {
        return Ok(());
    }
    say(&format!("building {} components", packages.len()));
    let mut build = GuestToolchain::find()?.cargo_build();
    for package in &packages {
        build.args(["--package", package]);
    }
    succeed(&mut build)?;
    let modules = root().join("target/guest").join(TARGET).join("guest");
    let components = root().join("target/components");
    fs::create_dir_all(&components)?;
    for package in &packages {
        let module = modules.join(package.replace('-', "_")).with_extension("wasm");
        componentize(&module, &components.join(package).with_extension("wasm"))
            .with_context(|| format!("cannot make a component of {package}"))?;
    }
    Ok(())
}

/// Names of the packages, sorted. The package's name is `capstan-<folder>` or the folder's.
fn packages() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(root().join(folder)) else {
            continue;
        };
        for entry in entries {
            let manifest = entry?.path().join("Cargo.toml");
            if manifest.exists() {
                names.push(package_name(&manifest)?);
            }
        }
    }
    names.sort();
    Ok(names)
}

fn package_name(manifest: &PathBuf) -> anyhow::Result<String> {
    let text = fs::read_to_string(manifest)?;
    text.lines()
        .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .with_context(|| format!("{} names no package", manifest.display()))
}

/// Writes the component unless it is already there and the same, so that nothing that embeds it rebuilds.
fn componentize(module: &Path, component: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(module).with_context(|| format!("no module at {}", module.display()))?;
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(&bytes)?
        .encode()?;
    if fs::read(component).is_ok_and(|old| old == encoded) {
        return Ok(());
    }
    fs::write(component, encoded)?;
    Ok(())
}
