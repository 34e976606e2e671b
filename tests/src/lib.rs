//! Drives the real binary with the real kubectl: a cluster for a test, and what to ask of it.
//!
//! Every [`Cluster`] has its own data folder, port and loopback networks, and ends with the value. Waiting is
//! always for a condition, with a bound. Called by the tests beside it and by the bench.

pub mod chaos;
mod cluster;
pub mod compat;
mod component;
mod condition;
pub mod etcdctl;
mod http;
mod installed;
mod kubectl;
mod library;
pub mod process;
mod registry;
mod wait;

pub use cluster::{Cluster, ClusterOptions, binary, root};
pub use component::{component, componentize};
pub use condition::condition;
pub use http::{get, send};
pub use installed::installed;
pub use kubectl::Answer;
pub use library::Library;
pub use registry::Registry;
pub use wait::{until, until_within};
