//! API aggregation: groups and versions that an extension server serves, as APIService objects name them.
//!
//! `keeper` looks at the objects, checks each server and writes its Available condition; what it found is
//! kept here for requests (`proxy`) and for discovery (`discovery`). A group and version that this server
//! serves itself stays its own, whatever an APIService says. Several API servers check for themselves.
//! `local` keeps objects of what is served here. Left out: OpenAPI v2 of extension servers.

pub(crate) mod discovery;
mod keeper;
pub(crate) mod local;
mod proxy;
mod reach;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde_json::Value;

pub(crate) use self::keeper::run;
pub(crate) use self::proxy::forward;
pub(crate) use self::reach::Identity;

/// A group and version that somebody else serves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remote {
    pub(crate) group: String,
    pub(crate) version: String,
    /// Of the APIService: the group's and the version's place.
    pub(crate) priority: (i64, i64),
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) port: u16,
    /// Certificates that sign the server's, as PEM; not asked for where it is trusted as it is.
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) insecure: bool,
    pub(crate) is_available: bool,
    /// Its APIResourceList, as it was when it answered last.
    pub(crate) resources: Option<Value>,
}

/// All of them, the preferred versions of a group first.
pub(crate) type Remotes = Vec<Arc<Remote>>;

/// See the module.
pub(crate) struct Aggregator {
    remotes: ArcSwap<Remotes>,
    /// Changes whenever they do.
    generation: AtomicU64,
    pub(crate) identity: Identity,
}

impl Aggregator {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            remotes: ArcSwap::default(),
            generation: AtomicU64::new(0),
            identity,
        }
    }

    pub(crate) fn remotes(&self) -> (u64, Arc<Remotes>) {
        let generation = self.generation.load(Ordering::Acquire);
        (generation, self.remotes.load_full())
    }

    pub(crate) fn find(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let all = self.remotes.load();
        let found = all
            .iter()
            .find(|one| one.group == group && one.version == version);
        found.cloned()
    }

    /// Of a path such as `/apis/GROUP/VERSION`, with nothing behind it.
    pub(crate) fn of_path(&self, path: &str) -> Option<Arc<Remote>> {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments.as_slice() {
            ["apis", group, version] => self.find(group, version),
            _ => None,
        }
    }

    fn set(&self, remotes: Remotes) {
        if **self.remotes.load() != remotes {
            self.remotes.store(Arc::new(remotes));
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }
}
