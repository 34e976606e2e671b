//! Multi-version state, pure: which keys exist at which revision, and what a transaction changes.
//!
//! A *revision* counts changes of the whole store: the first write makes 2. A write of several keys has one
//! main revision and numbers its changes by `sub`. Values are on disk under their revision ([`Records`]);
//! here are only keys and revisions. No I/O, clock, lock or Raft. Called by the state machine and readers.
//!
//! A worked example. `put a=1; put a=2; delete a; put a=3` leaves, in the index, for key `a`:
//!
//! ```text
//! item            create  version           generation
//! (2,0)           2       1                 first
//! (3,0)           2       2                 first
//! (4,0) deleted   -       0                 first, ended by its tombstone
//! (5,0)           5       1                 second
//! ```
//!
//! A read at revision 3 finds (3,0); at 4 nothing; now (5,0). `compact(3)` keeps what a read at 3 or later
//! still sees: it drops (2,0). `compact(4)` drops the first generation from the index; the tombstone's record
//! at exactly 4 stays on disk until the next compaction, because a watch may still begin at 4 and must see
//! the delete.

mod check;
mod history;
mod index;
mod key_range;
mod range;
mod record;
mod state;
mod txn;

pub(crate) use check::{check_range, check_txn, is_read_only};
pub(crate) use history::Item;
pub(crate) use key_range::Span;
pub(crate) use range::{Hit, Shape, count, fetch_one, hit, plan_range};
pub(crate) use record::{Record, Rev};
pub(crate) use state::State;
pub(crate) use txn::{Change, delete_keys, execute};

use crate::Result;

/// Where records are read from: the value cache and the engine below it.
pub(crate) trait Records {
    /// The record of one revision, or `None` where it was compacted away.
    fn record(&self, rev: Rev) -> Result<Option<Record>>;
}
