//! Consensus: openraft over our log, our state machine, and (with more members) our network.
//!
//! Nothing outside this module names openraft. One voter for now, which needs no timer: it elects itself at
//! once and never ticks. The seams for more members stand: [`network`] for what goes between them,
//! [`crate::replica::ImageSource`] for snapshots, [`Consensus::read_barrier`] for linearizable reads.

mod housekeeping;
mod log_store;
mod log_tail;
mod log_writer;
mod network;
mod raft;
mod state_machine;
mod types;

pub(crate) use raft::Consensus;

#[cfg(test)]
mod tests;
