//! The Python and the JavaScript client, with a script of `tests/fixtures/clients` to run; its head says what it
//! does, check by check.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::installed;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/clients");

/// A client library that is installed.
#[derive(Debug)]
pub struct Library {
    place: PathBuf,
    program: &'static str,
    suffix: &'static str,
}

impl Library {
    /// Those that are here.
    ///
    /// # Panics
    /// Under `CI=true`, when one is missing.
    pub fn all() -> Vec<Self> {
        [
            (
                "the Python client",
                "python",
                "CAPSTAN_PYTHON_CLIENT",
                "python3",
                "py",
            ),
            (
                "the JavaScript client",
                "javascript/node_modules",
                "CAPSTAN_JAVASCRIPT_CLIENT",
                "node",
                "mjs",
            ),
        ]
        .into_iter()
        .filter_map(|(what, place, variable, program, suffix)| {
            let place = installed(what, place, variable)?;
            Some(Self {
                place,
                program,
                suffix,
            })
        })
        .collect()
    }

    /// Runs a script; it must end well, and its last words are how many checks hold.
    ///
    /// # Panics
    /// When it does not.
    pub fn passes(&self, script: &str, kubeconfig: &Path) {
        let mut command = Command::new(self.program);
        command
            .arg(format!("{SCRIPTS}/{script}.{}", self.suffix))
            .arg(kubeconfig)
            .arg(&self.place)
            .env("PYTHONPATH", &self.place)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        let whole = said.trim_end().ends_with(" hold");
        assert!(output.status.success() && whole, "{command:?}\n{said}{complaint}");
        println!("{said}");
    }
}
