//! Consensus: openraft over our log, our state machine and our links.
//!
//! Nothing outside this module names openraft. The only voter elects itself at once and never ticks; more of
//! them vote before they stand ([`network`]), a leader without its quorum serves nobody ([`view`]), followers
//! forward to it ([`raft`]), and reads ask a quorum ([`reads`]). What a change of members may be is decided in
//! [`crate::cluster`].

mod appends;
mod durable;
mod failure;
#[cfg(test)]
mod fuzz;
mod handler;
mod housekeeping;
mod links;
mod log_store;
mod log_tail;
mod log_writer;
mod members;
mod network;
mod progress;
mod raft;
mod reads;
mod recovery;
mod removal;
mod snapshot_in;
mod snapshot_out;
mod state_machine;
mod tend;
mod types;
mod view;

pub(crate) use progress::Applied;
pub(crate) use raft::{Consensus, Start};
pub(crate) use recovery::found_on_restored;

#[cfg(test)]
pub(crate) use fuzz::fuzz_targets;
#[cfg(test)]
mod tests;
