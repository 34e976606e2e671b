//! Images from files, and OCI containers of one program that the test compiles: what a pod's containers see,
//! share and say, how they end, and that nothing is left of them. Without root, their clear refusal.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capstan_tests::{Cluster, component, get, until};

const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/containers/tool.c");
const IMAGE: &str = "example.com/tool:1";

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

/// Runs `capstan image load`; its standard output.
fn load(cluster: &Cluster, file: &Path, name: &[&str]) -> String {
    let mut command = Command::new(cluster.command().get_program());
    command
        .args(["image", "load"])
        .arg(file)
        .args(name)
        .arg("--data-dir")
        .arg(cluster.data_dir());
    let output = command.output().expect("the binary starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A `docker save` archive whose one layer holds the compiled tool as `/tool`.
fn archive(folder: &Path) -> PathBuf {
    let tool = folder.join("tool");
    let compiled = Command::new("cc")
        .args(["-static", "-O1", "-Wall", "-o"])
        .arg(&tool)
        .arg(TOOL)
        .status();
    assert!(
        compiled
            .expect("a C compiler, which the build needs too")
            .success()
    );
    let mut layer = tar::Builder::new(Vec::new());
    let binary = std::fs::read(&tool).expect("it was just compiled");
    append(&mut layer, "tool", 0o755, &binary);
    let layer = layer.into_inner().expect("memory takes it");
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Entrypoint": ["/tool"], "Cmd": ["fail"], "Env": ["FROM_IMAGE=yes"] },
    });
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "config.json", 0o644, config.to_string().as_bytes());
    append(
        &mut archive,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    );
    append(&mut archive, "layer.tar", 0o644, &layer);
    let path = folder.join("tool.tar");
    std::fs::write(&path, archive.into_inner().expect("memory takes it"))
        .expect("a file in a temporary folder");
    path
}

fn append<W: Write>(archive: &mut tar::Builder<W>, name: &str, mode: u32, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    archive
        .append_data(&mut header, name, bytes)
        .expect("memory takes it");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("it is bound").port()
}

/// Ids of a pod's containers, without the runtime's name.
fn container_ids(cluster: &Cluster, pod: &str) -> Vec<String> {
    let pod = cluster.get(&["pod", pod]).expect("the pod is there");
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .expect("it has run")
        .iter();
    let id = |status: &serde_json::Value| status["containerID"].as_str().map(str::to_owned);
    statuses
        .filter_map(|status| Some(id(status)?.rsplit('/').next()?.to_owned()))
        .collect()
}

/// Control groups of these containers, in every hierarchy.
fn control_groups(ids: &[String]) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let roots = below
        .chain([root.to_owned()])
        .map(|folder| folder.join("capstan"));
    let groups = roots.flat_map(|root| ids.iter().map(move |id| root.join(id)));
    groups.filter(|group| group.exists()).collect()
}

/// Mount points below a folder, as any process sees them.
fn mounts(folder: &Path) -> BTreeSet<String> {
    let folder = folder.to_str().expect("a temporary folder's name is text");
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let tables =
        processes.filter_map(|process| std::fs::read_to_string(process.path().join("mountinfo")).ok());
    let found = tables.flat_map(|table| {
        let lines = table.lines().filter(|line| line.contains(folder));
        lines.map(str::to_owned).collect::<Vec<_>>()
    });
    found.collect()
}

#[test]
fn a_wasm_file_becomes_an_image_under_a_name() {
    let cluster = Cluster::start();
    let file = component("capstan-hello-cli");
    assert_eq!(
        load(&cluster, &file, &["--name", "example.com/own/hello:7"]),
        "example.com/own/hello:7"
    );
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: own }
spec:
  restartPolicy: Never
  containers: [{ name: main, image: 'example.com/own/hello:7', args: [say, loaded], imagePullPolicy: Never }]
";
    cluster.apply(pod).clean();
    cluster
        .kubectl(&[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            "pod/own",
            "--timeout=60s",
        ])
        .clean();
    let log = cluster.kubectl(&["logs", "own"]).clean();
    assert!(log.contains("loaded"), "{log}");
}

const WEB: &str = "
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  containers:
    - name: main
      image: example.com/tool:1
      imagePullPolicy: Never
      args: [serve, 'PORT', /shared/greeting]
      resources: { limits: { memory: 64Mi } }
      envFrom: [{ configMapRef: { name: settings } }]
      env: [{ name: TOKEN, valueFrom: { secretKeyRef: { name: keys, key: token } } }]
      readinessProbe: { exec: { command: [/tool, holds, /shared/greeting, hello] }, periodSeconds: 1 }
      volumeMounts: [{ name: shared, mountPath: /shared, readOnly: true }]
    - name: writer
      image: example.com/tool:1
      imagePullPolicy: Never
      args: [write, hello, /shared/greeting, /host/seen]
      volumeMounts: [{ name: shared, mountPath: /shared }, { name: host, mountPath: /host }]
  terminationGracePeriodSeconds: 2
  volumes: [{ name: shared, emptyDir: {} }, { name: host, hostPath: { path: 'FOLDER', type: Directory } }]
";

#[test]
fn containers_share_serve_and_leave_nothing() {
    let cluster = Emptied(Cluster::start());
    let cluster = &cluster.0;
    let folder = cluster.scratch();
    assert_eq!(load(cluster, &archive(&folder), &[]), IMAGE);
    cluster.settings_and_keys("COLOR=blue", "token=s3cret");
    let port = free_port();
    let web = WEB
        .replace("PORT", &port.to_string())
        .replace("FOLDER", folder.to_str().expect("text"));
    cluster.apply(&web).clean();
    if !is_root() {
        return refused_without_root(cluster, "web");
    }
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
        .clean();
    let pod = cluster.get(&["pod", "web"]).unwrap();
    let address = format!("{}:{port}", pod["status"]["podIP"].as_str().expect("an address"));
    assert_eq!(
        get(&address, "/").unwrap(),
        "hello",
        "what the other container wrote"
    );
    assert_eq!(
        std::fs::read_to_string(folder.join("seen")).unwrap(),
        "hello",
        "through the hostPath"
    );
    let log = cluster.kubectl(&["logs", "web", "-c", "main"]).clean();
    for said in [
        "FROM_IMAGE=yes",
        "COLOR=blue",
        "TOKEN=s3cret",
        "HOSTNAME=web",
        "PATH=/",
    ] {
        assert!(log.contains(said), "{said} is missing in\n{log}");
    }
    let ids = container_ids(cluster, "web");
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(
        !control_groups(&ids).is_empty() && !mounts(&cluster.data_dir()).is_empty(),
        "what goes later is here"
    );

    let mut follow = cluster.kubectl_command(&["logs", "-f", "web", "-c", "main"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().expect("kubectl starts");
    let mut output = follow.stdout.take().expect("its output is piped");
    let mut first = [0; 1];
    output.read_exact(&mut first).expect("the log so far");
    cluster.delete("pod", "web");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the log is text");
    let _ = follow.wait();
    assert!(
        rest.ends_with("SIGTERM seen\n"),
        "the end of the followed log: {rest}"
    );
    until("nothing to be left", || {
        let (groups, mounts) = (control_groups(&ids), mounts(&cluster.data_dir()));
        if groups.is_empty() && mounts.is_empty() {
            Ok(())
        } else {
            Err(format!("{groups:?} {mounts:?}"))
        }
    });
    fails_and_comes_back(cluster);
}

fn fails_and_comes_back(cluster: &Cluster) {
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: failing }
spec:
  containers: [{ name: main, image: 'example.com/tool:1', imagePullPolicy: Never }]
";
    cluster.apply(pod).clean();
    until("CrashLoopBackOff after a restart", || {
        let pod = cluster.get(&["pod", "failing"])?;
        let status = &pod["status"]["containerStatuses"][0];
        let waits = status["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        let ended = status["lastState"]["terminated"]["exitCode"] == 3;
        if waits && ended && status["restartCount"] != 0 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    assert_eq!(
        cluster.kubectl(&["logs", "failing", "--previous"]).clean(),
        "asked to fail\n"
    );
    cluster.delete("pod", "failing");
}

fn refused_without_root(cluster: &Cluster, pod: &str) {
    let said = until("the refusal", || {
        let pod = cluster.get(&["pod", pod])?;
        let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].clone();
        waiting
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| pod["status"].to_string())
    });
    assert!(
        said.contains("need root") && said.contains("Wasm images do not"),
        "{said}"
    );
}
