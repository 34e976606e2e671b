//! TLS on both sides: certificates are files, read again when they change, so that they can be renewed under a
//! running process.
//!
//! A client reads its files for every new connection; a listener looks at its files with every one that it
//! accepts, and keeps what it had when the new ones make no sense. Called by links and listeners. Those
//! that a member makes for itself are made here, no others.

mod client;
mod files;
mod self_signed;
mod server;

pub use client::ClientTls;
pub use files::TlsError;
pub(crate) use self_signed::self_signed;
pub(crate) use server::Certificates;
pub use server::ServerTls;
