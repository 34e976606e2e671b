//! Embeds the templates of `sdk/`, the guest libraries and the contracts of `wit/`, so that the binary alone makes a
//! project from an empty folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Folders and files that a build or a test leaves behind, and what only the repository's own tests read.
const LEFTOVERS: [&str; 7] = [
    "target",
    "Cargo.lock",
    "__pycache__",
    "node_modules",
    "capstan",
    "wit_world",
    "released.txt",
];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().expect("the workspace is there");
    let mut files = BTreeMap::new();
    for folder in ["sdk", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
        collect(&root, &root.join(folder), &mut files);
    }
    let workspace = root.join("Cargo.toml");
    println!("cargo::rerun-if-changed={}", workspace.display());
    let workspace = fs::read_to_string(workspace).expect("the workspace has a manifest");
    let manifest = files
        .get_mut("sdk/rust/Cargo.toml")
        .expect("the Rust SDK has a manifest");
    *manifest = stand_alone(manifest, &workspace);
    let mut generated = String::from("/// Files by their path in the repository.\n");
    generated.push_str("pub(crate) static FILES: &[(&str, &str)] = &[\n");
    for (path, text) in files {
        let _ = writeln!(generated, "    ({path:?}, {text:?}),");
    }
    generated.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("files.rs");
    fs::write(out, generated).expect("OUT_DIR can be written");
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if LEFTOVERS.contains(&name.as_str()) || name.ends_with(".wasm") {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).expect("it is below the root");
            files.insert(path.to_string_lossy().into_owned(), text);
        }
    }
}

/// The manifest without what it inherits from the workspace.
fn stand_alone(manifest: &str, workspace: &str) -> String {
    let inherited = |section: &str, key: &str| {
        let body = workspace
            .split_once(&format!("[{section}]\n"))
            .map(|(_, rest)| rest);
        body.and_then(|body| {
            body.lines()
                .take_while(|line| !line.starts_with('['))
                .find(|line| line.starts_with(&format!("{key} = ")))
        })
    };
    let mut lines = Vec::new();
    for line in manifest.lines() {
        let Some(key) = line.strip_suffix(".workspace = true") else {
            lines.push(line);
            continue;
        };
        let found = inherited("workspace.package", key).or_else(|| inherited("workspace.dependencies", key));
        lines.push(found.expect("the workspace has what it inherits"));
    }
    lines.join("\n").replace("[lints]\nworkspace = true\n", "") + "\n"
}
