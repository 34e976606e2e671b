//! The Python and the JavaScript client on one cluster: each runs its script of `tests/fixtures/clients`, which says
//! what it does, check by check.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use capstan_tests::{Cluster, installed};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/clients");

/// Both at once, as clients come; each has a namespace of its own.
#[test]
fn the_client_libraries_do_what_their_users_do() {
    let cluster = LazyLock::new(Cluster::start);
    std::thread::scope(|scope| {
        if let Some(library) = installed("the Python client", "python", "CAPSTAN_PYTHON_CLIENT") {
            let kubeconfig = cluster.kubeconfig();
            scope.spawn(move || passes(python(&library, &kubeconfig)));
        }
        if let Some(library) = installed(
            "the JavaScript client",
            "javascript/node_modules",
            "CAPSTAN_JAVASCRIPT_CLIENT",
        ) {
            let kubeconfig = cluster.kubeconfig();
            scope.spawn(move || passes(javascript(&library, &kubeconfig)));
        }
    });
}

fn python(library: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new("python3");
    command.arg(format!("{SCRIPTS}/client.py")).arg(kubeconfig);
    command
        .env("PYTHONPATH", library)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn javascript(library: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new("node");
    command
        .arg(format!("{SCRIPTS}/client.mjs"))
        .arg(kubeconfig)
        .arg(library);
    command
}

/// Runs it; it must end well, and its last words are how many checks hold.
fn passes(mut command: Command) {
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
