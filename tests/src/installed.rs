//! The clients that `cargo xtask test` installs into `target/tools`.
//!
//! One that is missing is said aloud, and its test goes on without it; under `CI=true` it is promised, and its
//! absence a failure.

use std::path::PathBuf;

use crate::cluster::root;

/// The path of what is installed at `place` in `target/tools`, or where the variable names another.
///
/// # Panics
/// Under `CI=true`, when it is missing.
pub fn installed(what: &str, place: &str, variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = named.unwrap_or_else(|| root().join("target/tools").join(place));
    if path.exists() {
        return Some(path);
    }
    let missing = format!("{what} is missing: `cargo xtask test` installs it, or {variable} names it");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{missing}");
    eprintln!("{missing}");
    None
}
