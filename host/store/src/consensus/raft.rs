//! The handle: starts Raft, proposes commands here or at the leader, stops.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::errors::{ClientWriteError, Fatal, InitializeError, RaftError};
use openraft::impls::OneshotResponder;
use openraft::storage::RaftLogStorage;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{Config, ServerState, SnapshotPolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle as Task;

use super::appends::Sessions;
use super::links::Links;
use super::log_store::LogStore;
use super::network::Network;
use super::progress::{Applied, Progress};
use super::reads::Rounds;
use super::removal::OnRemoved;
use super::snapshot_in::Spool;
use super::state_machine::StateMachine;
use super::types::{LogId, Node, NodeId, Proposal, TypeConfig};
use super::view::Heard;
use super::{housekeeping, recovery, removal, tend, view};
use crate::cluster::message::Reply;
use crate::engine::LogEngine;
use crate::lock::Mutex;
use crate::replica::{Outcome, Replica};
use crate::{
    ClusterOptions, Error, Identity, Member, PeerCallKind, PeerError, RaftView, Refusal, Result, StoreMetrics,
};

pub(super) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// How long a start of the only voter may take until all of the log is applied.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// What a request may take beside two elections (etcd's).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long without a change of leader a request looks again.
const LEADER_POLL: Duration = Duration::from_millis(50);
/// Entries in a message; their bytes are bounded where the log is read.
const PAYLOAD_ENTRIES_MAX: u64 = 2_048;

/// How a member starts.
pub(crate) struct Start<'a> {
    pub(crate) log: Arc<dyn LogEngine>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) identity: &'a Identity,
    /// The members of a cluster that begins with this start.
    pub(crate) founders: Vec<Member>,
    /// What is known of a cluster that is joined.
    pub(crate) known: Vec<Member>,
    pub(crate) options: &'a ClusterOptions,
    /// Where snapshots are received.
    pub(crate) dir: &'a Path,
    pub(crate) observer: Arc<dyn Applied>,
    pub(crate) on_removed: OnRemoved,
}

/// A member's part in consensus.
pub(crate) struct Consensus {
    pub(super) core: Arc<Core>,
    tasks: Mutex<Vec<Task<()>>>,
}

/// What its tasks share.
pub(super) struct Core {
    pub(super) raft: Raft,
    pub(super) progress: Arc<Progress>,
    pub(super) links: Arc<Links>,
    pub(super) own_id: NodeId,
    pub(super) timing: Timing,
    pub(super) view: watch::Sender<RaftView>,
    /// The term that this member leads, once it has applied an entry of it.
    pub(super) leading: watch::Sender<Option<u64>>,
    pub(super) heard: Heard,
    pub(super) rounds: Rounds,
    pub(super) spool: Arc<Spool>,
    pub(super) sessions: Sessions,
    /// One change of membership at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Set when the member stops: whoever waits for others stops waiting.
    pub(super) closing: watch::Sender<bool>,
    pub(super) metrics: Arc<StoreMetrics>,
    /// This member's name and client URLs, to be made known.
    pub(super) attributes: (String, Vec<String>),
}

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) heartbeat: Duration,
    pub(super) election_min: Duration,
    pub(super) election_max: Duration,
    /// A request to the cluster.
    pub(super) request: Duration,
}

/// Raft's state in short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RaftStatus {
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) is_leader: bool,
}

impl Timing {
    fn of(options: &ClusterOptions) -> Self {
        let election_max = options.election * 2;
        Self {
            heartbeat: options.heartbeat,
            election_min: options.election,
            election_max,
            request: REQUEST_TIMEOUT + options.election * 2,
        }
    }
}

fn config(cluster_id: u64, timing: &Timing) -> Result<Arc<Config>> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // A follower waits for the longer one, in which it votes for nobody else, and then a time between them; so
    // that the two together are less than two elections, as etcd's.
    let (election_min, election_max) = (timing.election_min / 2, timing.election_min);
    let config = Config {
        cluster_name: format!("{cluster_id:x}"),
        heartbeat_interval: milliseconds(timing.heartbeat),
        election_timeout_min: milliseconds(election_min),
        election_timeout_max: milliseconds(election_max),
        install_snapshot_timeout: milliseconds(timing.request),
        // One voter needs no timer; an idle store is to be idle. The view turns it on when there are more.
        enable_tick: false,
        enable_pre_vote: Some(true),
        // A restarted leader's state may be older than what it acknowledged.
        enable_leader_restore: Some(false),
        max_payload_entries: PAYLOAD_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        // Housekeeping purges.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    let config = config
        .validate()
        .map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(Arc::new(config))
}

impl Consensus {
    /// Starts a member. One that is the only voter leads and has applied all of its log when this returns.
    pub(crate) async fn start(start: Start<'_>) -> Result<Self> {
        let timing = Timing::of(start.options);
        let own_id = start.identity.member_id;
        let progress = Arc::new(Progress::new(Some(start.observer), start.options.snapshot_count));
        progress.resume(start.log.size_bytes());
        let spool = Arc::new(Spool::new(start.dir));
        recovery::finish_install(&spool, &*start.log, &start.replica).await?;
        if start.options.force_new_cluster {
            recovery::force_new_cluster(&*start.log, &start.replica, own_id)?;
        }
        let (log_store, reached) = LogStore::start(start.log, Some(spool.clone()))?;
        let metrics = start.replica.metrics().clone();
        let machine = StateMachine::open(start.replica, progress.clone(), reached);
        let machine = machine.map_err(|error| from_io(&error))?;
        check_halves(&mut log_store.clone(), machine.applied()).await?;
        let links = Links::new(start.identity.cluster_id, own_id, start.options.transport.clone());
        let links = Arc::new(links);
        for member in start
            .founders
            .iter()
            .chain(&start.known)
            .cloned()
            .chain(progress.members())
        {
            links.learn_one(member.id, &member.peer_urls);
        }
        let network = Network {
            links: links.clone(),
            append_deadline: timing.election_max,
        };
        let config = config(start.identity.cluster_id, &timing)?;
        let raft = Raft::new(own_id, config, network, log_store, machine).await;
        let raft = raft.map_err(|fatal| from_fatal(&progress, &fatal))?;
        let core = Arc::new(Core {
            raft,
            progress,
            links,
            own_id,
            timing,
            view: watch::Sender::new(RaftView::default()),
            leading: watch::Sender::new(None),
            heard: Heard::default(),
            rounds: Rounds::default(),
            spool,
            sessions: Sessions::default(),
            changing: tokio::sync::Mutex::new(()),
            closing: watch::Sender::new(false),
            metrics,
            attributes: (start.options.name.clone(), start.options.client_urls.clone()),
        });
        let tasks = vec![
            tokio::spawn(housekeeping::run(core.clone())),
            tokio::spawn(view::run(core.clone())),
            tokio::spawn(tend::run(core.clone())),
            tokio::spawn(removal::run(core.clone(), start.on_removed)),
        ];
        let this = Self {
            core,
            tasks: Mutex::new(tasks),
        };
        match this.begin(start.founders).await {
            Ok(()) => Ok(this),
            Err(error) => {
                this.stop().await;
                Err(error)
            }
        }
    }

    async fn begin(&self, founders: Vec<Member>) -> Result<()> {
        let core = &self.core;
        let fatal = |fatal| from_fatal(&core.progress, &fatal);
        let is_initialized = core.raft.is_initialized().await.map_err(fatal)?;
        if !is_initialized && !founders.is_empty() {
            let nodes: BTreeMap<NodeId, Node> = founders
                .into_iter()
                .map(|member| (member.id, member.into()))
                .collect();
            match core.raft.initialize(nodes).await {
                // The others were quicker: what they founded is the same.
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(RaftError::Fatal(error)) => return Err(fatal(error)),
                Err(error) => return Err(Error::Invalid(error.to_string())),
            }
        }
        if !core.is_only_voter() {
            return Ok(());
        }
        core.raft.trigger().elect(false).await.map_err(fatal)?;
        let wait = core.raft.wait(Some(START_TIMEOUT));
        let leads = wait.state(ServerState::Leader, "leading").await;
        leads.map_err(|error| core.failure(&error))?;
        // A new leader's first entry commits all before it.
        core.raft
            .write_blank()
            .await
            .map_err(|error| core.failure(&error))?;
        view::refresh(core);
        Ok(())
    }

    /// Proposes an encoded command and returns its outcome, when it is durable, and applied here too.
    pub(crate) async fn propose(&self, command: Bytes) -> Result<Outcome> {
        let core = &self.core;
        core.alive()?;
        if core.is_only_voter() {
            return match core.write(Proposal(command), None).await {
                Reply::Done((_, outcome)) => Ok(outcome),
                Reply::NotLeader => Err(Error::Unavailable("this member does not lead yet".into())),
                Reply::Failed(error) => Err(error),
            };
        }
        let proposal = Proposal(command);
        let here = || {
            let (core, proposal) = (core.clone(), proposal.clone());
            async move { core.write_in_time(proposal, None).await }
        };
        let (index, outcome) = core
            .at_leader(PeerCallKind::Propose, &proposal.0, Repeat::Never, here)
            .await?;
        core.progress
            .wait(index, Instant::now() + core.timing.request)
            .await;
        Ok(outcome)
    }

    /// Proposes a command that was decided on as the leader of `term`, and only in that term.
    pub(crate) async fn propose_in_term(&self, command: Bytes, term: u64) -> Result<Outcome> {
        self.core.alive()?;
        match self.core.write_in_time(Proposal(command), Some(term)).await {
            Reply::Done((_, outcome)) => Ok(outcome),
            Reply::NotLeader => Err(Error::Refused(Refusal::NotLeader)),
            Reply::Failed(error) => Err(error),
        }
    }

    /// Asks the leader something of the server's that may be asked twice; `here` answers it on the leader.
    pub(crate) async fn ask_leader<Answer, Here, Answering>(
        &self,
        kind: PeerCallKind,
        message: &(impl Serialize + Sync),
        here: Here,
    ) -> Result<Answer>
    where
        Answer: DeserializeOwned,
        Here: Fn() -> Answering,
        Answering: Future<Output = Reply<Answer>>,
    {
        self.core.at_leader(kind, message, Repeat::Freely, here).await
    }

    pub(crate) fn status(&self) -> RaftStatus {
        let metrics = self.core.raft.metrics();
        let now = metrics.borrow_watched();
        RaftStatus {
            term: now.current_term,
            index: self.core.progress.index(),
            is_leader: now.state == ServerState::Leader,
        }
    }

    /// The view without its indexes.
    pub(crate) fn glance(&self) -> RaftView {
        *self.core.view.borrow()
    }

    /// The view of this moment.
    pub(crate) fn view(&self) -> RaftView {
        let core = &self.core;
        let index = {
            let metrics = core.raft.data_metrics();
            let now = metrics.borrow_watched();
            now.cluster_committed.map_or(0, |log_id| log_id.index)
        };
        let applied_index = core.progress.index();
        RaftView {
            index: index.max(applied_index),
            applied_index,
            ..*core.view.borrow()
        }
    }

    pub(crate) fn watch_view(&self) -> watch::Receiver<RaftView> {
        self.core.view.subscribe()
    }

    /// The term that this member leads, or none. A term shows up when all before it is applied.
    pub(crate) fn watch_leading(&self) -> watch::Receiver<Option<u64>> {
        self.core.leading.subscribe()
    }

    pub(crate) fn is_only_voter(&self) -> bool {
        self.core.is_only_voter()
    }

    /// How long an election may take at most.
    pub(crate) fn election_max(&self) -> Duration {
        self.core.timing.election_max
    }

    /// Stops, with all that was proposed either done or refused.
    pub(crate) async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.core.closing.send_replace(true);
        self.core.sessions.clear();
        let _ = self.core.raft.shutdown().await;
    }
}

/// Whether a message may be sent again when its outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Never,
    Freely,
}

impl Core {
    pub(super) fn alive(&self) -> Result<()> {
        self.progress.failure().map_or(Ok(()), |error| {
            Err(Error::Unavailable(format!("the store has stopped: {error}")))
        })
    }

    pub(super) fn is_only_voter(&self) -> bool {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        // Looked at in place: each write and each read asks, and a copy of the membership is many allocations.
        let configs = now.membership_config.get_joint_config();
        let is_own = |voters: &BTreeSet<NodeId>| voters.len() == 1 && voters.contains(&self.own_id);
        !configs.is_empty() && configs.iter().all(is_own)
    }

    /// Writes an entry as the leader.
    async fn write(&self, proposal: Proposal, term: Option<u64>) -> Reply<(u64, Outcome)> {
        let (responder, answer) = OneshotResponder::new_pair();
        let mut request = self.raft.write(proposal).responder(responder);
        if let Some(term) = term {
            request = request.with_leader(super::types::committed(term));
        }
        if let Err(error) = request.await {
            return Reply::Failed(self.unknown(&error));
        }
        match answer.await {
            Ok(Ok(done)) => Reply::Done((done.log_id.index, done.data)),
            // It was turned away before it was in the log.
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Reply::NotLeader,
            Ok(Err(error)) => Reply::Failed(self.unknown(&error)),
            // The entry may be in the log and be applied by the next start.
            Err(error) => Reply::Failed(self.unknown(&error)),
        }
    }

    pub(super) async fn write_in_time(&self, proposal: Proposal, term: Option<u64>) -> Reply<(u64, Outcome)> {
        let writing = tokio::time::timeout(self.timing.request, self.write(proposal, term));
        writing.await.unwrap_or_else(|_| Reply::Failed(timed_out()))
    }

    /// Has the leader do something, wherever it is, and waits for one if there is none.
    pub(super) async fn at_leader<Answer, Here, Answering>(
        &self,
        kind: PeerCallKind,
        message: &(impl Serialize + ?Sized),
        repeat: Repeat,
        here: Here,
    ) -> Result<Answer>
    where
        Answer: DeserializeOwned,
        Here: Fn() -> Answering,
        Answering: Future<Output = Reply<Answer>>,
    {
        let deadline = Instant::now() + self.timing.request;
        let mut view = self.view.subscribe();
        loop {
            let leader = view.borrow_and_update().leader;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Refused(Refusal::Timeout));
            }
            let asking = async {
                match leader {
                    0 => Ok(Reply::NotLeader),
                    leader if leader == self.own_id => Ok(here().await),
                    leader => {
                        self.unless_closing(self.links.ask(leader, kind, &message, left))
                            .await
                    }
                }
            };
            let reply = match self.while_it_leads(leader, repeat, asking).await {
                Ok(reply) => reply,
                Err(PeerError::Unreachable(_)) => Reply::NotLeader,
                Err(PeerError::Failed(_)) if repeat == Repeat::Freely => Reply::NotLeader,
                Err(PeerError::Failed(why)) => {
                    tracing::debug!(why, ?kind, "the leader has not answered");
                    return Err(timed_out());
                }
            };
            match reply {
                Reply::Done(answer) => return Ok(answer),
                Reply::Failed(error) => return Err(error),
                Reply::NotLeader => self.alive()?,
            }
            if *self.closing.borrow() {
                return Err(Error::Refused(Refusal::Stopped));
            }
            let _ = tokio::time::timeout(LEADER_POLL.min(left), view.changed()).await;
        }
    }

    /// The answer, until another leads: a leader that is cut off or stands still never answers. What may not be
    /// asked again gets an election's time more, for one that handed over still knows what came of it.
    async fn while_it_leads<T>(
        &self,
        leader: NodeId,
        repeat: Repeat,
        asking: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        let mut view = self.view.subscribe();
        let deposed = async {
            let another = view.wait_for(|view| view.leader != 0 && view.leader != leader);
            if another.await.is_err() {
                return std::future::pending().await;
            }
            if repeat == Repeat::Never {
                tokio::time::sleep(self.timing.election_max).await;
            }
        };
        tokio::select! {
            biased;
            answer = asking => answer,
            () = deposed => Err(PeerError::Failed("another member leads now".into())),
        }
    }

    /// Waits for another member, but not when this one stops.
    pub(super) async fn unless_closing<T>(
        &self,
        work: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            done = work => done,
            _ = closing.wait_for(|closing| *closing) => Err(PeerError::Failed("the store is shutting down".into())),
        }
    }

    fn unknown(&self, error: &dyn std::error::Error) -> Error {
        match self.progress.failure() {
            Some(error) => Error::Unknown(error.to_string()),
            None => Error::Unknown(error.to_string()),
        }
    }

    pub(super) fn failure(&self, error: &dyn std::error::Error) -> Error {
        match self.progress.failure() {
            Some(error) => error.clone(),
            None => Error::Unavailable(error.to_string()),
        }
    }
}

/// What was begun and has no answer yet.
pub(super) fn timed_out() -> Error {
    Error::Unknown(Refusal::Timeout.message().into())
}

/// The log and the state must meet. The state only ever holds what the log had synced, and the log only
/// forgets what the state had synced; so if they do not meet, one of them has lost something.
async fn check_halves(log: &mut LogStore, applied: Option<LogId>) -> Result<()> {
    let log = log.get_log_state().await.map_err(|error| from_io(&error))?;
    let index = |log_id: Option<LogId>| log_id.map_or(0, |log_id| log_id.index);
    let (applied, last, purged) = (
        index(applied),
        index(log.last_log_id),
        index(log.last_purged_log_id),
    );
    if applied > last {
        return Err(Error::Corrupt(format!(
            "the log ends at entry {last}, but entry {applied} was applied: the log is damaged"
        )));
    }
    if applied < purged {
        return Err(Error::Corrupt(format!(
            "the state ends at entry {applied}, but the log begins after {purged}: the state is damaged"
        )));
    }
    Ok(())
}

pub(super) fn from_io(error: &std::io::Error) -> Error {
    let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    ours.cloned()
        .unwrap_or_else(|| Error::Unavailable(error.to_string()))
}

fn from_fatal(progress: &Progress, fatal: &Fatal<TypeConfig>) -> Error {
    match (progress.failure(), fatal) {
        (Some(error), _) => error.clone(),
        (None, Fatal::StorageError(error)) => Error::Corrupt(error.to_string()),
        (None, error) => Error::Unavailable(error.to_string()),
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        // They hold Raft, and Raft holds the log.
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}
