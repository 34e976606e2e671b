//! The controllers: each brings one kind of object towards what it says, as a client of the Kubernetes API.
//!
//! One module a controller, each a pure plan and a thin loop over `work`. Invariants: level-triggered,
//! idempotent, rereads state; keeps nothing that a restart would miss, but for what is on the objects
//! themselves. Called by the composition root. Not here: scheduling, the node's own work, and the policies
//! that [`remedy`] asks.

mod catalog;
mod certificates;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoint_slice;
mod error;
mod event;
mod garbage;
mod informers;
mod job;
mod namespace;
mod node;
mod owner;
mod pod;
mod pod_gc;
mod pods_of;
mod queue;
mod remedy;
mod replica_set;
mod resource_quota;
mod role_aggregation;
mod secret_tokens;
mod service_account;
mod start;
mod stateful_set;
mod storage_protection;
mod work;

pub use certificates::Authority;
pub use error::Error;
pub use start::{Controllers, Options};
