//! The external topology: the cluster's state in a real etcd, and etcd's own client on the cluster's store.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use capstan_tests::{Cluster, ClusterOptions, until};

/// How often each of the two is killed.
const KILLS: usize = 2;
/// Objects written between two kills.
const WRITES_BETWEEN: usize = 4;

/// Debian's etcd on an address of its own.
struct Etcd {
    process: Option<Child>,
    host: String,
    folder: tempfile::TempDir,
}

/// An address of this machine that nobody else uses, so that every port of it is free.
fn loopback() -> String {
    let octet = || fastrand::u8(1..255);
    format!("127.{}.{}.{}", fastrand::u8(64..100), octet(), octet())
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
        let mut etcd = Self {
            process: None,
            host: loopback(),
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        etcd.run();
        etcd
    }

    fn endpoint(&self) -> String {
        format!("http://{}:2379", self.host)
    }

    /// Starts it on what its folder has.
    fn run(&mut self) {
        let (client, peer) = (self.endpoint(), format!("http://{}:2380", self.host));
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.folder.path())
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
        self.process = Some(process);
        until("etcd to answer", || {
            TcpStream::connect((self.host.as_str(), 2379)).map_err(|error| error.to_string())
        });
    }

    /// As kill -9.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
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
    let endpoint = etcd.endpoint();
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

/// Makes config maps one after the other until told to stop; the numbers of those that the cluster acknowledged.
/// While it or its etcd is down they fail, which is no wonder.
fn write_until(stop: &AtomicBool, kubeconfig: &Path, acknowledged: &Mutex<Vec<usize>>) {
    let kubectl = std::env::var_os("CAPSTAN_KUBECTL").unwrap_or_else(|| "kubectl".into());
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let made = Command::new(&kubectl)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args([
                "create",
                "--request-timeout=5s",
                "configmap",
                &format!("n-{number}"),
            ])
            .arg(format!("--from-literal=n={number}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("kubectl starts");
        if made.success() {
            acknowledged.lock().expect("no panic holds it").push(number);
        }
        number += 1;
    }
}

#[test]
fn kills_in_the_midst_of_writes_lose_nothing() {
    if !has_etcd() {
        return;
    }
    let mut etcd = Etcd::start();
    let mut cluster = Cluster::with(ClusterOptions {
        flags: vec![format!("--etcd-servers={}", etcd.endpoint())],
        ..ClusterOptions::default()
    });
    let (kubeconfig, stop, acknowledged) = (
        cluster.kubeconfig(),
        AtomicBool::new(false),
        Mutex::new(Vec::new()),
    );
    let count = || acknowledged.lock().expect("no panic holds it").len();
    let more = |what: &str| {
        let before = count();
        until(what, || {
            let written = count() - before;
            if written >= WRITES_BETWEEN {
                Ok(())
            } else {
                Err(format!("{written} writes"))
            }
        });
    };
    /// Ends the writer however the scope ends.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| write_until(&stop, &kubeconfig, &acknowledged));
        for _ in 0..KILLS {
            more("writes before etcd is killed");
            etcd.kill();
            etcd.run();
            more("writes before the cluster is killed");
            cluster.kill();
            cluster.up();
        }
        more("writes at the end");
    });
    let list = cluster.get(&["configmaps"]).expect("a list");
    let kept = |number: &usize| {
        let name = format!("n-{number}");
        let mut items = list["items"].as_array().expect("items").iter();
        items.any(|one| one["metadata"]["name"] == name.as_str() && one["data"]["n"] == number.to_string())
    };
    let acknowledged = acknowledged.into_inner().expect("no panic holds it");
    let lost: Vec<_> = acknowledged.iter().filter(|number| !kept(number)).collect();
    assert!(lost.is_empty(), "{lost:?} of {} are lost", acknowledged.len());
    println!("{} objects written and kept", acknowledged.len());
    assert!(cluster.stop(), "{}", cluster.log());
}

/// `capstan store …`, and what it says.
fn capstan_store(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(ClusterOptions::default().binary);
    let output = command
        .arg("store")
        .args(arguments)
        .output()
        .expect("the binary starts");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn a_clusters_backup_becomes_a_member() {
    if !has_etcd() {
        return;
    }
    let (host, scratch) = (loopback(), tempfile::tempdir().expect("a temporary folder"));
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (file, dir) = (path("backup.db"), path("restored"));
    let mut cluster = Cluster::with(ClusterOptions {
        flags: vec![format!("--listen-client-urls=http://{host}:2379")],
        ..ClusterOptions::default()
    });
    cluster.kubectl(&["create", "configmap", "kept"]).clean();
    etcdctl(&format!("http://{host}:2379"), &["snapshot", "save", &file]);
    assert!(cluster.stop(), "{}", cluster.log());

    let theirs = etcdctl("", &["snapshot", "status", &file]);
    assert_eq!(capstan_store(&["snapshot", "status", &file]), (true, theirs));
    let (peer, client) = (format!("http://{host}:2380"), format!("http://{host}:2379"));
    let (cluster_flag, peer_flag) = (
        format!("--initial-cluster=m={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
    );
    let (is_done, said) = capstan_store(&[
        "restore",
        &file,
        "--data-dir",
        &dir,
        "--name=m",
        &cluster_flag,
        &peer_flag,
    ]);
    for fact in [
        format!("restored {dir}"),
        format!("member     m at {peer}"),
        "revision".into(),
        "records".into(),
    ] {
        assert!(is_done && said.contains(&fact), "{fact:?} is not in\n{said}");
    }
    let (is_done, said) = capstan_store(&["restore", &file, "--data-dir", &dir]);
    assert!(!is_done && said.contains("exists"), "{said}");

    let listen = [
        format!("--data-dir={dir}"),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
    ];
    let listen = listen.each_ref().map(String::as_str);
    let (is_started, said) = capstan_store(&[&listen[..], &["--name=somebody"]].concat());
    assert!(
        !is_started && said.contains("--name=somebody") && said.contains("--name=m"),
        "{said}"
    );
    let mut member = Command::new(ClusterOptions::default().binary);
    let member = member.arg("store").args(listen).stderr(Stdio::null()).spawn();
    let mut member = member.expect("the binary starts");
    let kept = until("the restored member to answer", || {
        let found = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args([
                "--endpoints",
                &client,
                "--command-timeout=1s",
                "get",
                "/",
                "--prefix",
                "--keys-only",
            ])
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        if found.status.success() {
            Ok(text)
        } else {
            Err(text)
        }
    });
    let _ = member.kill();
    let _ = member.wait();
    assert!(kept.contains("configmaps/default/kept"), "{kept}");
}

#[test]
fn etcdctl_works_on_a_running_cluster() {
    if !has_etcd() {
        return;
    }
    let endpoint = format!("https://{}:2379", loopback());
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
    let endpoint = format!("http://{}:2379", loopback());
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
