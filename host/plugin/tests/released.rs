//! Released contracts stay as they were: a component that was built against one is never misread.
//!
//! `wit/released.txt` names each with the digest of its text. Comments and spacing may improve, nothing else: a
//! change needs a new version of the package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text that has a meaning: without comments, each run of space as one.
fn meaning(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines
        .flat_map(str::split_whitespace)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Name and version as the package itself gives them.
fn package(meaning: &str) -> Option<(String, String)> {
    let (_, rest) = meaning.split_once("package ")?;
    let (name, version) = rest.split(';').next()?.split_once('@')?;
    Some((name.to_owned(), version.to_owned()))
}

/// Digests of all packages in the folder by name and version, the files of one in the order of their names.
fn packages(folder: &Path) -> BTreeMap<(String, String), String> {
    let entries = |folder: &Path| {
        let entries =
            std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let mut digests = BTreeMap::new();
    for folder in entries(folder).iter().filter(|path| path.is_dir()) {
        let is_wit = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "wit");
        let texts: Vec<String> = entries(folder)
            .iter()
            .filter(is_wit)
            .map(|path| meaning(&read(path)))
            .collect();
        let all = texts.join("\n");
        let named = package(&all).unwrap_or_else(|| panic!("{} names no package", folder.display()));
        let digest: String = Sha256::digest(&all)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        digests.insert(named, digest);
    }
    digests
}

#[test]
fn released_packages_are_as_they_were() {
    let present = packages(&wit());
    let released = read(&wit().join("released.txt"));
    let mut count = 0;
    for line in released.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, version, digest] = words[..] else {
            panic!("{line:?} is not a name, a version and a digest");
        };
        let found = present.get(&(name.to_owned(), version.to_owned()));
        assert_eq!(
            found.map(String::as_str),
            Some(digest),
            "{name}@{version} was released: put it back, and give what changed a new version beside it"
        );
        count += 1;
    }
    println!("{count} released packages are as they were; all: {present:#?}");
    assert!(count > 0, "nothing is released");
}

#[test]
fn only_what_has_a_meaning_counts() {
    let (a, b) = (
        "/// What it is.\npackage a:b@1.0.0;\ninterface c { d: func() -> u32; } // why",
        "package a:b@1.0.0;\n\n\n  interface c {\n  d: func() -> u32;\n}",
    );
    assert_eq!(meaning(a), meaning(b));
    assert_ne!(meaning(a), meaning(&b.replace("u32", "u64")));
    assert_eq!(package(&meaning(a)), Some(("a:b".into(), "1.0.0".into())));
}
