//! The scheduler's mechanism: queue, view of the cluster, cycle, binding. Where a pod goes is decided by the
//! policies that sit in its seats; not one opinion is here.
//!
//! Invariants: a cycle runs on one thread and pins one revision of every seat; a pod is assumed on its node
//! before the next cycle starts and bound after, and a failed binding undoes the assumption; a policy's fault
//! is an error with back-off, never "unschedulable".
//!
//! A pod's way: `queue` (with `parked`, the unschedulable by kind) → `cycle` (with `dialogue`, preemption's
//! questions) → `placement` (reserve, permit, prepare) → `waiting` → `bind`; `worker` drives it all.
//!
//! Called by the composition root.

mod bind;
mod binding;
mod convert;
mod cycle;
mod dialogue;
mod evicting;
mod feed;
mod nominations;
mod parked;
mod placement;
mod profiles;
mod queue;
mod rehearsal;
mod report;
mod run;
mod symbols;
mod view;
mod waiting;
mod worker;

pub use rehearsal::{Decision, Rehearsal};
pub use run::{Options, Scheduler};

/// Why the scheduler could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first lists did not arrive.
    #[error("scheduler: {0}")]
    Sync(#[from] capstan_client::NotSynced),
    /// The operating system gave no thread.
    #[error("scheduler thread: {0}")]
    Thread(#[source] std::io::Error),
}
