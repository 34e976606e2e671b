//! A snapshot: the whole state at one applied entry, for a member that cannot be served from the log.
//!
//! Taking one is cheap: records never change once written, so it remembers the revision and keeps their
//! deletion away. Its records are read when it is sent. What carries it between members supplies an
//! [`ImageSource`] of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::load::{Loaded, load, wipe};
use super::upkeep::DiskPin;
use super::whole::{Rest, Sum};
use super::{Mark, Replica, rows};
use crate::alarm::Alarms;
use crate::auth::AuthState;
use crate::engine::{StateBatch, Visit};
use crate::mvcc::Rev;
use crate::{Error, LeaseId, Result, Revision};

/// Bytes installed in one batch.
pub(super) const INSTALL_BATCH_BYTES: usize = 1024 * 1024;

/// Where the records of an image come from.
pub(crate) trait ImageSource: Send + Sync + 'static {
    /// Visits the rows of all records, oldest first.
    fn records(&self, visit: &mut Visit<'_>) -> Result<()>;
}

/// The state at one moment.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) head: ImageHead,
    pub(crate) source: Arc<dyn ImageSource>,
}

/// All of the state but its records.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageHead {
    pub(crate) revision: Revision,
    pub(crate) compact_revision: Revision,
    /// With the time that each was granted, in seconds.
    pub(crate) leases: Vec<(LeaseId, i64)>,
    pub(crate) auth: AuthState,
    pub(crate) alarms: Alarms,
}

impl ImageHead {
    pub(crate) fn encode(&self) -> Result<Bytes> {
        let encoded = postcard::to_stdvec(self);
        encoded
            .map(Bytes::from)
            .map_err(|error| Error::Invalid(format!("encoding a snapshot's head: {error}")))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let head: Self = postcard::from_bytes(bytes)
            .map_err(|error| Error::Corrupt(format!("a snapshot's head: {error}")))?;
        Ok(Self {
            auth: head.auth.unified(),
            ..head
        })
    }

    /// Its rows, and what they are beside those of marks.
    pub(super) fn rows(&self, batch: &mut StateBatch) -> Result<Rest> {
        let mut rest = Rest::default();
        for (id, ttl_seconds) in &self.leases {
            batch.put(
                rows::lease(*id),
                Bytes::copy_from_slice(&ttl_seconds.to_be_bytes()),
            );
            rest.grant(*id);
        }
        if self.compact_revision > 0 {
            rest.compacted(self.compact_revision);
            batch.put(
                rows::COMPACT,
                Bytes::copy_from_slice(&self.compact_revision.to_be_bytes()),
            );
        }
        let (auth, alarms) = (self.auth.encode()?, rows::encode_alarms(&self.alarms)?);
        rest.auth(&auth);
        rest.alarms(&alarms);
        batch.put(rows::AUTH, auth);
        batch.put(rows::ALARMS, alarms);
        Ok(rest)
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Image")
            .field("revision", &self.head.revision)
            .finish_non_exhaustive()
    }
}

/// The records of a replica up to a revision.
struct Pinned {
    replica: Arc<Replica>,
    revision: Revision,
    _pin: DiskPin,
}

impl ImageSource for Pinned {
    fn records(&self, visit: &mut Visit<'_>) -> Result<()> {
        let end = rows::record(Rev {
            main: self.revision.saturating_add(1),
            sub: 0,
        });
        self.replica.engine.scan(&[rows::RECORD], &end, visit)
    }
}

impl Replica {
    /// The state as it is now. Called between two commands.
    pub(crate) fn image(self: &Arc<Self>) -> Image {
        let pin = self.upkeep.pin_disk();
        let state = self.state.read();
        Image {
            head: ImageHead {
                revision: state.revision,
                compact_revision: state.compact_revision,
                leases: state.leases.iter().collect(),
                auth: AuthState::clone(&state.auth),
                alarms: state.alarms.clone(),
            },
            source: Arc::new(Pinned {
                replica: self.clone(),
                revision: state.revision,
                _pin: pin,
            }),
        }
    }

    /// Replaces the whole state by an image. When it returns, the image is on disk.
    pub(crate) fn install(&self, image: &Image, marks: Vec<(Mark, Bytes)>) -> Result<()> {
        // What is still to be deleted of the old state must not be of the new one.
        let _pin = self.upkeep.pin_disk();
        let mut begin = StateBatch::default();
        begin.put(rows::INSTALLING, Bytes::new());
        self.engine.apply(begin)?;
        self.engine.sync()?;
        wipe(&*self.engine)?;
        let mut batch = StateBatch::default();
        let mut sum = Sum::default();
        image.source.records(&mut |key, value| {
            let rev = rows::record_rev(key);
            sum.add(rev.ok_or_else(|| Error::Corrupt("a snapshot's record has a wrong key".into()))?);
            batch.put(key, value);
            if batch.size_bytes() >= INSTALL_BATCH_BYTES {
                self.engine.apply(std::mem::take(&mut batch))?;
            }
            Ok(true)
        })?;
        let mut rest = image.head.rows(&mut batch)?;
        for (mark, value) in marks {
            rest.mark(mark, &value);
            batch.put(
                rows::mark(mark),
                rows::mark_value(mark, image.head.revision, sum, &value),
            );
        }
        batch.put(rows::REST, rest.encode());
        batch.delete(rows::INSTALLING);
        batch.is_atomic = true;
        self.engine.apply(batch)?;
        self.engine.sync()?;
        let Loaded {
            mut state,
            garbage,
            written,
            deleted,
        } = load(&*self.engine)?;
        *self.written.lock() = written;
        state.revision = state.revision.max(image.head.revision);
        self.values.lock().clear();
        self.tokens.lock().clear();
        let (revision, compact_revision) = (state.revision, state.compact_revision);
        {
            let mut now = self.state.write();
            *now = state;
            self.installs.fetch_add(1, Ordering::Release);
        }
        self.upkeep.begin(compact_revision, garbage, deleted);
        self.hub.reset(revision);
        Ok(())
    }
}
