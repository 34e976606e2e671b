//! The node: the kubelet, the host of problem daemons, the host of sidecars.
//!
//! It stands on the Kubernetes API as a client, on a container runtime through CRI, and on two extension
//! points. Decisions are pure (`pod/plan.rs`, `pod/status.rs`, `registration/object.rs`, the probes' counters);
//! thin loops act. It does not know Wasm, neither of workloads nor of policies, nor the API server.

mod context;
mod error;
mod events;
mod kubelet;
mod log;
mod notify;
mod pod;
mod pods;
mod probe;
mod problem;
mod references;
mod registration;
mod server;
mod sidecar;
mod stream;
#[cfg(test)]
mod testing;
mod volume;

pub use error::{Error, Result};
pub use kubelet::{Kubelet, Options};
pub use server::{Handler, ResponseBody};
pub use stream::Upgraded;
