//! Writing: create, update, patch, delete, for every kind by one path.
//!
//! decode → merge (patch or apply) → default → managers of fields → mutating admission → prepare → validate →
//! validating admission → one conditional transaction. What is special about a kind comes from
//! `capstan-kinds`' tables; the few things that only a server can do (addresses, deletion, namespaces) have
//! modules of their own.

mod apply;
mod create;
mod decode;
mod delete;
mod deletion;
mod finalize;
mod finish;
mod managed;
mod patch;
mod syntax;
mod update;

pub(crate) use apply::{APPLY_PATCH, apply_scale};
pub(crate) use create::{create, prepare as prepare_create};
pub(crate) use decode::{decode, of_kind};
pub(crate) use delete::{delete, delete_collection, delete_object};
pub(crate) use deletion::{DeleteOptions, Plan, plan};
pub(crate) use finalize::finalize;
pub(crate) use finish::encode;
pub(crate) use managed::Track;
pub(crate) use patch::{PatchBody, patch};
pub(crate) use update::{Update, View, read, update, write_update};
