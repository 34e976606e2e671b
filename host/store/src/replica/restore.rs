//! A whole store as data, outwards and inwards: [`ImageReader`] shows one to whoever writes a backup, and a
//! [`RestoreSource`] makes one of a backup.
//!
//! What a backup looks like is not known here, and neither are members: those are the cluster's.

use bytes::Bytes;

use super::image::INSTALL_BATCH_BYTES;
use super::whole::Sum;
use super::{Image, ImageHead, rows};
use crate::alarm::Alarms;
use crate::auth::AuthState;
use crate::engine::{StateBatch, StateEngine};
use crate::mvcc::{Record, Rev};
use crate::{Alarm, Error, KeyValue, LeaseId, Result, Revision};

/// One change of one key, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Which change of its revision, `kv.mod_revision`, it is, from 0.
    pub sub: u32,
    /// A deletion: then `kv` has the key and `mod_revision` alone.
    pub deleted: bool,
    /// The key after the change.
    pub kv: KeyValue,
}

/// A store at one moment. While it lives no history is deleted from disk.
#[derive(Debug)]
pub struct ImageReader(Image);

impl ImageReader {
    pub(crate) fn new(image: Image) -> Self {
        Self(image)
    }

    /// The store's revision.
    pub fn revision(&self) -> Revision {
        self.0.head.revision
    }

    /// History below it is not whole; 0 before the first compaction.
    pub fn compact_revision(&self) -> Revision {
        self.0.head.compact_revision
    }

    /// All leases, with the seconds that each was granted.
    pub fn leases(&self) -> &[(LeaseId, i64)] {
        &self.0.head.leases
    }

    /// Users and roles.
    pub fn auth(&self) -> &AuthState {
        &self.0.head.auth
    }

    /// The alarms that are raised.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.0.head.alarms.iter().collect()
    }

    /// Visits all records in the order of their revisions, until told to stop. Blocks on the disk.
    ///
    /// # Errors
    /// `Corrupt` where a record is damaged, and the visitor's own.
    pub fn records(&self, visit: &mut dyn FnMut(ImageRecord) -> Result<bool>) -> Result<()> {
        self.0.source.records(&mut |key, row| {
            let rev = rows::record_rev(key);
            let rev = rev.ok_or_else(|| Error::Corrupt("a record's row has a wrong key".into()))?;
            let record = Record::decode(row)?;
            visit(ImageRecord {
                sub: rev.sub,
                deleted: record.deleted,
                kv: record.key_value(rev.main),
            })
        })
    }
}

/// A backup that a store is made of.
pub trait RestoreSource: Send + 'static {
    /// The revision that the store is to be at; not below that of any record.
    fn revision(&self) -> Revision;
    /// History below it is not whole; 0 where all of it is.
    fn compact_revision(&self) -> Revision;
    /// All leases, with the seconds that each was granted.
    fn leases(&self) -> Vec<(LeaseId, i64)>;
    /// Users and roles.
    fn auth(&self) -> AuthState;
    /// The alarms that are raised.
    fn alarms(&self) -> Vec<Alarm>;
    /// Gives all records in the order of their revisions. Blocks.
    ///
    /// # Errors
    /// The source's own, and those of `take`, which end it.
    fn records(&mut self, take: &mut dyn FnMut(ImageRecord) -> Result<()>) -> Result<()>;
}

/// Fills an empty engine from a backup. When it returns, all of it is on disk.
pub(crate) fn restore(engine: &dyn StateEngine, mut source: impl RestoreSource) -> Result<()> {
    let revision = source.revision();
    let mut batch = StateBatch::default();
    let mut last = None;
    let mut sum = Sum::default();
    source.records(&mut |one| {
        let rev = Rev {
            main: one.kv.mod_revision,
            sub: one.sub,
        };
        if rev.main > revision || last.is_some_and(|last| rev <= last) {
            return Err(Error::Corrupt(format!(
                "the backup's record of revision {}.{} is out of order or beyond its revision {revision}",
                rev.main, rev.sub
            )));
        }
        last = Some(rev);
        sum.add(rev);
        batch.put(rows::record(rev), record(one).encode());
        if batch.size_bytes() >= INSTALL_BATCH_BYTES {
            engine.apply(std::mem::take(&mut batch))?;
        }
        Ok(())
    })?;
    let mut alarms = Alarms::default();
    source
        .alarms()
        .into_iter()
        .for_each(|alarm| alarms.set(alarm, true));
    let head = ImageHead {
        revision,
        compact_revision: source.compact_revision(),
        leases: source.leases(),
        auth: source.auth(),
        alarms,
    };
    let rest = head.rows(&mut batch)?;
    batch.put(rows::REST, rest.encode());
    batch.put(rows::RESTORED, rows::restored(revision, sum));
    engine.apply(batch)?;
    engine.sync()
}

fn record(one: ImageRecord) -> Record {
    let is_kept = !one.deleted;
    Record {
        key: one.kv.key,
        value: if is_kept { one.kv.value } else { Bytes::new() },
        create_revision: if is_kept { one.kv.create_revision } else { 0 },
        version: if is_kept { one.kv.version } else { 0 },
        lease: if is_kept { one.kv.lease } else { 0 },
        deleted: one.deleted,
    }
}
