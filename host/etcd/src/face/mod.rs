//! The gRPC face of a member: etcd's six services over a [`LocalStore`].
//!
//! [`service`] is the one way in: a tower service of HTTP requests, to be served over HTTP/2 beside whatever
//! else the listener offers ([`tune`] sets HTTP/2 as etcd's clients need it). Each service translates, asks
//! the store, and translates back; who may do what is checked with the store's own auth state, and again by
//! the store where a write is applied. Reads of ranges have a path of their own, which never holds the whole
//! answer ([`range`]), and writes one that spares allocations ([`unary`]). What is not here: TLS, listeners, health
//! and metrics.

mod auth;
mod caller;
mod check;
mod cluster;
mod dispatch;
mod frames;
mod kv;
mod lease;
mod maintenance;
mod range;
mod unary;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use capstan_store::{LocalStore, REQUEST_BYTES_MAX};
use hyper_util::server::conn::auto;

pub use dispatch::Face;

/// The version of etcd that the face answers as.
pub const ETCD_VERSION: &str = "3.6.14";
/// What a message may have over the largest request (etcd's).
const OVERHEAD_BYTES: usize = 512 * 1024;
/// etcd's default.
const TXN_OPS_MAX: usize = 128;
/// etcd's default.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Election timeouts without a leader after which streams that asked for one are ended (etcd's).
const ELECTIONS_WITHOUT_LEADER_MAX: u32 = 3;
/// Bytes of a stream, and of a connection, that may be on their way to us.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Streams of a connection that the client gave up before they were begun.
const RESET_STREAMS_MAX: usize = 10_000;

/// How the face behaves; etcd's flags and their defaults.
#[derive(Debug, Clone)]
pub struct FaceOptions {
    /// The largest request (`--max-request-bytes`); the store's option of the same name is to be the same.
    pub request_bytes_max: usize,
    /// Operations in a transaction (`--max-txn-ops`).
    pub txn_ops_max: usize,
    /// How often idle watches are told how far they are (`--experimental-watch-progress-notify-interval`).
    pub progress_interval: Duration,
    /// The members' election timeout (`--election-timeout`).
    pub election: Duration,
    /// A client's certificate says who it is (`--client-cert-auth`).
    pub client_cert_auth: bool,
}

impl Default for FaceOptions {
    fn default() -> Self {
        Self {
            request_bytes_max: REQUEST_BYTES_MAX,
            txn_ops_max: TXN_OPS_MAX,
            progress_interval: PROGRESS_INTERVAL,
            election: Duration::from_secs(1),
            client_cert_auth: false,
        }
    }
}

impl FaceOptions {
    /// The largest message that is taken or, where the client asked for fragments, sent.
    fn message_bytes_max(&self) -> usize {
        self.request_bytes_max.saturating_add(OVERHEAD_BYTES)
    }
}

/// Whose certificate a connection came with: its common name. The listener puts it into the extensions of
/// each request; it counts only with [`FaceOptions::client_cert_auth`].
#[derive(Debug, Clone, Default)]
pub struct ClientIdentity(pub Option<String>);

/// The face of a store.
pub fn service(store: Arc<LocalStore>, options: FaceOptions) -> Face {
    Face::new(store, options)
}

/// Sets a connection's HTTP/2 as etcd has it: no bound on streams (every watch may be one), windows that carry
/// large values, no quarrel with clients that give up many streams.
pub fn tune<E>(connection: &mut auto::Builder<E>) {
    connection
        .http2()
        .auto_date_header(false)
        .max_concurrent_streams(u32::MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX);
}
