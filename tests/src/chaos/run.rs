//! A run: members, clients, one fault after another, and the judgement at its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use capstan_etcd::proto::etcdserverpb as pb;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::client::within;
use super::faults::{self, Fault, RECOVERY_MAX};
use super::field::Field;
use super::history::{Mode, Request, Step};
use super::members::{Members, Program, State};
use super::report::{self, Line};
use super::{disk, network, traffic, validate};

/// The longest time without an answer while a majority is fine.
const SILENCE_MAX: Duration = Duration::from_secs(25);

/// How much longer than asked a run may go on to meet every fault.
const OVERTIME: f64 = 0.8;

/// The most operations that are recorded; some hundred bytes each. A run ends when it has so many.
const OPERATIONS_MAX: usize = 3_000_000;

/// The process's exit code when it was told to end.
const INTERRUPTED: i32 = 130;

/// Terms that a fault may cost beyond one a second.
const TERMS_MAX: u64 = 4;

/// What a run is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// What members run.
    pub program: Program,
    /// How many.
    pub members: usize,
    /// How long faults go on; then each must have been met once, unless that takes [`OVERTIME`] as long again.
    pub length: Duration,
    /// How long a fault is held.
    pub hold: std::ops::Range<Duration>,
    /// Where chance starts.
    pub seed: u64,
    /// How many writes a member misses that is stopped for long.
    pub missed: usize,
    /// Only faults whose names contain this.
    pub only: Option<String>,
    /// And none whose names contain this.
    pub without: Option<String>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What could not be done on this machine, and why.
    pub missing: Vec<String>,
    /// Promises that the original is known to break.
    pub known: Vec<String>,
    /// Broken promises; none is good.
    pub violations: Vec<String>,
    /// The table at the end.
    pub table: String,
    /// Where the history and the members' output are kept, when something was wrong.
    pub kept: Option<PathBuf>,
}

/// Does a run from its start to its judgement, telling each fault as it is over.
///
/// # Errors
/// When the machine has not what it needs.
pub fn run(options: &Options, tell: fn(&str)) -> anyhow::Result<Outcome> {
    let folder = disk::folder(std::process::id());
    std::fs::create_dir_all(&folder)?;
    let members = Members::start(options.program.clone(), options.members, &folder)?;
    for missing in missing(&members) {
        tell(&format!("without {missing}"));
    }
    let entrance = members.network.entrance();
    let network = entrance.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || {
            if let Err(error) = network.enter() {
                eprintln!("a client cannot enter the clients' network: {error:#}");
            }
        })
        .build()?;
    runtime.spawn(clean_up_when_told_to_end(folder.clone()));
    let place = folder.clone();
    // The run's own requests leave from where the clients are, too; processes are placed by name.
    let outcome = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            entrance.enter()?;
            runtime.block_on(async { Run::new(options.clone(), members, tell)?.go().await })
        });
        run.join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the run panicked")))
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    let wrong = outcome
        .as_ref()
        .map_or(true, |outcome| !outcome.violations.is_empty());
    if wrong {
        return outcome.map(|outcome| Outcome {
            kept: Some(place),
            ..outcome
        });
    }
    std::fs::remove_dir_all(&folder)?;
    outcome
}

/// Removes all of the run, and ends the process, when it is told to end.
async fn clean_up_when_told_to_end(folder: PathBuf) -> std::io::Result<()> {
    let mut ended = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = ended.recv() => {}
    }
    network::remove_own();
    disk::remove_own();
    std::fs::remove_dir_all(folder)?;
    std::process::exit(INTERRUPTED)
}

/// What this machine has not.
fn missing(members: &Members) -> Vec<String> {
    let mut missing = Vec::new();
    if !members.network.is_isolated() {
        let why = members.network.missing();
        missing.push(format!("partitions: {why}; members are on loopback addresses"));
    }
    if !members.disk(0).can_fill() {
        missing.push(format!("full disks: {}", members.disk(0).missing()));
    }
    if !members.disk(0).can_slow() {
        missing.push(format!("slow disks: {}", members.disk(0).missing()));
    }
    missing
}

struct Run {
    options: Options,
    members: Members,
    field: Arc<Field>,
    random: fastrand::Rng,
    lines: Vec<Line>,
    violations: Vec<String>,
    started: Instant,
    folder: PathBuf,
    tell: fn(&str),
}

impl Run {
    fn new(options: Options, members: Members, tell: fn(&str)) -> anyhow::Result<Self> {
        let folder = disk::folder(std::process::id());
        Ok(Self {
            field: Arc::new(Field::new(&members)?),
            random: fastrand::Rng::with_seed(options.seed),
            options,
            members,
            lines: Vec::new(),
            violations: Vec::new(),
            started: Instant::now(),
            folder,
            tell,
        })
    }

    async fn go(mut self) -> anyhow::Result<Outcome> {
        let ready = faults::recover(&mut self.members, &self.field)
            .await
            .context("the cluster did not start")?;
        (self.tell)(&format!(
            "{} members ready after {:.1} s",
            self.options.members,
            ready.as_secs_f64()
        ));
        let (end, until) = watch::channel(i64::MAX);
        let watches = traffic::watch(&self.field, self.options.seed, &until);
        let clients = traffic::start(&self.field, self.options.seed);
        if let Err(error) = self.faults().await {
            self.violations.push(format!("the cluster recovers: {error:#}"));
        }
        self.field.stop();
        clients.join_all().await;
        if let Err(error) = self.finish(&end).await {
            self.violations
                .push(format!("the cluster is whole at the end: {error:#}"));
            self.field.history().cut_short = true;
            end.send_replace(0);
        }
        // They end by themselves once the last revision is told, or their members are silent.
        let _ = tokio::time::timeout(RECOVERY_MAX, watches.join_all()).await;
        self.judge()
    }

    /// Meets every fault in an order of chance, again and again until the time is over.
    async fn faults(&mut self) -> anyhow::Result<()> {
        let mut order: Vec<Fault> = Vec::new();
        let named = |fault: &Fault, part: &Option<String>| {
            part.as_ref()
                .map(|part| report::name(*fault).contains(part.as_str()))
        };
        let wanted = |fault: &Fault| {
            named(fault, &self.options.only).unwrap_or(true)
                && !named(fault, &self.options.without).unwrap_or(false)
        };
        let all: Vec<Fault> = Fault::all(&self.members).into_iter().filter(wanted).collect();
        ensure!(!all.is_empty(), "no fault of that name");
        let (length, mut met) = (self.options.length, 0);
        while self.started.elapsed() < length
            || (met < all.len() && self.started.elapsed() < length.mul_f64(1.0 + OVERTIME))
        {
            if self.field.history().operations.len() > OPERATIONS_MAX {
                (self.tell)(&format!("ends after {OPERATIONS_MAX} operations"));
                break;
            }
            let Some(fault) = order.pop() else {
                order.clone_from(&all);
                self.random.shuffle(&mut order);
                continue;
            };
            met += 1;
            self.meet(fault).await.with_context(|| report::name(fault))?;
        }
        Ok(())
    }

    async fn term(&self) -> u64 {
        let told = faults::statuses(&self.field, &self.members.that_are(State::Running)).await;
        told.iter()
            .flatten()
            .map(|status| status.raft_term)
            .max()
            .unwrap_or(0)
    }

    fn snapshots(&self) -> usize {
        (0..self.members.places())
            .map(|place| self.members.snapshots(place))
            .sum()
    }

    async fn meet(&mut self, fault: Fault) -> anyhow::Result<()> {
        let (from, to) = (self.options.hold.start, self.options.hold.end);
        let hold = from + (to - from).mul_f64(self.random.f64());
        let (term, snapshots) = (self.term().await, self.snapshots());
        self.field.pulse();
        let started = Instant::now();
        let said = faults::inflict(
            fault,
            &mut self.members,
            &self.field,
            &mut self.random,
            hold,
            self.options.missed,
        )
        .await?;
        let recovered = faults::recover(&mut self.members, &self.field).await?;
        let (pulse, terms) = (self.field.pulse(), self.term().await.saturating_sub(term));
        let line = Line {
            fault,
            said,
            at: self.started.elapsed(),
            took: started.elapsed(),
            recovered,
            pulse,
            terms,
            snapshots: self.snapshots().saturating_sub(snapshots),
        };
        (self.tell)(&line.to_string());
        if fault.leaves_majority() && line.pulse.longest > SILENCE_MAX {
            self.violations.push(format!("a majority answers: {line}"));
        }
        // Each time that leadership is handed on is a term.
        if fault != Fault::Transfer && terms > TERMS_MAX + line.took.as_secs() {
            self.violations.push(format!("the term does not race: {line}"));
        }
        let missed = matches!(fault, Fault::LongStop | Fault::SnapshotCut);
        if missed && line.snapshots == 0 && !self.options.program.is_original() {
            self.violations
                .push(format!("a member that missed much gets a snapshot: {line}"));
        }
        if line.said.contains("ended") && !self.options.program.is_original() {
            self.violations
                .push(format!("a full disk is answered, not crashed on: {line}"));
        }
        self.lines.push(line);
        Ok(())
    }

    /// Reads all there is through each member, waits until the watches have told it, and compares the members.
    async fn finish(&mut self, end: &watch::Sender<i64>) -> anyhow::Result<()> {
        faults::recover(&mut self.members, &self.field).await?;
        for place in self.members.present() {
            let all = Step::Get {
                key: "\0".to_owned(),
                end: "\0".to_owned(),
            };
            let request = Request {
                mode: Mode::Linearizable,
                ..Request::single(all)
            };
            self.field
                .perform(900, place, self.field.client(place), request, true)
                .await;
        }
        let last = self.last_revision().await?;
        end.send_replace(last);
        for place in self.members.present() {
            traffic::whole_once(&self.field, 901, place, last).await?;
        }
        self.same_hashes(last).await
    }

    /// The revision at which every member stands, once leases are over.
    async fn last_revision(&self) -> anyhow::Result<i64> {
        let started = Instant::now();
        let mut seen = (0, Instant::now());
        while started.elapsed() < RECOVERY_MAX {
            let told = faults::statuses(&self.field, &self.members.present()).await;
            let revision =
                |status: &Option<pb::StatusResponse>| Some(status.as_ref()?.header.as_ref()?.revision);
            let mut revisions: Vec<Option<i64>> = told.iter().map(revision).collect();
            revisions.dedup();
            match revisions.as_slice() {
                [Some(revision)] if *revision == seen.0 => {}
                [Some(revision)] => seen = (*revision, Instant::now()),
                _ => seen = (0, Instant::now()),
            }
            if seen.0 != 0 && seen.1.elapsed() > Duration::from_secs(10) {
                return Ok(seen.0);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("members do not come to rest at one revision")
    }

    async fn same_hashes(&mut self, revision: i64) -> anyhow::Result<()> {
        let mut hashes = Vec::new();
        for place in self.members.present() {
            let request = pb::HashKvRequest { revision };
            let told = within(self.field.client(place).maintenance().hash_kv(request)).await?;
            hashes.push((told.compact_revision, told.hash));
        }
        if hashes.windows(2).any(|pair| pair[0] != pair[1]) {
            self.violations.push(format!(
                "members are equal at revision {revision}: (compacted, hash) {hashes:?}"
            ));
        }
        Ok(())
    }

    /// Before 3.4.25 the original's leader renews leases after a pause without asking whether it still leads.
    fn is_known(&self, violation: &str) -> bool {
        self.options.program.is_original()
            && violation.starts_with("leases last")
            && violation.ends_with("early")
    }

    fn judge(mut self) -> anyhow::Result<Outcome> {
        let history = std::mem::take(&mut *self.field.history());
        let findings = validate::all(&history);
        let (known, new) = findings
            .violations
            .into_iter()
            .partition(|violation| self.is_known(violation));
        self.violations.extend(new);
        if !self.violations.is_empty() {
            history.write(&self.folder.join(disk::HISTORY))?;
        }
        let table = report::table(&self.lines, &findings.counts);
        Ok(Outcome {
            missing: missing(&self.members),
            known,
            violations: self.violations,
            table,
            kept: None,
        })
    }
}
