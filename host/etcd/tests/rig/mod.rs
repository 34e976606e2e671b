//! What tests run: a real etcd, Debian's, and members of ours in this process, each on an address of its own.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

pub mod authority;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take until it answers.
pub const START_BOUND: Duration = Duration::from_secs(30);

pub struct Etcd {
    process: Child,
    pub client_url: String,
    pub folder: tempfile::TempDir,
}

/// Whether a tool is there; under CI a missing one is a failure.
pub fn has_tool(name: &str) -> bool {
    let found = Command::new(name)
        .arg(if name == "etcdctl" { "version" } else { "--version" })
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(found || !is_ci, "{name} is missing");
    if !found {
        eprintln!("skipped: {name} is missing");
    }
    found
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// An address of this machine that nobody else uses, so that every port of it is free.
pub fn loopback() -> String {
    format!(
        "127.{}.{}.{}",
        fastrand::u8(64..128),
        fastrand::u8(..),
        fastrand::u8(1..255)
    )
}

impl Etcd {
    pub fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = loopback();
        let (client_url, peer_url) = (format!("http://{host}:2379"), format!("http://{host}:2380"));
        let mut etcd = Self {
            process: spawn(folder.path(), &client_url, &peer_url, more),
            client_url,
            folder,
        };
        etcd.await_port();
        etcd
    }

    fn await_port(&mut self) {
        let address = self.client_url.trim_start_matches("http://").to_owned();
        let started = Instant::now();
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(self.process.try_wait().unwrap().is_none(), "etcd ended");
            assert!(started.elapsed() < START_BOUND, "etcd does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

fn spawn(folder: &Path, client_url: &str, peer_url: &str, more: &[&str]) -> Child {
    Command::new("etcd")
        .args(["--name", "test", "--logger", "zap", "--log-level", "error"])
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args([
            "--listen-client-urls",
            client_url,
            "--advertise-client-urls",
            client_url,
        ])
        .args([
            "--listen-peer-urls",
            peer_url,
            "--initial-advertise-peer-urls",
            peer_url,
        ])
        .args(["--initial-cluster", &format!("test={peer_url}")])
        .args(["--experimental-watch-progress-notify-interval", "1s"])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A member of ours in this process, by its flags.
pub struct Member {
    process: capstan_etcd::process::Process,
    scheme: &'static str,
    pub folder: tempfile::TempDir,
}

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    arguments: capstan_etcd::flags::Arguments,
}

/// What the flags say.
pub async fn config(
    flags: &[String],
) -> Result<capstan_etcd::process::Config, capstan_etcd::flags::FlagError> {
    use clap::Parser;
    let all = std::iter::once("member".to_owned()).chain(flags.iter().cloned());
    Flags::try_parse_from(all).unwrap().arguments.config().await
}

impl Member {
    /// A single member on a port of its own.
    pub async fn start(more: &[&str]) -> Self {
        let peer_url = format!("http://{}:2380", loopback());
        Self::start_at(&peer_url, more).await
    }

    /// Three members of one cluster, their peers at these hosts.
    pub async fn start_three(peer_scheme: &str, hosts: &[String; 3], more: &[&str]) -> Vec<Self> {
        let url = |host: &String| format!("{peer_scheme}://{host}:2380");
        let named = ["a", "b", "c"].into_iter().zip(hosts);
        let listed = named.clone().map(|(name, host)| format!("{name}={}", url(host)));
        let initial = format!("--initial-cluster={}", listed.collect::<Vec<_>>().join(","));
        let starting = named.map(|(name, host)| {
            let (name, initial) = (format!("--name={name}"), &initial);
            async move {
                let flags = [&[name.as_str(), initial.as_str()], more].concat();
                Self::start_at(&url(host), &flags).await
            }
        });
        futures::future::join_all(starting).await
    }

    async fn start_at(peer_url: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let is_https = more
            .iter()
            .any(|flag| flag.starts_with("--cert-file") || *flag == "--auto-tls");
        let scheme = if is_https { "https" } else { "http" };
        let mut flags = vec![
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--listen-client-urls={scheme}://127.0.0.1:0"),
            format!("--advertise-client-urls={scheme}://127.0.0.1:2379"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let config = config(&flags).await.unwrap();
        let process = capstan_etcd::process::Process::start(config).await.unwrap();
        Self {
            process,
            scheme,
            folder,
        }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.process.client_addresses()[0])
    }

    pub fn process(&self) -> &capstan_etcd::process::Process {
        &self.process
    }

    pub async fn stop(self) {
        self.process.stop().await;
    }
}
