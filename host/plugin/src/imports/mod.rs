//! The host's side of every import: one module an interface.
//!
//! A revision's linker holds only what was granted, so that a function that is not here cannot be called
//! even if the check of imports were wrong. Functions that take arguments check them against the grant.

pub(crate) mod clock;
pub(crate) mod documents;
pub(crate) mod kube_read;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod node_files;
pub(crate) mod random;

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::admission::capstan::admission::documents as documents_bindings;
use crate::bindings::plugin::capstan::plugin as bindings;
use crate::capability::Grants;
use crate::state::State;

/// A linker with exactly the granted interfaces.
pub(crate) fn linker(engine: &Engine, grants: &Grants) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    documents_bindings::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    if grants.has("log") {
        bindings::log::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    if grants.has("clock") {
        bindings::clock::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    if grants.has("random") {
        bindings::random::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    if grants.has("metrics") {
        bindings::metrics::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    if grants.has("kube-read") {
        bindings::kube_read::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    if grants.has("node-files") {
        bindings::node_files::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    Ok(linker)
}
