//! etcd v3 on the wire: the gRPC face of a store's member, the client that makes any etcd a
//! [`capstan_store::Store`], and what members say to one another.
//!
//! It translates and carries; what a request means is decided in `capstan-store`. Called by the binary
//! (`capstan store`, `capstan up --etcd-servers`) and by the tests.

mod authority;
pub mod backup;
mod bolt;
mod convert;
pub mod discovery;
mod errors;
pub mod face;
pub mod flags;
mod health;
mod link;
mod listen;
mod peers;
pub mod process;
pub mod proto;
pub mod remote;
pub mod tls;
