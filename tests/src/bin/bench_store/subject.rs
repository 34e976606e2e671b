use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long members may take until they serve.
const READY_BOUND: Duration = Duration::from_secs(30);

/// Room for every scenario; more than either needs.
const QUOTA_BYTES: u64 = 8 << 30;

/// A server that takes etcd's flags.
pub(crate) struct Subject {
    pub(crate) name: String,
    command: Vec<String>,
}

/// Running members on loopback, in a folder of the repository's disk; gone with the value.
pub(crate) struct Members {
    folder: tempfile::TempDir,
    processes: Vec<Child>,
    pub(crate) endpoints: Vec<String>,
}

/// What a store's processes have used so far.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) memory_mib: f64,
    pub(crate) memory_mib_max: f64,
    pub(crate) disk_mib: f64,
    pub(crate) cpu: Duration,
}

impl Subject {
    pub(crate) fn etcd() -> Self {
        Self {
            name: "etcd".to_owned(),
            command: vec!["etcd".to_owned()],
        }
    }

    pub(crate) fn ours(command: &str, engine: &str) -> Self {
        let mut command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        command.push(format!("--log-engine={engine}"));
        Self {
            name: format!("capstan-{engine}"),
            command,
        }
    }

    /// Starts so many members and waits until each serves.
    pub(crate) fn start(&self, count: usize) -> anyhow::Result<Members> {
        let base = super::root().join("target/bench-store");
        fs::create_dir_all(&base)?;
        let ports: Vec<(u16, u16)> = free_ports(2 * count)?
            .chunks(2)
            .map(|pair| (pair[0], pair[1]))
            .collect();
        let mut members = Members {
            folder: tempfile::Builder::new().prefix(&self.name).tempdir_in(base)?,
            processes: Vec::new(),
            endpoints: ports
                .iter()
                .map(|(client, _)| format!("http://127.0.0.1:{client}"))
                .collect(),
        };
        let initial: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(index, (_, peer))| format!("m{index}=http://127.0.0.1:{peer}"))
            .collect();
        for (index, (client, peer)) in ports.iter().enumerate() {
            let child = self.spawn(members.folder.path(), index, *client, *peer, &initial.join(","))?;
            members.processes.push(child);
        }
        members.wait_until_ready()?;
        Ok(members)
    }

    fn spawn(
        &self,
        folder: &Path,
        index: usize,
        client: u16,
        peer: u16,
        initial: &str,
    ) -> anyhow::Result<Child> {
        let (client, peer) = (
            format!("http://127.0.0.1:{client}"),
            format!("http://127.0.0.1:{peer}"),
        );
        let (program, first) = self.command.split_first().context("a command has a program")?;
        let log = File::create(folder.join(format!("m{index}.log")))?;
        Command::new(program)
            .args(first)
            .arg(format!("--name=m{index}"))
            .arg("--data-dir")
            .arg(folder.join(format!("m{index}")))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={initial}"))
            .arg(format!("--quota-backend-bytes={QUOTA_BYTES}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))
    }
}

impl Members {
    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        for endpoint in &self.endpoints {
            while !etcdctl(endpoint)
                .args(["endpoint", "health"])
                .output()?
                .status
                .success()
            {
                if started.elapsed() > READY_BOUND {
                    bail!("{endpoint} does not serve; its log:\n{}", self.logs());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// Returns when the members have come to rest after a load, or have had long enough for it.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        const LOOK: Duration = Duration::from_millis(200);
        const AT_REST: Duration = Duration::from_millis(20);
        const SETTLED_WITHIN: Duration = Duration::from_secs(5);
        let started = Instant::now();
        let mut before = self.usage()?.cpu;
        while started.elapsed() < SETTLED_WITHIN {
            tokio::time::sleep(LOOK).await;
            let now = self.usage()?.cpu;
            if now.saturating_sub(before) <= AT_REST {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// The ends of the members' logs.
    pub(crate) fn logs(&self) -> String {
        let texts = (0..self.processes.len()).map(|index| {
            let text =
                fs::read_to_string(self.folder.path().join(format!("m{index}.log"))).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        });
        texts.collect::<Vec<_>>().join("\n--\n")
    }

    /// The folder of the first member.
    fn data(&self) -> PathBuf {
        self.folder.path().join("m0")
    }

    /// Memory and disk of the first member, processor time of all.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let first = self.processes.first().context("there is a member")?.id();
        let status = fs::read_to_string(format!("/proc/{first}/status"))?;
        let mib = |name: &str| -> f64 {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default();
            let kib: f64 = line
                .split_whitespace()
                .nth(0)
                .and_then(|kib| kib.parse().ok())
                .unwrap_or(f64::NAN);
            kib / 1024.0
        };
        let mut cpu = Duration::ZERO;
        for process in &self.processes {
            cpu += cpu_of(&format!("/proc/{}/stat", process.id()))?;
        }
        Ok(Usage {
            memory_mib: mib("VmRSS:"),
            memory_mib_max: mib("VmHWM:"),
            disk_mib: bytes_of(&self.data())? as f64 / (1 << 20) as f64,
            cpu,
        })
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// etcdctl for this endpoint.
pub(crate) fn etcdctl(endpoint: &str) -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", endpoint);
    command
}

/// User and system time of a process, of its `stat` file.
pub(crate) fn cpu_of(stat: &str) -> anyhow::Result<Duration> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(stat)?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

/// Bytes that a folder takes on the disk (blocks, not lengths: logs are preallocated).
fn bytes_of(folder: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A file may go while it is looked at.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() {
            bytes_of(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(sum)
}

fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    Ok(listeners
        .iter()
        .map(|one| one.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()?)
}
