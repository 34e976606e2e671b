//! The extension points: what a policy is asked, and what it may answer, in plain Rust.
//!
//! One module per point mirrors one WIT package of `wit/`. A point is a trait; a Wasm component is one
//! implementation of it (in `capstan-plugin`), a test's closure another. Whoever asks (scheduler, API
//! server, node, controllers) holds a [`Seats`] and never knows what sits in them.
//!
//! Invariants: a [`Fault`] is never a verdict; a seat is pinned once for a call or a cycle and keeps its
//! revision to the end of it. Not here: Wasm, clusters, clocks, I/O.

pub mod admission;
mod bits;
mod fault;
pub mod problem;
pub mod remedy;
pub mod scheduler;
mod seat;
pub mod sidecar;

pub use bits::Bits;
pub use fault::{Fault, FaultKind};
pub use seat::{FailurePolicy, Seat, Seating, Seats};
