//! One open store: what each operation does, in terms of the replica, consensus and the lease clock.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::folder::{Folder, FolderLock};
use super::auth::Caller;
use super::maintenance::Limits;
use super::{Options, leases};
use crate::cluster::{cluster_id, founding_member_id};
use crate::consensus::Consensus;
use crate::engine::{LogEngine, SpaceGuard};
use crate::lease::LeaseClock;
use crate::lock::Mutex;
use crate::mvcc::{check_range, check_txn, is_read_only};
use crate::replica::{Command, Outcome, Replica};
use crate::watch::Hub;
use crate::{
    Error, Identity, KeyRange, LeaseId, LeaseStatus, Member, RaftView, RangeRequest, RangeResponse, RangeStream, Refusal, Result, Revision, Status,
    Txn, TxnResponse, Watch, WatchRequest,
};

/// How often a lease id that the store chooses may turn out to be taken.
const LEASE_ID_ATTEMPTS_MAX: usize = 8;
/// How long a shutdown waits for calls that still run.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Server {
    pub(super) replica: Arc<Replica>,
    pub(super) consensus: Consensus,
    log: Arc<dyn LogEngine>,
    pub(super) space: SpaceGuard,
    pub(super) limits: Limits,
    pub(super) lease_clock: Mutex<LeaseClock>,
    /// The clock's next deadline may have changed.
    pub(super) lease_changed: Arc<Notify>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    lock: FolderLock,
    pub(super) member: Member,
    cluster_id: u64,
    view: watch::Sender<RaftView>,
}

impl Server {
    pub(super) async fn open(options: Options) -> Result<Arc<Self>> {
        let limits = Limits::of(&options);
        let dir = options.dir.clone();
        let opening = tokio::task::spawn_blocking(move || {
            let folder = Folder::open(&dir)?;
            let replica = Replica::open(folder.state.clone())?;
            Ok::<_, Error>((folder, replica))
        });
        let opened = opening
            .await
            .map_err(|error| Error::Corrupt(format!("opening the store: {error}")))?;
        let (folder, replica) = opened?;
        let consensus = Consensus::start(folder.log.clone(), replica.clone()).await;
        let consensus = consensus.inspect_err(|_| replica.upkeep().stop())?;
        let cluster = options.cluster;
        let member_id = founding_member_id(&cluster.peer_urls, &cluster.token);
        let server = Arc::new(Self {
            cluster_id: cluster_id(std::iter::once(member_id)),
            member: Member {
                id: member_id,
                name: cluster.name,
                peer_urls: cluster.peer_urls,
                client_urls: cluster.client_urls,
                is_learner: false,
            },
            view: watch::Sender::new(RaftView::default()),
            lease_clock: Mutex::new(LeaseClock::default()),
            lease_changed: Arc::new(Notify::new()),
            tasks: Mutex::new(Vec::new()),
            space: SpaceGuard::new(options.dir, options.space_reserve_bytes),
            limits,
            log: folder.log,
            lock: folder.lock,
            replica,
            consensus,
        });
        server.replica.tokens().lock().set_ttl(limits.token_ttl);
        server.start_leases();
        let hub = Arc::downgrade(server.replica.hub());
        let tasks = [
            tokio::spawn(leases::run(Arc::downgrade(&server))),
            tokio::spawn(Hub::run_progress(hub)),
        ];
        server.tasks.lock().extend(tasks);
        Ok(server)
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            cluster_id: self.cluster_id,
            member_id: self.member.id,
            name: self.member.name.clone(),
        }
    }

    pub(super) fn raft(&self) -> RaftView {
        let raft = self.consensus.status();
        RaftView {
            term: raft.term,
            index: raft.index,
            applied_index: raft.index,
            leader: if raft.is_leader { self.member.id } else { 0 },
            is_learner: false,
        }
    }

    pub(super) fn watch_raft(&self) -> watch::Receiver<RaftView> {
        self.view.send_replace(self.raft());
        self.view.subscribe()
    }

    /// A new leader gives every lease its whole time.
    fn start_leases(&self) {
        let leases: Vec<_> = self.replica.look(|state| state.leases.iter().collect());
        let (now, mut clock) = (Instant::now(), self.lease_clock.lock());
        for (id, ttl_seconds) in leases {
            clock.renew(id, ttl_seconds, now);
        }
    }

    pub(super) async fn shutdown(self: Arc<Self>) {
        self.replica.hub().close();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.consensus.stop().await;
        let replica = self.replica.clone();
        let synced = tokio::task::spawn_blocking(move || {
            replica.upkeep().stop();
            replica.sync()
        });
        if let Ok(Err(error)) = synced.await {
            tracing::error!(%error, "syncing the state at shutdown");
        }
        let (log, replica) = (Arc::downgrade(&self.log), Arc::downgrade(&self.replica));
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
                Ok(()) => return self.granted(chosen),
                Err(Error::LeaseExists) if id == 0 && attempt < LEASE_ID_ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::LeaseExists)
    }

    fn granted(&self, id: LeaseId) -> Result<(LeaseId, i64)> {
        let ttl_seconds = self
            .replica
            .look(|state| state.leases.ttl_seconds(id))
            .ok_or(Error::LeaseNotFound)?;
        self.lease_clock.lock().renew(id, ttl_seconds, Instant::now());
        self.lease_changed.notify_one();
        Ok((id, ttl_seconds))
    }

    pub(super) async fn lease_revoke(&self, caller: Caller, id: LeaseId) -> Result<()> {
        self.propose_done(&caller.command(Command::LeaseRevoke { id })).await?;
        self.lease_clock.lock().forget(id);
        Ok(())
    }

    pub(super) async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64> {
        self.consensus.read_barrier().await?;
        let ttl_seconds = self
            .replica
            .look(|state| state.leases.ttl_seconds(id))
            .ok_or(Error::LeaseNotFound)?;
        let now = Instant::now();
        let mut clock = self.lease_clock.lock();
        // One that has run out is being ended; it cannot be saved any more.
        clock.remaining_seconds(id, now).ok_or(Error::LeaseNotFound)?;
        clock.renew(id, ttl_seconds, now);
        Ok(ttl_seconds)
    }

    pub(super) async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus> {
        self.consensus.read_barrier().await?;
        let (granted, keys) = self.replica.look(|state| {
            let keys = if keys { state.leases.keys(id) } else { Vec::new() };
            (state.leases.ttl_seconds(id), keys)
        });
        let remaining = self.lease_clock.lock().remaining_seconds(id, Instant::now());
        Ok(LeaseStatus {
            id,
            granted_ttl_seconds: granted.unwrap_or(0),
            remaining_ttl_seconds: granted.and(remaining).unwrap_or(-1),
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
        self.consensus.propose(proposal).await
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
