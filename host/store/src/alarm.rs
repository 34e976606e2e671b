//! Alarms: what is wrong with a member, known to all members and in force until it is disarmed.
//!
//! Pure; part of the replicated state. While `NoSpace` is raised for any member, what makes the store grow is
//! refused; while `Corrupt` is, everything is that reads or writes keys. Who raises them is elsewhere.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Refusal;

/// One alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Alarm {
    pub member_id: u64,
    pub kind: AlarmKind,
}

/// What it says; etcd's numbers are 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlarmKind {
    /// The member is over its quota, or its disk is full.
    NoSpace,
    /// The member's data differs from that of the others, or is damaged.
    Corrupt,
}

/// The alarms that are raised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alarms(BTreeSet<Alarm>);

impl Alarms {
    pub(crate) fn set(&mut self, alarm: Alarm, is_raised: bool) {
        if is_raised {
            self.0.insert(alarm);
        } else {
            self.0.remove(&alarm);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Alarm> {
        self.0.iter().copied()
    }

    pub(crate) fn is_raised(&self, kind: AlarmKind) -> bool {
        self.0.iter().any(|alarm| alarm.kind == kind)
    }

    /// Whether a command may go ahead: one that touches keys or leases, and one that makes the store grow.
    pub(crate) fn admit(&self, touches: bool, grows: bool) -> Result<(), Refusal> {
        if touches && self.is_raised(AlarmKind::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        if grows && self.is_raised(AlarmKind::NoSpace) {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }
}
