//! The container runtime, in CRI v1's shape: pod sandboxes, containers, images.
//!
//! Two runtimes stand behind the [`Cri`] trait: Wasm workloads on wasmtime, which need no root, and OCI
//! containers through libcontainer, which do. [`Cri`] mirrors `runtime.v1` of CRI method by method, so that
//! the wire (and a foreign CRI socket) is one more implementation. [`Embedded`] is both in this process.
//!
//! Workloads in Wasm are known here alone; policies in Wasm are not known here at all.

mod cri;
mod embedded;
mod files;
mod image;
mod logs;
mod oci;
mod session;
mod task;
mod wasm;

pub use cri::*;
pub use embedded::{Embedded, Options, PodAddresses};
pub use image::Images;
pub use oci::shim_main;
pub use session::{Duplex, Reader, Session, Streams, TerminalSize, Writer};
