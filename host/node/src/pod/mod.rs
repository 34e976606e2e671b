//! One pod's life on this node: a worker task looks, plans, acts and says.
//!
//! `seen` and `memory` go into the pure `plan` and `status`; `room` is what the node has left for a resize; `perform` carries actions out; `worker` is the
//! loop that ties them. `environment`, `downward`, `expansion`, `container_config` and `image` turn a spec
//! into what the runtime takes.

mod backoff;
mod conditions;
mod container_config;
pub(crate) mod downward;
pub(crate) mod environment;
mod expansion;
mod image;
mod memory;
mod perform;
mod plan;
mod publish;
mod qos;
mod resize;
pub(crate) mod room;
mod seen;
pub(crate) mod spec;
mod status;
mod worker;

pub(crate) use seen::PodRuntime;
pub(crate) use worker::{Event, Worker};
