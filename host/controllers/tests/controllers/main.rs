//! The controllers on a real API server, a scenario a controller.

#![allow(clippy::unwrap_used)]

mod access;
mod cluster;
mod daemon_set;
mod deployment;
mod job;
mod namespace;
mod remedy;
#[path = "../rig/mod.rs"]
mod rig;
