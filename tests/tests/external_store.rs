//! The external topology: the cluster's state in a real etcd, and etcd's own client on the cluster's store.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use capstan_tests::{Cluster, ClusterOptions, until};

/// Debian's etcd on ports of its own.
struct Etcd {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("a bound listener has one").port()
}

/// Whether etcd and etcdctl are there; under CI they must be.
fn has_etcd() -> bool {
    let runs = |tool: &str, flag: &str| {
        let mut command = Command::new(tool);
        command.arg(flag).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    let found = runs("etcd", "--version") && runs("etcdctl", "version");
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(found || !is_ci, "etcd or etcdctl is missing");
    found
}

impl Etcd {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (port, peer_port) = (free_port(), free_port());
        let (client, peer) = (
            format!("http://127.0.0.1:{port}"),
            format!("http://127.0.0.1:{peer_port}"),
        );
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.path())
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        until("etcd to answer", || {
            TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
        });
        Self {
            process,
            port,
            _folder: folder,
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn etcdctl(endpoint: &str, arguments: &[&str]) -> String {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint])
        .args(arguments)
        .output()
        .expect("etcdctl starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "etcdctl {arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[test]
fn a_cluster_keeps_its_state_in_a_real_etcd() {
    if !has_etcd() {
        return;
    }
    let etcd = Etcd::start();
    let endpoint = format!("http://127.0.0.1:{}", etcd.port);
    let mut cluster = Cluster::with(ClusterOptions {
        flags: vec![format!("--etcd-servers={endpoint}")],
        ..ClusterOptions::default()
    });
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: kept }\ndata: { a: b }\n";
    cluster.apply(manifest).clean();
    cluster.apply(&manifest.replace("a: b", "a: c")).clean();
    let stored = etcdctl(&endpoint, &["get", "/", "--prefix", "--keys-only"]);
    assert!(stored.contains("configmaps/default/kept"), "{stored}");
    assert!(
        !cluster.data_dir().join("store").exists(),
        "it has no store of its own"
    );

    cluster.kill();
    cluster.up();
    assert_eq!(cluster.get(&["configmap", "kept"]).unwrap()["data"]["a"], "c");
    cluster.kubectl(&["delete", "configmap", "kept"]).clean();
    let stored = etcdctl(&endpoint, &["get", "/", "--prefix", "--keys-only"]);
    assert!(!stored.contains("configmaps/default/kept"), "{stored}");
    assert!(cluster.stop(), "{}", cluster.log());
}

#[test]
fn etcdctl_works_on_a_running_cluster() {
    if !has_etcd() {
        return;
    }
    let endpoint = format!("https://127.0.0.1:{}", free_port());
    let cluster = Cluster::with(ClusterOptions {
        flags: vec![format!("--listen-client-urls={endpoint}")],
        ..ClusterOptions::default()
    });
    cluster
        .kubectl(&["create", "configmap", "seen", "--from-literal=a=b"])
        .clean();
    let pki = cluster.data_dir().join("pki/etcd");
    let file = |name: &str| pki.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.crt"), file("client.crt"), file("client.key"));
    let tls = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let all = [&tls[..], &["get", "/", "--prefix", "--keys-only"]].concat();
    let stored = etcdctl(&endpoint, &all);
    assert!(stored.contains("configmaps/default/seen"), "{stored}");
    let stranger = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args([
            "--endpoints",
            &endpoint,
            "--cacert",
            &ca,
            "--command-timeout=1s",
            "get",
            "a",
        ])
        .output()
        .expect("etcdctl starts");
    assert!(
        !stranger.status.success(),
        "a client without a certificate is refused"
    );
}

#[test]
fn an_etcd_that_is_not_there_is_named() {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(ClusterOptions::default().binary)
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .arg(format!("--etcd-servers={endpoint}"))
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains(&endpoint) && said.contains("--etcd-servers"),
        "{said}"
    );
}
