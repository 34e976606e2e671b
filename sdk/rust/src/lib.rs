//! The guest library for Capstan plugins: an author writes a trait for one node, one request, one log
//! line or one condition, and [`export!`] makes it a component.
//!
//! The loops and tables are here, and run natively just as in the sandbox, so that a plugin's tests and
//! benches call the very code that serves. A component exports only the interfaces that it names.
//! Nothing here depends on the host: both sides bind from `wit/`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admission;
mod duration;
mod export;
pub mod granted;
#[cfg(all(feature = "heap", target_arch = "wasm32"))]
mod heap;
pub mod json;
mod plugin;
pub mod problem;
pub mod remedy;
pub mod scheduler;
pub mod sidecar;
#[doc(hidden)]
pub mod wit;

pub use duration::Millis;
pub use plugin::{Config, Fault, HandOff, NoConfig, Pair, Plugin, SelfTest};

/// What [`export!`] expands to; not for authors.
#[doc(hidden)]
pub mod seat {
    pub use crate::plugin::{Component, Seated};
}
