//! Leases: what the replicated state knows of them ([`LeaseTable`]), and the leader's clock ([`LeaseClock`]).
//!
//! The table has no time in it: it changes only by applied entries. The clock lives in the leader's memory,
//! starts every lease anew when the leader does, and when one runs out proposes its revocation.

mod clock;
mod table;

pub(crate) use clock::LeaseClock;
pub(crate) use table::LeaseTable;

/// No lease is shorter: an election must fit in. etcd's value at its default election timeout.
pub(crate) const LEASE_TTL_SECONDS_MIN: i64 = 2;
/// No lease is longer (etcd's bound).
pub(crate) const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;
