//! TLS on both sides: certificates are files, read again when they change, so that they can be renewed under a
//! running process.
//!
//! A client reads its files for every new connection; a listener looks at its files with every one that it
//! accepts, and keeps what it had when the new ones make no sense. Called by links and listeners. Making
//! certificates is not here.

mod client;
mod files;

pub use client::ClientTls;
pub use files::TlsError;
