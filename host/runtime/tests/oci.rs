//! OCI containers through the CRI surface, on an image made of this machine's own shell. Needs root.
//!
//! This program is also the shim that the runtime starts: `oci shim ...`.

// Clippy sees no test functions here, but they are.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use capstan_runtime::{
    ContainerConfig, ContainerState, ContainerStatus, Cri, Embedded, LinuxContainerResources, Mount, Options,
    PodSandboxConfig, Reader, SandboxState, Streams, shim_main,
};
use node::{Node, WAIT_MAX, container};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == "shim") {
        std::process::exit(shim_main(args[2..].to_vec()));
    }
    if args.get(1).is_some_and(|arg| arg == "node") {
        return run("node", || async { be_a_node(Path::new(&args[2])).await });
    }
    if !nix::unistd::geteuid().is_root() {
        println!("containers need root: only their refusal is tested");
        return run("without_root", without_root);
    }
    run("containers_run_and_end", containers_run_and_end);
    run("stops_and_signals", stops_and_signals);
    run("commands_run_inside", commands_run_inside);
    run("commands_are_talked_to", commands_are_talked_to);
    run("containers_are_attached_to", containers_are_attached_to);
    run("limits_change_while_it_runs", limits_change_while_it_runs);
    run("limits_and_mounts_hold", limits_and_mounts_hold);
    run("containers_outlive_the_node", containers_outlive_the_node);
    run("mistakes_are_named", mistakes_are_named);
}

fn run<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    tokio::runtime::Runtime::new().unwrap().block_on(test());
    println!("test {name} ... ok");
}

/// A `docker save` archive of a shell and a few tools, with the libraries that they need.
fn archive(folder: &Path) -> PathBuf {
    let tools = ["/bin/sh", "/bin/sleep", "/bin/cat", "/usr/bin/env", "/usr/bin/id"];
    let mut found: BTreeSet<PathBuf> = tools.iter().map(PathBuf::from).collect();
    for tool in tools {
        let listed = std::process::Command::new("ldd").arg(tool).output().unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        found.extend(
            text.split_whitespace()
                .filter(|word| word.starts_with('/'))
                .map(PathBuf::from),
        );
    }
    let mut layer = tar::Builder::new(Vec::new());
    for path in &found {
        let mut file = std::fs::File::open(path).unwrap();
        layer
            .append_file(path.strip_prefix("/").unwrap(), &mut file)
            .unwrap();
    }
    let mut add = |name: &str, text: &[u8]| append(&mut layer, name, text);
    add("etc/passwd", b"root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\n");
    add("tmp/.keep", b"");
    let layer = layer.into_inner().unwrap();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo from the image"], "Env": ["FROM=image"] },
    });
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": ["shell:1"], "Layers": ["layer.tar"] }]);
    let path = folder.join("shell.tar.gz");
    let compressed =
        flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(compressed);
    append(&mut archive, "config.json", config.to_string().as_bytes());
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes());
    append(&mut archive, "layer.tar", &layer);
    archive.into_inner().unwrap().finish().unwrap().flush().unwrap();
    path
}

fn append<W: Write>(archive: &mut tar::Builder<W>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes).unwrap();
}

fn options(folder: &Path) -> Options {
    let mut options = Options::new(folder);
    options.shim_command = vec![std::env::current_exe().unwrap().into(), "shim".into()];
    options
}

impl Node {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Embedded::open(options(folder.path())).await.unwrap();
        let image = runtime.load(&archive(folder.path()), None).await.unwrap();
        assert_eq!(image.repo_tags, ["docker.io/library/shell:1"]);
        Self { runtime, folder }
    }

    async fn run(
        &self,
        script: &str,
        adjust: impl FnOnce(&mut ContainerConfig),
    ) -> (ContainerStatus, String) {
        let mut config = shell(script);
        adjust(&mut config);
        let (status, log, id) = self.run_once(config).await;
        assert_no_trace_of(&id);
        (status, log)
    }

    /// Waits until the container has written that.
    async fn logged(&self, id: &str, text: &str) {
        let path = self.runtime.container_status(id).await.unwrap().log_path;
        let written = async {
            while !std::fs::read_to_string(&path).is_ok_and(|log| log.contains(text)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(WAIT_MAX, written).await.expect(text);
    }
}

fn shell(script: &str) -> ContainerConfig {
    let args = if script.is_empty() {
        vec![]
    } else {
        vec![script.to_owned()]
    };
    ContainerConfig {
        args,
        ..container("main", "shell:1")
    }
}

fn texts(log: &str) -> Vec<&str> {
    log.lines().map(|line| line.split_once(' ').unwrap().1).collect()
}

/// No mount, no cgroup, no process of a container is left.
fn assert_no_trace_of(id: &str) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(id), "a mount is left: {mounts}");
    let left = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-name", id])
        .output()
        .unwrap();
    assert!(
        left.stdout.is_empty(),
        "a cgroup is left: {}",
        String::from_utf8_lossy(&left.stdout)
    );
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        assert!(!command.contains(id), "a process is left: {command}");
    }
}

async fn containers_run_and_end() {
    let node = Node::new().await;
    let (status, log) = node.run("", |_| {}).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    assert_eq!(texts(&log), ["stdout F from the image"]);
    let script = "echo $0 $FROM $OWN $HOSTNAME; echo oops >&2; printf unfinished; exit 7";
    let (status, log) = node
        .run(script, |config| {
            config.envs = vec![("OWN".into(), "own".into()), ("FROM".into(), "container".into())]
        })
        .await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    let mut lines = texts(&log);
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "stderr F oops",
            "stdout F /bin/sh container own pod",
            "stdout F unfinished"
        ]
    );
    let (_, log) = node
        .run("id -u; id -g", |config| config.run_as_user = Some(33))
        .await;
    assert_eq!(texts(&log), ["stdout F 33", "stdout F 33"]);
    let (_, log) = node.run("cat /etc/hostname; echo $$", |_| {}).await;
    assert_eq!(texts(&log), ["stdout F pod", "stdout F 1"]);
}

async fn stops_and_signals() {
    let node = Node::new().await;
    let sandbox = node.sandbox("pod").await;
    let polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    for (script, grace_seconds, code) in [(polite, 20, 3), (deaf, 1, 137), (deaf, 0, 137)] {
        let id = node.start(&sandbox, shell(script)).await;
        node.logged(&id, "ready").await;
        node.runtime.stop_container(&id, grace_seconds).await.unwrap();
        assert_eq!(node.ended(&id).await.exit_code, code, "{script}");
        node.runtime.remove_container(&id).await.unwrap();
        std::fs::remove_dir_all(node.folder.path().join("logs")).unwrap();
        assert_no_trace_of(&id);
    }
    // Removed while it runs.
    let id = node.start(&sandbox, shell(deaf)).await;
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    assert_no_trace_of(&id);
}

async fn commands_run_inside() {
    let node = Node::new().await;
    let sandbox = node.sandbox("pod").await;
    let mut config = shell("echo ready; sleep 1000");
    config.run_as_user = Some(33);
    let id = node.start(&sandbox, config).await;
    let exec = async |script: &str, timeout_seconds| {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        node.runtime.exec_sync(&id, &command, timeout_seconds).await
    };
    let done = exec("echo out $FROM; id -u; echo err >&2; exit 5", 10)
        .await
        .unwrap();
    assert_eq!(
        (&done.stdout[..], &done.stderr[..], done.exit_code),
        (&b"out image\n33\n"[..], &b"err\n"[..], 5)
    );
    let error = exec("sleep 1000", 1).await.unwrap_err();
    assert!(matches!(error, capstan_runtime::Error::Timeout(_)), "{error}");
    let missing = node.runtime.exec_sync(&id, &["/no/such".into()], 10).await;
    assert!(missing.is_err() || missing.unwrap().exit_code != 0);
    let stats = node.runtime.container_stats(&id).await.unwrap();
    assert!(stats.cpu_usage_ns > 0 && stats.memory_bytes > 0, "{stats:?}");
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    assert_no_trace_of(&id);
}

const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

async fn text(reader: Option<Reader>) -> String {
    let mut text = String::new();
    let read = reader.unwrap();
    let mut read = std::pin::pin!(read);
    tokio::time::timeout(WAIT_MAX, read.read_to_string(&mut text))
        .await
        .expect("the output ends")
        .unwrap();
    text
}

async fn until(reader: &mut Reader, wanted: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(wanted) {
        let read = tokio::time::timeout(WAIT_MAX, reader.read(&mut buffer)).await;
        let count = read.unwrap_or_else(|_| panic!("{wanted:?} in {seen:?}")).unwrap();
        assert!(count > 0, "{wanted:?} in {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}

async fn commands_are_talked_to() {
    let node = Node::new().await;
    let sandbox = node.sandbox("pod").await;
    let id = node.start(&sandbox, shell("echo ready; sleep 1000")).await;
    let exec = async |script: &str, streams| {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        node.runtime.exec(&id, &command, streams).await.unwrap()
    };
    // Input, its end, both outputs, the exit code.
    let mut session = exec("cat; echo err >&2; exit 7", ALL).await;
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through\n").await.unwrap();
    drop(stdin);
    assert_eq!(text(session.stdout).await, "through\n");
    assert_eq!(text(session.stderr).await, "err\n");
    assert_eq!(session.exit.await.unwrap(), 7);
    // More output than pipes hold, all of it.
    let session = exec(
        "x=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do x=$x$x; done; echo $x",
        ALL,
    )
    .await;
    drop(session.stdin);
    assert_eq!(text(session.stdout).await.len(), (16 << 16) + 1);
    assert_eq!(session.exit.await.unwrap(), 0);
    // A terminal: sized, echoing, its interrupt obeyed.
    let tty = Streams { tty: true, ..ALL };
    let mut session = exec("[ -t 0 ] && [ -t 1 ] && echo on $TERM; read line; echo got $line; trap 'echo cut; exit 9' INT; echo ready; while :; do sleep 0.05; done", tty).await;
    let size = capstan_runtime::TerminalSize {
        width: 100,
        height: 30,
    };
    session.resize.take().unwrap().send(size).await.unwrap();
    let (mut stdin, mut stdout) = (session.stdin.take().unwrap(), session.stdout.take().unwrap());
    until(&mut stdout, "on xterm").await;
    stdin.write_all(b"word\n").await.unwrap();
    let said = until(&mut stdout, "ready").await;
    assert!(said.contains("got word"), "{said}");
    stdin.write_all(b"\x03").await.unwrap();
    until(&mut stdout, "cut").await;
    assert_eq!(session.exit.await.unwrap(), 9);
    let missing = node.runtime.exec(&id, &["/no/such".into()], ALL).await.unwrap();
    let refused = missing.exit.await.unwrap_err().to_string();
    assert!(refused.contains("/no/such"), "{refused}");
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    assert_no_trace_of(&id);
}

async fn containers_are_attached_to() {
    let node = Node::new().await;
    let sandbox = node.sandbox("pod").await;
    let mut config = shell("while read line; do echo got $line; echo err >&2; done; echo end");
    (config.stdin, config.stdin_once) = (true, true);
    let id = node.start(&sandbox, config).await;
    let mut session = node.runtime.attach(&id, ALL).await.unwrap();
    let watcher = Streams { stdin: false, ..ALL };
    let second = node.runtime.attach(&id, watcher).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"one\n").await.unwrap();
    until(session.stdout.as_mut().unwrap(), "got one\n").await;
    drop(stdin);
    assert_eq!(text(session.stdout).await, "end\n");
    assert_eq!(text(session.stderr).await, "err\n");
    assert_eq!(session.exit.await.unwrap(), 0);
    assert_eq!(text(second.stdout).await, "got one\nend\n");
    assert_eq!(node.ended(&id).await.exit_code, 0);
    assert!(node.runtime.attach(&id, ALL).await.is_err(), "it has ended");
    // The container's own terminal.
    let mut config = shell("read line; echo got $line; exit 3");
    config.metadata.attempt = 1;
    (config.stdin, config.tty) = (true, true);
    let id = node.start(&sandbox, config).await;
    let mut session = node
        .runtime
        .attach(&id, Streams { tty: true, ..ALL })
        .await
        .unwrap();
    session.stdin.as_mut().unwrap().write_all(b"two\n").await.unwrap();
    until(session.stdout.as_mut().unwrap(), "got two").await;
    assert_eq!(node.ended(&id).await.exit_code, 3);
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    assert_no_trace_of(&id);
}

async fn limits_change_while_it_runs() {
    let node = Node::new().await;
    let sandbox = node.sandbox("pod").await;
    let limits = |mebibytes: i64| LinuxContainerResources {
        memory_limit_bytes: mebibytes << 20,
        cpu_quota_us: 50_000,
        cpu_period_us: 100_000,
        cpu_shares: 256,
    };
    let mut config = shell("read line; x=0123456789abcdef; while :; do x=$x$x; done");
    (config.stdin, config.resources) = (true, limits(512));
    let id = node.start(&sandbox, config).await;
    node.runtime
        .update_container_resources(&id, limits(16))
        .await
        .unwrap();
    let mut session = node.runtime.attach(&id, ALL).await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    assert_eq!(node.ended(&id).await.reason, "OOMKilled");
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
}

async fn limits_and_mounts_hold() {
    let node = Node::new().await;
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("file"), "content\n").unwrap();
    let mount = |readonly| Mount {
        container_path: "/data".into(),
        host_path: host.path().to_owned(),
        readonly,
    };
    let (_, log) = node
        .run("cat /data/file", |config| config.mounts = vec![mount(true)])
        .await;
    assert_eq!(texts(&log), ["stdout F content"]);
    let (status, _) = node
        .run("echo x > /data/new", |config| config.mounts = vec![mount(true)])
        .await;
    assert_ne!(status.exit_code, 0);
    let (status, _) = node
        .run("echo x > /data/new", |config| config.mounts = vec![mount(false)])
        .await;
    assert_eq!(status.exit_code, 0);
    assert_eq!(std::fs::read_to_string(host.path().join("new")).unwrap(), "x\n");
    let (status, _) = node
        .run("echo x > /file", |config| config.readonly_rootfs = true)
        .await;
    assert_ne!(status.exit_code, 0);
    let (_, log) = node.run("echo x > /file; cat /file", |_| {}).await;
    assert_eq!(texts(&log), ["stdout F x"]);
    let (status, _) = node.run("cat /file", |_| {}).await;
    assert_ne!(
        status.exit_code, 0,
        "what one container writes, another does not see"
    );
    let limit = LinuxContainerResources {
        memory_limit_bytes: 16 << 20,
        ..Default::default()
    };
    let eat = "x=0123456789abcdef; while :; do x=$x$x; done";
    let (status, _) = node.run(eat, |config| config.resources = limit).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

/// `oci node FOLDER`: a node with one container, until it is killed.
async fn be_a_node(folder: &Path) {
    let runtime = Embedded::open(options(folder)).await.unwrap();
    runtime.load(&archive(folder), None).await.unwrap();
    let config = PodSandboxConfig {
        log_directory: folder.join("logs"),
        ..Default::default()
    };
    let sandbox = runtime.run_pod_sandbox(config).await.unwrap();
    let script = "trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done";
    let id = runtime.create_container(&sandbox, shell(script)).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    println!("{id}");
    std::future::pending().await
}

async fn containers_outlive_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("node")
        .arg(folder.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut id = String::new();
    BufReader::new(first.stdout.take().unwrap())
        .read_line(&mut id)
        .unwrap();
    let id = id.trim();
    first.kill().unwrap();
    first.wait().unwrap();

    let runtime = Embedded::open(options(folder.path())).await.unwrap();
    let node = Node { runtime, folder };
    assert_eq!(
        node.runtime.container_status(id).await.unwrap().state,
        ContainerState::Running
    );
    let sandbox = node.runtime.list_pod_sandbox().await.unwrap().remove(0);
    assert_eq!(sandbox.state, SandboxState::Ready, "its address is still its own");
    node.logged(id, "ready").await;
    node.runtime.stop_container(id, 20).await.unwrap();
    assert_eq!(node.runtime.container_status(id).await.unwrap().exit_code, 4);
    let again = Embedded::open(options(node.folder.path())).await.unwrap();
    assert_eq!(again.container_status(id).await.unwrap().exit_code, 4);
    again.remove_pod_sandbox(&sandbox.id).await.unwrap();
    assert_no_trace_of(id);
}

async fn mistakes_are_named() {
    let node = Node::new().await;
    let sandbox = node.sandbox("pod").await;
    let mut config = shell("");
    config.command = vec!["/no/such/program".into()];
    let id = node.runtime.create_container(&sandbox, config).await.unwrap();
    let error = node.runtime.start_container(&id).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/program"), "{error}");
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    assert_no_trace_of(&id);
}

async fn without_root() {
    let node = Node::new().await;
    let sandbox = node.sandbox("pod").await;
    let error = node
        .runtime
        .create_container(&sandbox, shell(""))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("need root"), "{error}");
}
