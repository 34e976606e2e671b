//! One open store: what each operation does, in terms of the replica, consensus and the lease clock.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Options;
use super::auth::Caller;
use super::folder::{Folder, FolderLock};
use super::keeping;
use super::leases::{self, Leases};
use super::maintenance::Limits;
use super::open::start_consensus;
use crate::cluster::message::{LeaseAnswer, LeaseAsk};
use crate::consensus::Consensus;
use crate::engine::{LogEngine, SpaceGuard};
use crate::lock::Mutex;
use crate::metrics::Pending;
use crate::mvcc::{check_range, check_txn, is_read_only};
use crate::replica::{Command, Outcome, Replica};
use crate::watch::Hub;
use crate::{
    Error, Identity, KeyRange, LeaseId, LeaseStatus, RangeRequest, RangeResponse, RangeStream, Refusal,
    Result, Revision, Status, StoreMetrics, Txn, TxnResponse, Watch, WatchRequest,
};

/// How often a lease id that the store chooses may turn out to be taken.
const LEASE_ID_ATTEMPTS_MAX: usize = 8;
/// How long a shutdown waits for calls that still run.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Server {
    pub(super) replica: Arc<Replica>,
    pub(super) consensus: Consensus,
    pub(super) log: Arc<dyn LogEngine>,
    pub(super) space: SpaceGuard,
    pub(super) limits: Limits,
    pub(super) leases: Arc<Leases>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    lock: FolderLock,
    pub(super) identity: Identity,
}

impl Server {
    pub(super) async fn open(options: Options) -> Result<Arc<Self>> {
        let limits = Limits::of(&options);
        let (dir, log_engine) = (options.dir.clone(), options.log_engine);
        let opening = tokio::task::spawn_blocking(move || {
            let metrics = StoreMetrics::new();
            let folder = Folder::open(&dir, log_engine, &metrics)?;
            let replica = Replica::open(folder.state.clone(), metrics)?;
            Ok::<_, Error>((folder, replica))
        });
        let opened = opening
            .await
            .map_err(|error| Error::Corrupt(format!("opening the store: {error}")))?;
        let (folder, replica) = opened?;
        let leases = Leases::new(&replica);
        let started = start_consensus(&folder, &replica, &leases, &options).await;
        let (identity, consensus) = started.inspect_err(|_| replica.upkeep().stop())?;
        let server = Arc::new(Self {
            identity,
            leases,
            tasks: Mutex::new(Vec::new()),
            space: SpaceGuard::new(options.dir, options.space_reserve_bytes),
            limits,
            log: folder.log,
            lock: folder.lock,
            replica,
            consensus,
        });
        super::metrics::start(&server);
        server.replica.tokens().lock().set_ttl(server.limits.token_ttl);
        let hub = Arc::downgrade(server.replica.hub());
        let tasks = [
            tokio::spawn(leases::run(Arc::downgrade(&server))),
            tokio::spawn(Hub::run_progress(hub)),
            tokio::spawn(keeping::run(Arc::downgrade(&server))),
        ];
        server.tasks.lock().extend(tasks);
        Ok(server)
    }

    pub(super) async fn shutdown(self: Arc<Self>) {
        self.replica.hub().close();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.consensus.resign().await;
        self.consensus.stop().await;
        let replica = self.replica.clone();
        let log = self.log.clone();
        let synced = tokio::task::spawn_blocking(move || {
            replica.upkeep().stop();
            replica.sync()?;
            // The log then knows that the state is.
            log.sync()
        });
        if let Ok(Err(error)) = synced.await {
            tracing::error!(%error, "syncing the state at shutdown");
        }
        let (log, replica) = (Arc::downgrade(&self.log), Arc::downgrade(&self.replica));
        // Calls that still run come to their end now.
        let deadline = Instant::now() + SHUTDOWN_WAIT;
        while Arc::strong_count(&self) > 1 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match Arc::try_unwrap(self) {
            Ok(Self {
                lock,
                log: log_owned,
                replica: replica_owned,
                consensus,
                ..
            }) => {
                drop((log_owned, replica_owned, consensus));
                released(log, replica).await;
                drop(lock);
            }
            // A call that still runs holds the store; the folder is free when it returns.
            Err(this) => drop(this),
        }
    }

    pub(super) async fn range(&self, caller: Caller, request: RangeRequest) -> Result<RangeResponse> {
        check_range(&request)?;
        if !request.serializable {
            self.consensus.read_barrier().await?;
        }
        caller.read(&self.replica, &request.range, || self.replica.range(&request))
    }

    pub(super) async fn range_stream(&self, caller: Caller, request: RangeRequest) -> Result<RangeStream> {
        check_range(&request)?;
        if !request.serializable {
            self.consensus.read_barrier().await?;
        }
        let replica = self.replica.clone();
        let planning = tokio::task::spawn_blocking(move || {
            caller.read(&replica, &request.range, || replica.range_stream(&request))
        });
        planning
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }

    pub(super) async fn txn(&self, caller: Caller, txn: Txn) -> Result<TxnResponse> {
        check_txn(&txn, self.limits.txn_ops_max)?;
        if is_read_only(&txn) {
            self.consensus.read_barrier().await?;
            caller.check_txn(&self.replica, &txn)?;
            return self.replica.read_txn(&txn);
        }
        match self.propose(&caller.command(Command::Txn(txn))).await? {
            Outcome::Txn(answer) => answer,
            Outcome::Done(answer) => Err(unexpected(&answer)),
        }
    }

    pub(super) fn watch(&self, request: WatchRequest) -> Result<Watch> {
        if matches!(&request.range, KeyRange::Key(key) if key.is_empty()) {
            return Err(Refusal::EmptyKey.into());
        }
        self.replica.watch(request)
    }

    pub(super) async fn compact(&self, revision: Revision, physical: bool) -> Result<()> {
        self.propose_done(&Command::Compact { revision }).await?;
        if physical {
            self.replica.upkeep().deleted().await?;
        }
        Ok(())
    }

    pub(super) async fn lease_grant(&self, id: LeaseId, ttl_seconds: i64) -> Result<(LeaseId, i64)> {
        for attempt in 1.. {
            let chosen = if id == 0 { fastrand::i64(1..i64::MAX) } else { id };
            let command = Command::LeaseGrant {
                id: chosen,
                ttl_seconds,
            };
            match self.propose_done(&command).await {
                Ok(()) => {
                    let kept = self.replica.look(|state| state.leases.ttl_seconds(chosen));
                    return Ok((chosen, kept.unwrap_or(ttl_seconds)));
                }
                Err(Error::LeaseExists) if id == 0 && attempt < LEASE_ID_ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::LeaseExists)
    }

    pub(super) async fn lease_revoke(&self, caller: Caller, id: LeaseId) -> Result<()> {
        self.propose_done(&caller.command(Command::LeaseRevoke { id }))
            .await?;
        Ok(())
    }

    pub(super) async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64> {
        self.renew_lease(id).await
    }

    pub(super) async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus> {
        let LeaseAnswer {
            granted_ttl_seconds,
            remaining_ttl_seconds,
        } = self.ask_lease(LeaseAsk::TimeToLive(id)).await?;
        let keys = if keys {
            self.consensus.read_barrier().await?;
            self.replica.look(|state| state.leases.keys(id))
        } else {
            Vec::new()
        };
        Ok(LeaseStatus {
            id,
            granted_ttl_seconds,
            remaining_ttl_seconds,
            keys,
        })
    }

    pub(super) async fn leases(&self) -> Result<Vec<LeaseId>> {
        self.consensus.read_barrier().await?;
        Ok(self
            .replica
            .look(|state| state.leases.iter().map(|(id, _)| id).collect()))
    }

    pub(super) fn status(&self) -> Status {
        let raft = self.consensus.status();
        let (revision, compact_revision) = self
            .replica
            .look(|state| (state.revision, state.compact_revision));
        Status {
            revision,
            compact_revision,
            raft_term: raft.term,
            raft_index: raft.index,
            db_size_bytes: self.log.size_bytes() + self.replica.size_bytes(),
            is_leader: raft.is_leader,
        }
    }

    pub(super) async fn propose(&self, command: &Command) -> Result<Outcome> {
        let proposal = command.encode()?;
        self.admit(command, proposal.len()).await?;
        let metrics = self.replica.metrics();
        let pending = Pending::of(metrics);
        let answer = self.consensus.propose(proposal).await;
        drop(pending);
        answer.inspect_err(|_| {
            metrics.proposals_failed.inc();
        })
    }

    pub(super) async fn propose_done(&self, command: &Command) -> Result<()> {
        match self.propose(command).await? {
            Outcome::Done(answer) => answer,
            Outcome::Txn(answer) => Err(unexpected(&answer)),
        }
    }
}

pub(super) fn unexpected(answer: &impl std::fmt::Debug) -> Error {
    Error::Unknown(format!("the command was answered by {answer:?}"))
}

/// Waits until the databases are closed, so that whoever gets the folder next can open them.
async fn released(log: Weak<dyn LogEngine>, replica: Weak<Replica>) {
    let deadline = Instant::now() + SHUTDOWN_WAIT;
    while (log.strong_count() > 0 || replica.strong_count() > 0) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
