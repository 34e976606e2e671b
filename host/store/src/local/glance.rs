//! What a face needs of a [`LocalStore`] for nearly every answer: read from memory, at once, as this member
//! has applied it.

use super::LocalStore;
use crate::{Alarm, RaftView, Revision};

impl LocalStore {
    /// The newest revision that this member has applied; 0 after a shutdown.
    pub fn revision(&self) -> Revision {
        self.server()
            .map_or(0, |server| server.replica.look(|state| state.revision))
    }

    /// [`LocalStore::raft`] without the indexes, which cost more than all else of it.
    pub fn raft_glance(&self) -> RaftView {
        self.server()
            .map(|server| server.consensus.glance())
            .unwrap_or_default()
    }

    /// The alarms that are raised, of all members, as this one knows them; see [`LocalStore::alarms`].
    pub fn alarms_known(&self) -> Vec<Alarm> {
        let known = self
            .server()
            .map(|server| server.replica.look(|state| state.alarms.iter().collect()));
        known.unwrap_or_default()
    }

    /// Whether it was not shut down.
    pub fn is_open(&self) -> bool {
        self.server().is_ok()
    }
}
