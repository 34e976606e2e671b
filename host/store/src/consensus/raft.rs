//! The handle: starts Raft, proposes commands, guards reads, stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use openraft::storage::RaftLogStorage;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, Config, ReadPolicy, ServerState, SnapshotPolicy};
use tokio::task::JoinHandle as Task;

use super::housekeeping::{self, Progress};
use super::log_store::LogStore;
use super::network::NoPeers;
use super::state_machine::StateMachine;
use super::types::{LogId, NodeId, Proposal, TypeConfig};
use crate::engine::LogEngine;
use crate::replica::{Outcome, Replica};
use crate::{Error, Result};

pub(super) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// The only member's name.
const NODE_ID: NodeId = 1;
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MS_MIN: u64 = 1_000;
const ELECTION_MS_MAX: u64 = 2_000;
/// How long a start may take until all of the log is applied.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A member's part in consensus.
pub(crate) struct Consensus {
    raft: Raft,
    progress: Arc<Progress>,
    housekeeping: Task<()>,
}

/// Raft's state in short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RaftStatus {
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) is_leader: bool,
}

fn config() -> Result<Arc<Config>> {
    let config = Config {
        cluster_name: "capstan".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS_MIN,
        election_timeout_max: ELECTION_MS_MAX,
        // One voter needs no timer; an idle store is to be idle.
        enable_tick: false,
        snapshot_policy: SnapshotPolicy::Never,
        // Housekeeping purges.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    let config = config
        .validate()
        .map_err(|error| Error::Unavailable(error.to_string()))?;
    Ok(Arc::new(config))
}

impl Consensus {
    /// Starts the only member; returns when it leads and has applied all of its log.
    pub(crate) async fn start(log: Arc<dyn LogEngine>, replica: Arc<Replica>) -> Result<Self> {
        let progress = Arc::new(Progress::default());
        progress.resume(log.size_bytes());
        let log_store = LogStore::start(log)?;
        let machine = StateMachine::open(replica, progress.clone());
        let machine = machine.map_err(|error| from_io(&error))?;
        check_halves(&mut log_store.clone(), machine.applied()).await?;
        let raft = Raft::new(NODE_ID, config()?, NoPeers, log_store, machine).await;
        let raft = raft.map_err(|fatal| from_fatal(&progress, &fatal))?;
        let housekeeping = tokio::spawn(housekeeping::run(raft.clone(), progress.clone()));
        let this = Self {
            raft,
            progress,
            housekeeping,
        };
        match this.lead().await {
            Ok(()) => Ok(this),
            Err(error) => {
                this.stop().await;
                Err(error)
            }
        }
    }

    async fn lead(&self) -> Result<()> {
        let fatal = |fatal| from_fatal(&self.progress, &fatal);
        if self.raft.is_initialized().await.map_err(fatal)? {
            self.raft.trigger().elect(false).await.map_err(fatal)?;
        } else {
            let members = BTreeMap::from([(NODE_ID, BasicNode::default())]);
            self.raft.initialize(members).await.map_err(|error| match error {
                RaftError::Fatal(error) => fatal(error),
                error => Error::Unavailable(error.to_string()),
            })?;
        }
        let leads = self
            .raft
            .wait(Some(START_TIMEOUT))
            .state(ServerState::Leader, "leading")
            .await;
        leads.map_err(|error| self.failure(&error))?;
        // A new leader's first entry commits all before it.
        self.raft
            .write_blank()
            .await
            .map_err(|error| self.failure(&error))?;
        Ok(())
    }

    /// Proposes an encoded command and returns its outcome, when it is durable and applied.
    pub(crate) async fn propose(&self, command: Bytes) -> Result<Outcome> {
        if let Some(error) = self.progress.failure() {
            return Err(Error::Unavailable(format!("the store has stopped: {error}")));
        }
        match self.raft.client_write(Proposal(command)).await {
            Ok(answer) => Ok(answer.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(Error::Unavailable(to.to_string()))
            }
            // The entry may be in the log and be applied by the next start.
            Err(error) => Err(Error::Unknown(self.failure(&error).to_string())),
        }
    }

    /// Returns when whatever was acknowledged before the call can be read here.
    pub(crate) async fn read_barrier(&self) -> Result<()> {
        // The only voter acknowledges after applying, and nobody else can lead.
        let is_only_voter = {
            let mut voters = self.raft.voter_ids();
            voters.next() == Some(NODE_ID) && voters.next().is_none()
        };
        if is_only_voter {
            return Ok(());
        }
        let ready = self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
        ready.map(|_| ()).map_err(|error| self.failure(&error))
    }

    pub(crate) fn status(&self) -> RaftStatus {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        RaftStatus {
            term: now.current_term,
            index: now.last_applied.map_or(0, |log_id| log_id.index),
            is_leader: now.state == ServerState::Leader,
        }
    }

    /// Stops, with all that was proposed either done or refused.
    pub(crate) async fn stop(&self) {
        let _ = self.raft.shutdown().await;
        self.housekeeping.abort();
    }

    fn failure(&self, error: &dyn std::error::Error) -> Error {
        match self.progress.failure() {
            Some(error) => error.clone(),
            None => Error::Unavailable(error.to_string()),
        }
    }
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

fn from_io(error: &std::io::Error) -> Error {
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
        // It holds Raft, and Raft holds the log.
        self.housekeeping.abort();
    }
}
