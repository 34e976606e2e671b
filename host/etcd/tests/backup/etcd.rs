//! Debian's etcd as a process of the test, and its etcdctl.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use capstan_etcd::remote::{RemoteOptions, RemoteStore};

use super::rig::loopback;

/// How long a start may take.
const READY_BOUND: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// A running etcd; killed when dropped.
pub(crate) struct Etcd {
    process: Child,
    pub(crate) client_url: String,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A URL on an address that nobody else uses.
fn free_url() -> String {
    format!("http://{}:2380", loopback())
}

impl Etcd {
    /// Starts one in a folder; its data is there already where its peer URL is named.
    pub(crate) fn start(dir: &Path, peer_url: Option<String>) -> Self {
        let (client_url, peer_url) = (free_url(), peer_url.unwrap_or_else(free_url));
        let process = Command::new("etcd")
            .args(["--name", "default", "--data-dir"])
            .arg(dir)
            .args([
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's etcd-server is installed");
        Self { process, client_url }
    }

    /// Connects, as soon as it serves.
    pub(crate) async fn connect(&self, user: Option<(&str, &str)>) -> RemoteStore {
        let started = Instant::now();
        loop {
            let mut options = RemoteOptions::new([&self.client_url]);
            options.user = user.map(|(name, password)| (name.into(), password.into()));
            match RemoteStore::connect(options).await {
                Ok(store) => return store,
                Err(error) if started.elapsed() > READY_BOUND => panic!("etcd does not serve: {error}"),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Runs etcdctl on it.
    pub(crate) fn ctl(&self, args: &[&str]) -> String {
        let endpoints = format!("--endpoints={}", self.client_url);
        etcdctl(&[&[&endpoints[..]], args].concat()).unwrap()
    }

    /// Ends it in order, so that its database is whole.
    pub(crate) fn stop(mut self) {
        let process = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &process]).status().unwrap();
        self.process.wait().unwrap();
    }
}

/// Runs etcdctl; what it prints, or else what it complains.
pub(crate) fn etcdctl(args: &[&str]) -> Result<String, String> {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(args)
        .output();
    let output = output.expect("Debian's etcd-client is installed");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "etcdctl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// `etcdctl snapshot restore` into a folder for a member at this URL.
pub(crate) fn restore(file: &Path, dir: &Path, peer_url: &str) {
    let initial = format!("--initial-cluster=default={peer_url}");
    let peers = format!("--initial-advertise-peer-urls={peer_url}");
    let (file, dir) = (file.to_str().unwrap(), format!("--data-dir={}", dir.display()));
    etcdctl(&["snapshot", "restore", file, &dir, &initial, &peers]).unwrap();
}

/// A URL for a member that is yet to be made.
pub(crate) fn new_peer_url() -> String {
    free_url()
}
