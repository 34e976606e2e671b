//! Members as processes: what they are started with, and what is done to them.
//!
//! The program is the one of `CAPSTAN_CHAOS_STORE` (any that takes etcd's flags: `etcd` itself, too), else the
//! `capstan` of the target folder, as `capstan store`. Its output goes to a file in the run's folder. All
//! processes end with the value.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::disk::Disk;
use super::network::{Network, PLACES};

/// Names another program than ours.
pub const PROGRAM: &str = "CAPSTAN_CHAOS_STORE";

/// How long a member that is asked to end may take.
const END_WITHIN: Duration = Duration::from_secs(30);

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// What a member is started as.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    original: bool,
}

/// Entries between two snapshots. The store keeps its log for 16 of them where a member is behind.
const SNAPSHOT_COUNT: usize = 50;

impl Program {
    /// The program to test.
    pub fn find() -> Self {
        match std::env::var_os(PROGRAM) {
            Some(path) => Self::at(PathBuf::from(path)),
            None => Self::at(crate::cluster::binary()),
        }
    }

    /// The program at `path`; its name says what it takes.
    pub fn at(path: PathBuf) -> Self {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let arguments = if name == "capstan" {
            vec!["store".to_owned()]
        } else {
            Vec::new()
        };
        Self {
            path,
            arguments,
            original: name == "etcd",
        }
    }

    /// Whether it is the original.
    pub fn is_original(&self) -> bool {
        self.original
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// How a member's process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Runs, or should.
    Running,
    /// Held by a signal.
    Paused,
    /// Killed.
    Down,
    /// Not of the cluster.
    Absent,
}

#[derive(Debug)]
struct Member {
    disk: Disk,
    process: Option<Child>,
    state: State,
    /// The clusters that it is first started with.
    initial: Vec<usize>,
    existing: bool,
}

/// All members of a run.
#[derive(Debug)]
pub struct Members {
    /// Their network.
    pub network: Network,
    program: Program,
    members: Vec<Member>,
    /// Counts each place's starts and ends, so that odd is running.
    incarnations: Arc<[AtomicU32]>,
    folder: PathBuf,
}

impl Members {
    /// A new cluster of `count` members, started; and room for more.
    ///
    /// # Errors
    /// When the network, a disk or a process cannot be made.
    pub fn start(program: Program, count: usize, folder: &Path) -> anyhow::Result<Self> {
        let network = Network::new();
        super::disk::sweep();
        let mut members = Self {
            network,
            program,
            members: Vec::new(),
            incarnations: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
            folder: folder.to_path_buf(),
        };
        for place in 0..PLACES.min(count + 1) {
            members.members.push(Member {
                disk: Disk::new(folder, &format!("member{place}"))?,
                process: None,
                state: if place < count { State::Down } else { State::Absent },
                initial: (0..count).collect(),
                existing: false,
            });
        }
        for place in 0..count {
            members.run(place)?;
        }
        Ok(members)
    }

    /// Places of members in a state.
    pub fn that_are(&self, state: State) -> Vec<usize> {
        (0..self.members.len())
            .filter(|place| self.members[*place].state == state)
            .collect()
    }

    /// Places of the cluster's members, whatever their state.
    pub fn present(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|place| self.members[*place].state != State::Absent)
            .collect()
    }

    /// All places.
    pub fn places(&self) -> usize {
        self.members.len()
    }

    /// Counts of each place's starts and ends, for clients to tell one life of a member from the next.
    pub fn incarnations(&self) -> Arc<[AtomicU32]> {
        Arc::clone(&self.incarnations)
    }

    /// A member's disk.
    pub fn disk(&self, place: usize) -> &Disk {
        &self.members[place].disk
    }

    /// The program that members run.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Where clients reach a member.
    pub fn client_url(&self, place: usize) -> String {
        format!("http://{}:{CLIENT_PORT}", self.network.address(place))
    }

    /// Where members reach one another.
    pub fn peer_url(&self, place: usize) -> String {
        format!("http://{}:{PEER_PORT}", self.network.address(place))
    }

    /// Starts a member that is down.
    ///
    /// # Errors
    /// When its process cannot be started.
    pub fn run(&mut self, place: usize) -> anyhow::Result<()> {
        let (client, peer) = (self.client_url(place), self.peer_url(place));
        let member = &self.members[place];
        let named = |place: &usize| format!("member{place}={}", self.peer_url(*place));
        let initial: Vec<String> = member.initial.iter().map(named).collect();
        let state = if member.existing { "existing" } else { "new" };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(place))?;
        let mut command = self.network.command(place, &self.program.path);
        command.args(&self.program.arguments);
        command.args(["--name", &format!("member{place}")]);
        command.arg("--data-dir").arg(member.disk.data());
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args([
            "--initial-cluster",
            &initial.join(","),
            "--initial-cluster-state",
            state,
        ]);
        command.args([
            "--initial-cluster-token",
            "chaos",
            "--snapshot-count",
            &SNAPSHOT_COUNT.to_string(),
        ]);
        command.args(["--heartbeat-interval", "100", "--election-timeout", "1000"]);
        command.arg("--experimental-watch-progress-notify-interval=1s");
        if self.program.original {
            command.args(["--pre-vote", "--logger", "zap", "--log-outputs", "stderr"]);
            command.args(["--max-wals", "2", "--max-snapshots", "1"]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.incarnations[place].fetch_add(1, Ordering::SeqCst);
        let process = command
            .spawn()
            .with_context(|| format!("start {}", self.program.path.display()))?;
        let member = &mut self.members[place];
        member.disk.adopt(process.id())?;
        member.process = Some(process);
        member.state = State::Running;
        Ok(())
    }

    /// Where a member's output goes.
    pub fn log(&self, place: usize) -> PathBuf {
        self.folder.join(format!("member{place}.log"))
    }

    fn signal(&self, place: usize, signal: Signal) -> anyhow::Result<()> {
        match &self.members[place].process {
            Some(process) => Ok(kill(Pid::from_raw(process.id().cast_signed()), signal)?),
            None => bail!("member {place} has no process"),
        }
    }

    /// Ends a member at once.
    ///
    /// # Errors
    /// When it has no process.
    pub fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        let member = &mut self.members[place];
        let mut process = member.process.take().context("no process to kill")?;
        process.kill()?;
        process.wait()?;
        self.incarnations[place].fetch_add(1, Ordering::SeqCst);
        member.state = State::Down;
        Ok(())
    }

    /// Asks a member to end, and waits until it has.
    ///
    /// # Errors
    /// When it has no process, or does not end.
    pub async fn end(&mut self, place: usize) -> anyhow::Result<()> {
        self.signal(place, Signal::SIGTERM)?;
        let asked = Instant::now();
        while self.ended(place).is_none() {
            ensure!(
                asked.elapsed() < END_WITHIN,
                "member{place} did not end when asked to"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// How often a member was sent a snapshot, by its own words.
    pub fn snapshots(&self, place: usize) -> usize {
        let said = std::fs::read_to_string(self.log(place)).unwrap_or_default();
        let word = if self.program.original {
            "applied snapshot"
        } else {
            "receiving a snapshot"
        };
        said.matches(word).count()
    }

    /// Up to which entry a member has purged its log, by its own words; the original's keeps what it likes.
    pub fn purged(&self, place: usize) -> u64 {
        let said = std::fs::read_to_string(self.log(place)).unwrap_or_default();
        let last = said.lines().rfind(|line| line.contains("compacted Raft logs"));
        let digits = last.and_then(|line| line.rsplit(|c: char| !c.is_ascii_digit()).next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// Whether the members are the original's.
    pub fn are_original(&self) -> bool {
        self.program.original
    }

    /// Holds a member where it is.
    ///
    /// # Errors
    /// When it has no process.
    pub fn pause(&mut self, place: usize) -> anyhow::Result<()> {
        self.signal(place, Signal::SIGSTOP)?;
        self.members[place].state = State::Paused;
        Ok(())
    }

    /// Lets a held member go on.
    ///
    /// # Errors
    /// When it has no process.
    pub fn go_on(&mut self, place: usize) -> anyhow::Result<()> {
        self.signal(place, Signal::SIGCONT)?;
        self.members[place].state = State::Running;
        Ok(())
    }

    /// Whether a running member's process has ended by itself; it counts as down from then on.
    pub fn ended(&mut self, place: usize) -> Option<std::process::ExitStatus> {
        let member = &mut self.members[place];
        let status = member.process.as_mut()?.try_wait().ok()??;
        member.process = None;
        self.incarnations[place].fetch_add(1, Ordering::SeqCst);
        member.state = State::Down;
        Some(status)
    }

    /// Makes a place ready for a member that was added to the cluster: an empty disk, and the cluster it joins.
    ///
    /// # Errors
    /// When its disk cannot be wiped.
    pub fn join(&mut self, place: usize) -> anyhow::Result<()> {
        let mut initial = self.present();
        initial.push(place);
        initial.sort_unstable();
        initial.dedup();
        let member = &mut self.members[place];
        member.disk.wipe()?;
        (member.initial, member.existing, member.state) = (initial, true, State::Down);
        Ok(())
    }

    /// Takes a removed member away, its process and its data.
    ///
    /// # Errors
    /// When its disk cannot be wiped.
    pub fn leave(&mut self, place: usize) -> anyhow::Result<()> {
        if self.members[place].process.is_some() {
            self.kill(place)?;
        }
        self.members[place].state = State::Absent;
        self.members[place].disk.wipe()
    }

    /// Bytes of memory that a member's process has.
    pub fn memory(&self, place: usize) -> Option<u64> {
        let process = self.members[place].process.as_ref()?;
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", process.id())).ok()?;
        Some(pages.split_whitespace().nth(1)?.parse::<u64>().ok()? * 4096)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}
