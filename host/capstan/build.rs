//! Embeds the default plugins and the demonstration workloads that `cargo xtask components` built, each with
//! its `plugin.yaml` where the cluster is to have it from the start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let components = root.join("target/components");
    println!("cargo::rerun-if-changed={}", components.display());
    println!("cargo::rerun-if-changed={}", root.join("plugins").display());
    let mut generated = String::from("/// Component and workload bytes by package name.\n");
    generated.push_str("pub(crate) static COMPONENTS: &[(&str, &[u8])] = &[\n");
    for path in files(&components, "wasm") {
        let name = path
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let _ = writeln!(generated, "    ({name:?}, include_bytes!({path:?})),");
    }
    generated.push_str(
        "];\n\n/// The plugins in compiled form, by the name of their file in the compile cache.\n",
    );
    generated.push_str("pub(crate) static PRECOMPILED: &[(&str, &[u8])] = &[\n");
    let precompiled = root.join("target/precompiled");
    println!("cargo::rerun-if-changed={}", precompiled.display());
    for path in files(&precompiled, "cwasm") {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let _ = writeln!(generated, "    ({name:?}, include_bytes!({path:?})),");
    }
    generated.push_str("];\n\n/// Manifests of the Plugin objects of a fresh cluster.\n");
    generated.push_str("pub(crate) static DEFAULTS: &[(&str, &str)] = &[\n");
    for folder in folders(&root.join("plugins")) {
        let manifest = folder.join("plugin.yaml");
        let name = folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if manifest.exists() {
            println!("cargo::rerun-if-changed={}", manifest.display());
            let _ = writeln!(generated, "    ({name:?}, include_str!({manifest:?})),");
        }
    }
    generated.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bundle.rs");
    fs::write(out, generated).expect("OUT_DIR can be written");
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = entries(folder)
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found.iter().filter_map(|path| path.canonicalize().ok()).collect()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = entries(folder).filter(|path| path.is_dir()).collect();
    found.sort();
    found.iter().filter_map(|path| path.canonicalize().ok()).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}
