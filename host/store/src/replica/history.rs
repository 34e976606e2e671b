//! The replica as the source of records and of past writes.

use super::{Replica, rows};
use crate::engine::StateEngine;
use crate::mvcc::{Change, Record, Records, Rev};
use crate::watch::{Batch, History};
use crate::{Error, Result, Revision};

impl Records for Replica {
    fn record(&self, rev: Rev) -> Result<Option<Record>> {
        if let Some(record) = self.values.lock().get(rev) {
            return Ok(Some(record));
        }
        let Some(bytes) = self.engine.get(&rows::record(rev))? else {
            return Ok(None);
        };
        let record = Record::decode(bytes)?;
        self.values.lock().insert(rev, record.clone());
        Ok(Some(record))
    }
}

impl History for Replica {
    fn compact_revision(&self) -> Revision {
        self.state.read().compact_revision
    }

    fn revision(&self) -> Revision {
        self.state.read().revision
    }

    fn before(&self, key: &[u8], revision: Revision) -> Option<Rev> {
        self.state
            .read()
            .index
            .get(key, revision - 1)
            .map(|item| item.rev)
    }

    fn writes(&self, first: Revision, last: Revision, bytes_max: usize) -> Result<Vec<Batch>> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut bytes = 0;
        scan_records(&*self.engine, first, last, &mut |rev, record| {
            let is_next = batches.last().is_none_or(|batch| batch.revision != rev.main);
            if is_next && bytes > bytes_max {
                return Ok(false);
            }
            bytes += record.key.len() + record.value.len();
            let previous = self.before(&record.key, rev.main);
            let change = Change {
                rev,
                record,
                previous,
            };
            match batches.last_mut() {
                Some(batch) if !is_next => batch.changes.push(change),
                _ => batches.push(Batch {
                    revision: rev.main,
                    changes: vec![change],
                }),
            }
            Ok(true)
        })?;
        Ok(batches)
    }
}

/// Visits the records of the revisions from `first` to `last`, in order, until told to stop.
pub(super) fn scan_records(
    engine: &dyn StateEngine,
    first: Revision,
    last: Revision,
    visit: &mut dyn FnMut(Rev, Record) -> Result<bool>,
) -> Result<()> {
    let start = rows::record(Rev {
        main: first.max(0),
        sub: 0,
    });
    let end = rows::record(Rev {
        main: last.saturating_add(1),
        sub: 0,
    });
    engine.scan(&start, &end, &mut |key, value| {
        let rev = rows::record_rev(key);
        let rev = rev.ok_or_else(|| Error::Corrupt("the state: a record's row has a wrong key".into()))?;
        visit(rev, Record::decode(value)?)
    })
}
