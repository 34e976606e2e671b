//! The book's commands, run as they stand on the page: a page that lies fails.
//!
//! Each `sh` block is one script, run in order in one folder against one cluster; the lines of a `text` block after it
//! must be in its output.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use capstan_tests::{Cluster, binary, root};

/// `capstan`, and a new project gets this workspace's choice of versions, so that crates are built once for all tests.
const WRAPPER: &str = r#"#!/bin/sh
"$CAPSTAN_BIN" "$@" || exit $?
[ "$1 $2" != "plugin new" ] || cp "$CAPSTAN_LOCK" "$3/Cargo.lock"
"#;

/// A script of the page, and what its output holds.
#[derive(Debug, Default)]
struct Step {
    /// Of the page, for messages.
    line: usize,
    script: String,
    says: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut block = None;
    for (at, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), block) {
            (Some("sh"), None) => {
                let line = at + 1;
                steps.push(Step {
                    line,
                    ..Step::default()
                });
                block = Some("sh");
            }
            (Some(kind), None) => block = Some(kind),
            (Some(_), Some(_)) => block = None,
            (None, Some("sh")) => {
                let step = steps.last_mut().expect("the block made one");
                step.script += line;
                step.script.push('\n');
            }
            (None, Some("text")) => {
                let step = steps.last_mut().expect("output comes after commands");
                step.says.push(line.to_owned());
            }
            _ => {}
        }
    }
    steps
}

fn tools(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let wrapper = folder.join("capstan");
    fs::write(&wrapper, WRAPPER).expect("a script");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("a program");
    if let Some(kubectl) = std::env::var_os("CAPSTAN_KUBECTL") {
        std::os::unix::fs::symlink(kubectl, folder.join("kubectl")).expect("a link");
    }
}

#[test]
fn a_first_day_goes_as_it_is_told() {
    let page = fs::read_to_string(root().join("docs/first-day.md")).expect("the page");
    let cluster = Cluster::start();
    let bin = cluster.scratch().join("bin");
    tools(&bin);
    let path = std::env::var("PATH").unwrap_or_default();
    let steps = steps(&page);
    assert!(steps.len() > 5, "the page has {} blocks of commands", steps.len());
    for step in steps {
        let output = Command::new("sh")
            .args(["-euxc", &step.script])
            .current_dir(cluster.scratch())
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("CAPSTAN_BIN", binary())
            .env("CAPSTAN_LOCK", root().join("Cargo.lock"))
            .env("CARGO_TARGET_DIR", root().join("target/authoring"))
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("XDG_CACHE_HOME", cluster.scratch().join("cache"))
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        println!("line {}:\n{text}", step.line);
        assert!(
            output.status.success(),
            "line {}: {}\n{text}",
            step.line,
            step.script
        );
        for wanted in step.says {
            assert!(
                text.contains(&wanted),
                "line {}: {wanted:?} is not in\n{text}",
                step.line
            );
        }
    }
}
