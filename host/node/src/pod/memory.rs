//! What a pod worker remembers between looks at its pod and the runtime: failures, pauses, volumes.
//!
//! Owned by one worker; the planner and the status builder only read it. It does not survive the process:
//! after a restart it is filled from the pod's own status (`seen.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::backoff::Backoff;
use super::resize::Applied;
use super::room::NoRoom;

/// How long a failed pull shows as `ErrImagePull` before it shows as `ImagePullBackOff`.
const SHOW_PULL_ERROR: SignedDuration = SignedDuration::from_secs(1);

/// A piece of work that is under way for a pod; at most one of each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Volumes,
    Sandbox,
    Container(String),
    Garbage(String),
    Status,
    Delete,
}

/// What the failure was about; it decides the pause and the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The image could not be had.
    Image,
    /// The pod's own configuration does not resolve (a missing ConfigMap key).
    Config,
    /// The runtime refused.
    Runtime,
}

/// Why a container did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// `ErrImagePull`, `CreateContainerConfigError`, `CreateContainerError`, `RunContainerError`, ...
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) image: String,
    pub(crate) failed_at: Timestamp,
    pub(crate) retry_at: Timestamp,
}

impl Failure {
    /// Reason and message of the waiting state as it stands at `now`.
    pub(crate) fn shown(&self, now: Timestamp) -> (String, String) {
        if self.kind == FailureKind::Image && self.reason == "ErrImagePull" && now >= self.back_off_shown_at()
        {
            let message = format!(
                "Back-off pulling image \"{}\": {}: {}",
                self.image, self.reason, self.message
            );
            return ("ImagePullBackOff".into(), message);
        }
        (self.reason.clone(), self.message.clone())
    }

    /// When `shown` changes.
    pub(crate) fn back_off_shown_at(&self) -> Timestamp {
        self.failed_at
            .saturating_add(SHOW_PULL_ERROR)
            .unwrap_or(self.failed_at)
    }
}

/// One container's memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContainerMemory {
    /// Pauses after a container ended.
    pub(crate) crash: Backoff,
    /// Pauses after it could not be started.
    pub(crate) start: Backoff,
    pub(crate) failure: Option<Failure>,
    /// What it may use.
    pub(crate) applied: Applied,
}

/// Where the pod's volumes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Volumes {
    /// Not made yet; not before the given time where an attempt failed.
    #[default]
    Pending,
    Failed {
        retry_at: Timestamp,
    },
    /// Host path of each by name; to be written again at a time where tokens run out.
    Ready {
        paths: BTreeMap<String, PathBuf>,
        refresh_at: Option<Timestamp>,
    },
}

/// All that one pod worker remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    pub(crate) containers: BTreeMap<String, ContainerMemory>,
    pub(crate) volumes: Volumes,
    /// How often in a row the volumes could not be made.
    pub(crate) volume_failures: u32,
    /// The sandbox is not tried again before.
    pub(crate) sandbox_retry_at: Option<Timestamp>,
    pub(crate) sandbox_failures: u32,
    /// Why the pod does not have the resources that its spec asks for.
    pub(crate) no_room: Option<NoRoom>,
    pub(crate) busy: BTreeSet<Key>,
}

impl Memory {
    pub(crate) fn is_busy(&self, key: &Key) -> bool {
        self.busy.contains(key)
    }

    pub(crate) fn container_busy(&self, name: &str) -> bool {
        self.busy
            .iter()
            .any(|key| matches!(key, Key::Container(busy) if busy == name))
    }

    pub(crate) fn failure(&self, name: &str) -> Option<&Failure> {
        self.containers.get(name)?.failure.as_ref()
    }

    pub(crate) fn container(&mut self, name: &str) -> &mut ContainerMemory {
        self.containers.entry(name.to_owned()).or_default()
    }
}

/// A pause that doubles from half a second to two minutes, as the original's volume and sandbox retries.
pub(crate) fn short_pause(failures: u32) -> SignedDuration {
    SignedDuration::from_millis((500_i64 << failures.min(8)).min(120_000))
}
