//! Wasm pods through the CRI surface: what a kubelet sees of servers and commands.
//!
//! The workloads are `tests/workloads/*`; build them with `cargo xtask components`.

// What the tests share is not marked as a test, but is one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capstan_runtime::{
    ContainerConfig, ContainerState, ContainerStatus, Cri, Embedded, LinuxContainerResources, Mount, Options,
    SandboxState,
};
use node::{Node, WAIT_MAX, container};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn component(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/components")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask components` first",
        path.display()
    );
    path
}

impl Node {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Embedded::open(Options::new(folder.path())).await.unwrap();
        for (file, name) in [
            ("capstan-hello-http.wasm", "hello:1"),
            ("capstan-hello-cli.wasm", "command:1"),
        ] {
            runtime.load(&component(file), Some(name)).await.unwrap();
        }
        Self { runtime, folder }
    }

    async fn ip(&self, sandbox: &str) -> String {
        let all = self.runtime.list_pod_sandbox().await.unwrap();
        all.into_iter().find(|found| found.id == sandbox).unwrap().ip
    }

    /// Runs a command to its end.
    async fn run(
        &self,
        args: &[&str],
        adjust: impl FnOnce(&mut ContainerConfig),
    ) -> (ContainerStatus, String) {
        let mut config = container("main", "command:1");
        config.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        adjust(&mut config);
        let (status, log, _) = self.run_once(config).await;
        (status, log)
    }
}

async fn get(ip: &str, port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((ip, port)).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: {ip}\r\nconnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The lines of a log without their times.
fn texts(log: &str) -> Vec<&str> {
    log.lines().map(|line| line.split_once(' ').unwrap().1).collect()
}

#[tokio::test]
async fn two_servers_share_a_port_and_log() {
    let node = Node::new().await;
    let mut ips = Vec::new();
    for name in ["web-a", "web-b"] {
        let sandbox = node.sandbox(name).await;
        let mut config = container("web", "hello:1");
        config.ports = vec![8080];
        node.start(&sandbox, config).await;
        let ip = node.ip(&sandbox).await;
        let answer = get(&ip, 8080, "/").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains(&format!("Hello from {name}")), "{answer}");
        ips.push(ip);
    }
    assert_ne!(ips[0], ips[1]);
    assert!(
        get(&ips[0], 8080, "/nothing")
            .await
            .unwrap()
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        get(&ips[0], 8080, "/stats")
            .await
            .unwrap()
            .contains("requests 3\nnot-found 1")
    );
    let log = std::fs::read_to_string(node.folder.path().join("logs/web-a/web/0.log")).unwrap();
    assert_eq!(
        texts(&log),
        [
            "stdout F GET / 200",
            "stdout F GET /nothing 404",
            "stdout F GET /stats 200"
        ]
    );
    assert!(log.starts_with("20") && log.as_bytes()[29] == b'Z', "{log}");
}

#[tokio::test]
async fn a_trap_or_a_spin_hurts_its_request_alone() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.start(&sandbox, container("web", "hello:1")).await;
    let ip = node.ip(&sandbox).await;
    let trapped = get(&ip, 8080, "/trap").await.unwrap();
    assert!(trapped.starts_with("HTTP/1.1 502"), "{trapped}");
    // As many spinning guests as there could be threads.
    let mut spinning = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect((ip.as_str(), 8080)).await.unwrap();
        stream
            .write_all(b"GET /spin HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        spinning.push(stream);
    }
    let answer = tokio::time::timeout(WAIT_MAX, get(&ip, 8080, "/healthz"))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.contains("\r\nok\n"), "{answer}");
    // The clients go: their calls must end, and with them the use of CPU.
    drop(spinning);
    let quiet = async {
        loop {
            let before = node.runtime.container_stats(&id).await.unwrap().cpu_usage_ns;
            tokio::time::sleep(Duration::from_millis(100)).await;
            if node.runtime.container_stats(&id).await.unwrap().cpu_usage_ns - before < 1_000_000 {
                return;
            }
        }
    };
    tokio::time::timeout(WAIT_MAX, quiet)
        .await
        .expect("abandoned calls end");
    assert_eq!(
        node.runtime.container_status(&id).await.unwrap().state,
        ContainerState::Running
    );
    assert!(get(&ip, 8080, "/").await.is_ok());
}

#[tokio::test]
async fn a_server_stops_in_good_order_or_by_force() {
    let node = Node::new().await;
    for (path, grace_seconds, code) in [("/healthz", 20, 0), ("/spin", 1, 137)] {
        let sandbox = node.sandbox("web").await;
        let id = node.start(&sandbox, container("web", "hello:1")).await;
        let ip = node.ip(&sandbox).await;
        let mut stream = TcpStream::connect((ip.as_str(), 8080)).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        if code == 0 {
            assert!(stream.read_u8().await.is_ok());
        } else {
            // The guest spins when it has used more CPU than a start takes.
            let spins_from = node.runtime.container_stats(&id).await.unwrap().cpu_usage_ns + 100_000_000;
            while node.runtime.container_stats(&id).await.unwrap().cpu_usage_ns < spins_from {
                tokio::task::yield_now().await;
            }
        }
        let start = Instant::now();
        node.runtime.stop_container(&id, grace_seconds).await.unwrap();
        let status = node.runtime.container_status(&id).await.unwrap();
        assert_eq!(
            (status.state, status.exit_code),
            (ContainerState::Exited, code),
            "{path}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "an idle connection does not hold up a stop"
        );
        assert!(get(&ip, 8080, "/").await.is_err(), "the port is closed");
        node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    }
}

#[tokio::test]
async fn a_command_gets_what_its_container_says() {
    let node = Node::new().await;
    let (status, log) = node
        .run(&[], |config| {
            config.envs = vec![("GREETING".into(), "hi".into())];
            config.working_dir = "/data".into();
        })
        .await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    assert_eq!(
        texts(&log),
        [
            "stdout F arguments main",
            "stdout F working directory /data",
            "stdout F HOSTNAME=pod",
            "stdout F GREETING=hi",
            "stderr F a line on stderr"
        ]
    );
}

#[tokio::test]
async fn commands_end_with_their_exit_codes() {
    let node = Node::new().await;
    let (status, _) = node.run(&["fail"], |_| {}).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (1, "Error"));
    let (status, log) = node.run(&["trap"], |_| {}).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (134, "Error"));
    assert!(
        status.message.contains("unreachable") && log.contains("the component trapped"),
        "{status:?}"
    );
    let limit = LinuxContainerResources {
        memory_limit_bytes: 16 << 20,
        ..Default::default()
    };
    let (status, _) = node.run(&["eat"], |config| config.resources = limit).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

#[tokio::test]
async fn a_stop_ends_commands_that_spin_or_sleep() {
    let node = Node::new().await;
    for (args, grace_seconds, code) in [
        (&["spin"][..], 5, 143),
        (&["sleep", "1000"], 5, 143),
        (&["spin"], 0, 137),
    ] {
        let sandbox = node.sandbox("command").await;
        let mut config = container("main", "command:1");
        config.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let id = node.start(&sandbox, config).await;
        node.runtime.stop_container(&id, grace_seconds).await.unwrap();
        assert_eq!(node.ended(&id).await.exit_code, code, "{args:?}");
    }
}

#[tokio::test]
async fn mounts_are_seen_and_readonly_is_kept() {
    let node = Node::new().await;
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("file"), "content\n").unwrap();
    let folder = |readonly| Mount {
        container_path: "/data".into(),
        host_path: host.path().to_owned(),
        readonly,
    };
    let (_, log) = node
        .run(&["cat", "/data/file"], |config| {
            config.mounts = vec![folder(true)]
        })
        .await;
    assert_eq!(texts(&log), ["stdout F content"]);
    let (status, _) = node
        .run(&["write", "/data/new", "x"], |config| {
            config.mounts = vec![folder(true)]
        })
        .await;
    assert_eq!(status.exit_code, 1);
    let (status, _) = node
        .run(&["write", "/data/new", "x"], |config| {
            config.mounts = vec![folder(false)]
        })
        .await;
    assert_eq!(status.exit_code, 0);
    assert_eq!(std::fs::read_to_string(host.path().join("new")).unwrap(), "x");
    let file = Mount {
        container_path: "/etc/app/name".into(),
        host_path: host.path().join("file"),
        readonly: true,
    };
    let (_, log) = node
        .run(&["cat", "/etc/app/name"], |config| config.mounts = vec![file])
        .await;
    assert_eq!(texts(&log), ["stdout F content"]);
    let (_, log) = node.run(&["cat", "/etc/passwd"], |_| {}).await;
    assert_eq!(texts(&log), ["stderr F /etc/passwd: in no mounted folder"]);
}

#[tokio::test]
async fn a_restarted_node_finds_what_it_had() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.start(&sandbox, container("web", "hello:1")).await;
    let ip = node.ip(&sandbox).await;
    let Node { runtime, folder } = node;
    // As a killed process leaves it: the state of a moment at which the container ran.
    let left = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(folder.path().join("."))
        .arg(left.path())
        .status();
    assert!(copied.unwrap().success());
    runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    drop(runtime);
    let runtime = Embedded::open(Options::new(left.path())).await.unwrap();
    let node = Node {
        runtime,
        folder: left,
    };
    let status = node.runtime.container_status(&id).await.unwrap();
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 255));
    assert!(status.message.contains("restarted"), "{}", status.message);
    assert_eq!(node.ip(&sandbox).await, ip);
    assert_eq!(
        node.runtime.list_pod_sandbox().await.unwrap()[0].state,
        SandboxState::Ready
    );
    let mut again = container("web", "hello:1");
    again.metadata.attempt = 1;
    node.start(&sandbox, again).await;
    assert!(get(&ip, 8080, "/").await.unwrap().contains("Hello from web"));
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    assert!(node.runtime.list_containers().await.unwrap().is_empty());
    for kept in ["sandboxes", "containers"] {
        let folder = node.folder.path().join("runtime-state").join(kept);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "{kept}");
    }
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.start(&sandbox, container("web", "hello:1")).await;
    let second = node
        .runtime
        .create_container(&sandbox, container("second", "hello:1"))
        .await
        .unwrap();
    let error = node
        .runtime
        .start_container(&second)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("listening on") && error.contains(":8080"),
        "{error}"
    );
    let error = node
        .runtime
        .exec_sync(&id, &["ls".into()], 1)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("Wasm component"), "{error}");
    let error = node
        .runtime
        .create_container(&sandbox, container("x", "missing:1"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("missing:1"), "{error}");
    assert!(
        node.runtime.start_container(&id).await.is_err(),
        "a container starts once"
    );
    let mut missing = container("mounted", "command:1");
    missing.mounts = vec![Mount {
        container_path: "/x".into(),
        host_path: "/does/not/exist".into(),
        readonly: true,
    }];
    let missing = node.runtime.create_container(&sandbox, missing).await.unwrap();
    let error = node
        .runtime
        .start_container(&missing)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("/does/not/exist"), "{error}");
    // Idempotent, as CRI demands.
    node.runtime.stop_container("gone", 0).await.unwrap();
    node.runtime.remove_container("gone").await.unwrap();
    node.runtime.stop_pod_sandbox("gone").await.unwrap();
    node.runtime.remove_pod_sandbox("gone").await.unwrap();
}
