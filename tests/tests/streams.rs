//! kubectl's exec, attach, cp, port-forward, debug and resize against a cluster, over WebSocket and over SPDY, and
//! the same by the Python and the JavaScript client (`fixtures/clients/streams.*`);
//! in a container made of this machine's own shell, so that it needs root. Without, components alone.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use capstan_tests::{Cluster, Library, get, until};

const TOOLS: [&str; 11] = [
    "/bin/sh",
    "/bin/sleep",
    "/bin/cat",
    "/bin/tar",
    "/bin/ls",
    "/bin/true",
    "/bin/echo",
    "/usr/bin/head",
    "/usr/bin/env",
    "/usr/bin/wc",
    "/usr/bin/stty",
];
/// What makes kubectl 1.32 speak WebSocket, or SPDY.
const TRANSPORTS: [&str; 2] = ["true", "false"];

/// A cluster whose containers end before it does, also when the test fails.
struct Emptied(Cluster);

impl Drop for Emptied {
    fn drop(&mut self) {
        let _ = self
            .0
            .kubectl(&["delete", "pods", "--all", "--now", "--timeout=30s"]);
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// kubectl with a transport, on pipes.
fn kubectl(cluster: &Cluster, websocket: &str, arguments: &[&str]) -> Child {
    let mut command = cluster.kubectl_command(arguments);
    command
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websocket)
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websocket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("kubectl starts")
}

/// Gives it that input; its whole output.
fn finish(mut child: Child, input: &[u8]) -> Output {
    let mut stdin = child.stdin.take().expect("its input is piped");
    let input = input.to_vec();
    let feeding = std::thread::spawn(move || {
        // What ended may not have read all.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("our own child");
    feeding.join().expect("the feeder ends");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A `docker save` archive of a shell and a few tools, with the libraries that they need.
fn archive(folder: &Path) -> PathBuf {
    let mut found: BTreeSet<PathBuf> = TOOLS.iter().map(PathBuf::from).collect();
    for tool in TOOLS {
        let listed = Command::new("ldd").arg(tool).output().expect("ldd");
        let libraries = text(&listed.stdout);
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        found.extend(paths.map(PathBuf::from));
    }
    let mut layer = tar::Builder::new(Vec::new());
    for path in &found {
        let mut file = std::fs::File::open(path).expect("it is on this machine");
        let name = path.strip_prefix("/").expect("it is absolute");
        layer.append_file(name, &mut file).expect("memory takes it");
    }
    append(&mut layer, "tmp/.keep", b"");
    let layer = layer.into_inner().expect("memory takes it");
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Cmd": ["/bin/sh"] },
    });
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": ["example.com/shell:1"], "Layers": ["layer.tar"] }]);
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "config.json", config.to_string().as_bytes());
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes());
    append(&mut archive, "layer.tar", &layer);
    let path = folder.join("shell.tar");
    std::fs::write(&path, archive.into_inner().expect("memory takes it")).expect("a temporary file");
    path
}

fn append<W: Write>(archive: &mut tar::Builder<W>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, name, bytes)
        .expect("memory takes it");
}

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: { name: shell }
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: example.com/shell:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, 'while :; do sleep 1; done']
      resources: { requests: { cpu: 100m, memory: 64Mi }, limits: { cpu: 500m, memory: 64Mi } }
---
apiVersion: v1
kind: Pod
metadata: { name: ask-true }
spec: &ask
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
    - name: main
      image: example.com/shell:1
      imagePullPolicy: Never
      stdin: true
      stdinOnce: true
      command: [/bin/sh, -c, 'while read line; do echo got $line; done; echo end']
---
apiVersion: v1
kind: Pod
metadata: { name: ask-false }
spec: *ask
---
apiVersion: v1
kind: Pod
metadata: { name: ask-python }
spec: *ask
---
apiVersion: v1
kind: Pod
metadata: { name: ask-javascript }
spec: *ask
---
apiVersion: v1
kind: Pod
metadata: { name: web }
spec: { containers: [{ name: main, image: 'capstan.dev/hello-http:1' }] }
";

#[test]
fn sessions_in_a_container() {
    if !is_root() {
        println!("containers need root");
        return;
    }
    let cluster = Emptied(Cluster::start());
    let cluster = &cluster.0;
    let folder = cluster.scratch();
    let mut load = Command::new(cluster.command().get_program());
    load.args(["image", "load"])
        .arg(archive(&folder))
        .arg("--data-dir")
        .arg(cluster.data_dir());
    assert!(load.status().expect("the binary starts").success());
    // YAML's anchors do not reach over documents.
    let ask = PODS
        .split("spec: &ask")
        .nth(1)
        .and_then(|rest| rest.split("---").next())
        .expect("a spec");
    cluster
        .apply(
            &PODS
                .replace("spec: &ask", "spec:")
                .replace("spec: *ask", &format!("spec:{ask}")),
        )
        .clean();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"])
        .clean();
    for websocket in TRANSPORTS {
        commands(cluster, websocket);
        copies(cluster, websocket, &folder);
        attachment(cluster, websocket);
    }
    for library in Library::all() {
        library.passes("streams", &cluster.kubeconfig());
    }
    a_terminal(cluster);
    debugging(cluster);
    resizing(cluster);
}

fn commands(cluster: &Cluster, websocket: &str) {
    let exec = |arguments: &[&str], input: &[u8]| {
        let arguments: Vec<&str> = ["exec", "-i", "shell", "--"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        finish(kubectl(cluster, websocket, &arguments), input)
    };
    let output = exec(&["sh", "-c", "echo out; echo err >&2; exit 3"], b"");
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(3), "out\n")
    );
    assert!(
        text(&output.stderr).contains("err\ncommand terminated with exit code 3"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(
        text(&exec(&["cat"], b"through and back").stdout),
        "through and back"
    );
    // More than any buffer holds, both ways at once.
    let much: Vec<u8> = (0..4_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    assert!(
        exec(&["cat"], &much).stdout == much,
        "4 MB come back as they were"
    );
    let refused = exec(&["/no/such"], b"");
    let said = text(&refused.stderr);
    assert!(
        !refused.status.success()
            && said.contains("Internal error occurred: error executing command in container")
            && said.contains("/no/such"),
        "{said}"
    );
}

fn copies(cluster: &Cluster, websocket: &str, folder: &Path) {
    let (there, back) = (folder.join("there"), folder.join("back"));
    std::fs::write(&there, websocket.repeat(100_000)).expect("a temporary file");
    let (from, to) = (there.to_str().expect("text"), back.to_str().expect("text"));
    assert!(
        finish(kubectl(cluster, websocket, &["cp", from, "shell:/tmp/copy"]), b"")
            .status
            .success()
    );
    assert!(
        finish(kubectl(cluster, websocket, &["cp", "shell:/tmp/copy", to]), b"")
            .status
            .success()
    );
    assert_eq!(
        std::fs::read_to_string(&back).expect("it was copied"),
        websocket.repeat(100_000)
    );
}

fn attachment(cluster: &Cluster, websocket: &str) {
    let pod = format!("ask-{websocket}");
    let output = finish(
        kubectl(cluster, websocket, &["attach", "-i", &pod]),
        b"one\ntwo\n",
    );
    assert_eq!(
        text(&output.stdout),
        "got one\ngot two\nend\n",
        "{}",
        text(&output.stderr)
    );
    until("its end", || {
        let phase = cluster.get(&["pod", &pod])?["status"]["phase"].clone();
        if phase == "Succeeded" {
            Ok(())
        } else {
            Err(phase.to_string())
        }
    });
}

/// kubectl needs a terminal of its own for that: `script` gives it one.
fn a_terminal(cluster: &Cluster) {
    let exec = "exec -it shell -- sh -c 'stty -a; [ -t 0 ] && echo on $TERM; exit 5'";
    let line = format!(
        "stty rows 30 cols 100; kubectl --kubeconfig {} {exec}",
        cluster.kubeconfig().display()
    );
    let Ok(output) = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .output()
    else {
        return println!("no script(1) here");
    };
    let said = text(&output.stdout);
    assert!(
        said.contains("on xterm") && output.status.code() == Some(5),
        "{said}"
    );
}

fn debugging(cluster: &Cluster) {
    let debug = [
        "debug",
        "shell",
        "--image=example.com/shell:1",
        "--image-pull-policy=Never",
        "--target=main",
        "-c",
        "look",
        "--",
    ];
    let command = ["sh", "-c", "cat /proc/1/cmdline; echo; sleep 1000"];
    cluster
        .kubectl(&[&debug[..], &command[..]].concat())
        .clean_or_warned();
    until("the ephemeral container", || {
        let status = cluster.get(&["pod", "shell"])?["status"]["ephemeralContainerStatuses"][0].clone();
        if status["state"]["running"].is_object() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let log = until("its log", || {
        let log = cluster.kubectl(&["logs", "shell", "-c", "look"]);
        if log.out.is_empty() {
            Err(log.err)
        } else {
            Ok(log.out)
        }
    });
    assert!(
        log.contains("while :; do sleep 1; done"),
        "the target's first process: {log}"
    );
    assert_eq!(
        cluster
            .kubectl(&["exec", "shell", "-c", "look", "--", "sh", "-c", "echo here"])
            .clean(),
        "here\n"
    );
}

fn resizing(cluster: &Cluster) {
    let more = r#"{"spec":{"containers":[{"name":"main","resources":{"requests":{"memory":"96Mi"},"limits":{"cpu":"800m","memory":"96Mi"}}}]}}"#;
    cluster
        .kubectl(&[
            "patch",
            "pod",
            "shell",
            "--subresource",
            "resize",
            "--patch",
            more,
        ])
        .clean();
    let id = until("the new limits", || {
        let pod = cluster.get(&["pod", "shell"])?;
        let status = &pod["status"]["containerStatuses"][0];
        let settled = status["resources"]["limits"] == serde_json::json!({ "cpu": "800m", "memory": "96Mi" })
            && pod["status"]["observedGeneration"] == pod["metadata"]["generation"];
        assert_eq!(status["restartCount"], 0);
        match status["containerID"]
            .as_str()
            .and_then(|id| id.rsplit('/').next())
        {
            Some(id) if settled => Ok(id.to_owned()),
            _ => Err(pod["status"].to_string()),
        }
    });
    let files = [
        format!("/sys/fs/cgroup/memory/capstan/{id}/memory.limit_in_bytes"),
        format!("/sys/fs/cgroup/capstan/{id}/memory.max"),
    ];
    let limit = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
    assert_eq!(
        limit.as_deref().map(str::trim),
        Some("100663296"),
        "in the control group"
    );
}

#[test]
fn ports_and_places_of_a_component() {
    let cluster = Cluster::start();
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec: { containers: [{ name: main, image: 'capstan.dev/hello-http:1', ports: [{ containerPort: 8080 }] }] }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
";
    cluster.apply(pod).clean();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
        .clean();
    for websocket in TRANSPORTS {
        let mut forward = kubectl(&cluster, websocket, &["port-forward", "pod/web", ":8080"]);
        let mut output = BufReader::new(forward.stdout.take().expect("its output is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it says where");
        let port = line
            .split("127.0.0.1:")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let address = format!("127.0.0.1:{}", port.unwrap_or_else(|| panic!("{line}")));
        // Its further words must not fill the pipe.
        std::thread::spawn(move || drop(output.read_to_end(&mut Vec::new())));
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let address = address.clone();
                std::thread::spawn(move || get(&address, "/"))
            })
            .collect();
        for answer in asked {
            let answer = answer.join().expect("it asks");
            assert!(
                answer.as_ref().is_ok_and(|body| body.contains("Hello from web")),
                "{answer:?}"
            );
        }
        forward.kill().expect("our own child");
        forward.wait().expect("our own child");
    }
    until("the service's endpoint", || {
        let answer = cluster.kubectl(&[
            "get",
            "--raw",
            "/api/v1/namespaces/default/services/web:http/proxy/",
        ]);
        if answer.ok && answer.out.contains("Hello from web") {
            Ok(())
        } else {
            Err(answer.err)
        }
    });
    let body = cluster
        .kubectl(&["get", "--raw", "/api/v1/namespaces/default/pods/web/proxy/"])
        .clean();
    assert!(body.contains("Hello from web"), "{body}");
    let refused = cluster.kubectl(&["exec", "web", "--", "ls"]).refused();
    assert!(
        refused.contains("is a Wasm component, which has no processes"),
        "{refused}"
    );
}
