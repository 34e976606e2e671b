//! openraft's state machine on a [`Replica`].
//!
//! The applied entry's id is written in one batch with what the entry did, so that a restart applies each
//! entry once, whatever of the state had reached the disk.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::durable::Reached;
use super::progress::Progress;
use super::types::{
    Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig, decode, encode, io_error,
};
use crate::replica::{Command, Image, Mark, Outcome, Replica};

/// Applies entries.
pub(super) struct StateMachine {
    replica: Arc<Replica>,
    applied: Option<LogId>,
    membership: StoredMembership,
    has_checkpoint: bool,
    progress: Arc<Progress>,
    log: Reached,
}

/// Brings one moment's state to disk.
pub(super) struct CheckpointBuilder {
    replica: Arc<Replica>,
    snapshot: Snapshot,
}

impl StateMachine {
    /// Takes up where the replica's marks say; applies only what `log` has on disk.
    pub(super) fn open(replica: Arc<Replica>, progress: Arc<Progress>, log: Reached) -> io::Result<Self> {
        let read = |mark| replica.mark(mark).map_err(io_error);
        let applied = read(Mark::Applied)?
            .map(|bytes| decode("the applied log id", &bytes))
            .transpose()?;
        let membership = read(Mark::Membership)?.map(|bytes| decode("the membership", &bytes));
        let membership = membership.transpose()?.unwrap_or_default();
        let has_checkpoint = read(Mark::Checkpoint)?.is_some();
        let membership: StoredMembership = membership;
        progress.jumped(applied, membership.clone());
        Ok(Self {
            replica,
            applied,
            membership,
            has_checkpoint,
            progress,
            log,
        })
    }

    pub(super) fn applied(&self) -> Option<LogId> {
        self.applied
    }

    fn apply_one(&mut self, entry: Entry) -> io::Result<Outcome> {
        let since = Instant::now();
        let log_id = entry.log_id();
        let mut marks = vec![(Mark::Applied, Bytes::from(encode(&log_id)?))];
        let mut size_bytes = 0;
        let outcome = match entry.payload {
            EntryPayload::Blank => {
                self.replica.apply_marks(marks).map_err(io_error)?;
                Outcome::Done(Ok(()))
            }
            EntryPayload::Membership(membership) => {
                let membership = StoredMembership::new(Some(log_id), membership);
                marks.push((Mark::Membership, encode(&membership)?.into()));
                self.replica.apply_marks(marks).map_err(io_error)?;
                self.progress.set_membership(membership.clone());
                self.membership = membership;
                Outcome::Done(Ok(()))
            }
            EntryPayload::Normal(proposal) => {
                size_bytes = proposal.0.len();
                let command = Command::decode(&proposal.0).map_err(io_error)?;
                let outcome = self.replica.apply(&command, marks).map_err(io_error)?;
                self.progress.carried_out(&command, &outcome);
                outcome
            }
        };
        self.applied = Some(log_id);
        self.progress.applied(log_id, size_bytes);
        self.replica.metrics().applied(since, log_id.index, size_bytes);
        Ok(outcome)
    }

    fn snapshot(&self) -> Snapshot {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        };
        Snapshot {
            meta,
            snapshot: self.replica.image(),
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Image;
    type SnapshotBuilder = CheckpointBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let is_on_disk = self.log.wait(entry.log_id().index).await;
            let outcome = is_on_disk
                .and_then(|()| self.apply_one(entry))
                .inspect_err(|error| self.progress.failed(error))?;
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        self.progress.publish();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.has_checkpoint = true;
        CheckpointBuilder {
            replica: self.replica.clone(),
            snapshot: self.snapshot(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, image: Image) -> io::Result<()> {
        let marks = super::recovery::marks(meta)?;
        let replica = self.replica.clone();
        let installing = tokio::task::spawn_blocking(move || {
            replica.metrics().snapshots_applying.inc();
            let installed = replica.install(&image, marks);
            replica.metrics().snapshots_applying.dec();
            installed
        });
        installing.await.map_err(io::Error::other)?.map_err(io_error)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.has_checkpoint = true;
        self.progress.jumped(self.applied, self.membership.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.has_checkpoint.then(|| self.snapshot()))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for CheckpointBuilder {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let replica = self.replica.clone();
        let building = tokio::task::spawn_blocking(move || {
            let since = Instant::now();
            replica.apply_marks(vec![(Mark::Checkpoint, Bytes::new())])?;
            replica.sync()?;
            replica
                .metrics()
                .snapshot_save
                .observe(since.elapsed().as_secs_f64());
            Ok::<_, crate::Error>(())
        });
        building.await.map_err(io::Error::other)?.map_err(io_error)?;
        Ok(self.snapshot.clone())
    }
}
