//! Runs the machine's own tools and says what they said when they fail.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Runs `program` with `arguments` split at spaces; its output.
///
/// # Errors
/// When it is not there or fails, with what it printed.
pub fn run(program: &str, arguments: &str) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("{program} is needed and could not be run"))?;
    if !output.status.success() {
        bail!(
            "`{program} {arguments}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
