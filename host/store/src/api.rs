//! The `Store` trait and its types: etcd v3's semantics, in process.
//!
//! Field meanings, defaults and error conditions are etcd's own (`rpc.proto`, `kv.proto`) unless said.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::Refusal;

/// A global, strictly growing count of changes. The first write makes revision 2, as in etcd.
pub type Revision = i64;
/// Names a lease; 0 means none.
pub type LeaseId = i64;

/// A key with its value and history counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value; empty with `keys_only`.
    pub value: Bytes,
    /// Revision of the creation of this generation of the key.
    pub create_revision: Revision,
    /// Revision of the last change.
    pub mod_revision: Revision,
    /// 1 at creation, one more with each put.
    pub version: i64,
    /// Lease that the key is attached to, or 0.
    pub lease: LeaseId,
}

/// A set of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyRange {
    /// One key.
    Key(Bytes),
    /// All keys with this prefix; the empty prefix is all keys.
    Prefix(Bytes),
    /// From the first (included) to the second (excluded).
    Span(Bytes, Bytes),
    /// All keys from this one on.
    From(Bytes),
}

/// A read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// At which revision; 0 is the newest.
    pub revision: Revision,
    /// At most so many; 0 is all.
    pub limit: usize,
    /// Leave values out.
    pub keys_only: bool,
    /// Return the count alone.
    pub count_only: bool,
    /// Answer from this member's state without asking the quorum.
    pub serializable: bool,
    /// In which order; without one, keys ascending. Sorting comes before the limit.
    pub sort: Option<Sort>,
    /// Only keys last changed at or after this revision; 0 is no bound.
    pub min_mod_revision: Revision,
    /// Only keys last changed at or before this revision; 0 is no bound.
    pub max_mod_revision: Revision,
    /// Only keys created at or after this revision; 0 is no bound.
    pub min_create_revision: Revision,
    /// Only keys created at or before this revision; 0 is no bound.
    pub max_create_revision: Revision,
}

/// The order of a read's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Sort {
    pub target: SortTarget,
    pub descending: bool,
}

/// What a read's answer is sorted by. Equals keep the order of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SortTarget {
    Key,
    Version,
    CreateRevision,
    ModRevision,
    Value,
}

impl RangeRequest {
    /// The newest value of one key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self::new(KeyRange::Key(key.into()))
    }

    /// All keys with the prefix.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self::new(KeyRange::Prefix(prefix.into()))
    }

    /// A linearizable read of everything in the range.
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            revision: 0,
            limit: 0,
            keys_only: false,
            count_only: false,
            serializable: false,
            sort: None,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }
}

/// A read's answer, in the order asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RangeResponse {
    /// The store's revision at the time of the read (the header's revision).
    pub revision: Revision,
    /// The keys.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut keys off.
    pub more: bool,
    /// How many keys the range has, limit and revision bounds or not.
    pub count: i64,
}

/// A read's answer in pages, all of one revision. Dropping it ends the read.
#[derive(Debug)]
pub struct RangeStream {
    /// The store's revision at the time of the read (the header's revision).
    pub revision: Revision,
    /// How many keys the range has, limit and revision bounds or not.
    pub count: i64,
    /// Whether the limit cut keys off.
    pub more: bool,
    /// Bytes of all its keys together as the `kvs` of etcd's `RangeResponse` on the wire, so that an answer's
    /// length can be told before its values are read; none where the store does not know.
    pub kvs_wire_bytes: Option<u64>,
    /// The keys in order, closed after the last page; an error is the end.
    pub pages: mpsc::Receiver<Result<Vec<KeyValue>>>,
}

impl From<RangeResponse> for RangeStream {
    /// One page.
    fn from(answer: RangeResponse) -> Self {
        let (sender, pages) = mpsc::channel(1);
        if !answer.kvs.is_empty() {
            let _ = sender.try_send(Ok(answer.kvs));
        }
        Self {
            revision: answer.revision,
            count: answer.count,
            more: answer.more,
            kvs_wire_bytes: None,
            pages,
        }
    }
}

/// What a comparison looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum CompareTarget {
    Version(i64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Value(Bytes),
    Lease(LeaseId),
}

/// How it compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum CompareResult {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// `key's target <result> the given value`; a missing key has zeros. Over a range, all keys must match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Compare {
    pub range: KeyRange,
    pub target: CompareTarget,
    pub result: CompareResult,
}

impl Compare {
    /// `key` was last changed at `revision`; 0: it does not exist.
    pub fn mod_revision(key: impl Into<Bytes>, revision: Revision) -> Self {
        Self {
            range: KeyRange::Key(key.into()),
            target: CompareTarget::ModRevision(revision),
            result: CompareResult::Equal,
        }
    }
}

/// A write of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key, not empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Lease to attach to, or 0.
    pub lease: LeaseId,
    /// Return what was there before.
    pub prev_kv: bool,
    /// Keep the value, change the lease.
    pub ignore_value: bool,
    /// Keep the lease, change the value.
    pub ignore_lease: bool,
}

impl Put {
    /// A plain write.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            lease: 0,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }
    }
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Op {
    Range(RangeRequest),
    Put(Put),
    Delete { range: KeyRange, prev_kv: bool },
    Txn(#[serde(deserialize_with = "crate::nest::bounded")] Box<Txn>),
}

/// If all comparisons hold then `success`, else `failure`; atomic, one revision for all its writes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

/// One operation's answer, in the order of the branch that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum OpResponse {
    Range(RangeResponse),
    Put { prev_kv: Option<KeyValue> },
    Delete { deleted: i64, prev_kvs: Vec<KeyValue> },
    Txn(#[serde(deserialize_with = "crate::nest::bounded")] TxnResponse),
}

/// A transaction's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TxnResponse {
    /// The store's revision after it.
    pub revision: Revision,
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// Answers of the branch that ran.
    pub responses: Vec<OpResponse>,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    Put {
        kv: KeyValue,
        prev_kv: Option<KeyValue>,
    },
    /// `key` and `mod_revision` of the deletion are set in `kv`.
    Delete {
        kv: KeyValue,
        prev_kv: Option<KeyValue>,
    },
}

impl Event {
    /// The key-value after the change (for a delete, key and revision only).
    pub fn kv(&self) -> &KeyValue {
        match self {
            Self::Put { kv, .. } | Self::Delete { kv, .. } => kv,
        }
    }

    /// What was there before, where asked for and not compacted.
    pub fn prev_kv(&self) -> Option<&KeyValue> {
        match self {
            Self::Put { prev_kv, .. } | Self::Delete { prev_kv, .. } => prev_kv.as_ref(),
        }
    }
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// First revision to see; 0 is "from now on".
    pub start_revision: Revision,
    pub prev_kv: bool,
    /// Send [`WatchMessage::Progress`] when idle.
    pub progress_notify: bool,
}

/// What a watcher receives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum WatchMessage {
    /// All events of one or more whole revisions, in order; a revision is never split.
    Events { revision: Revision, events: Vec<Event> },
    /// Every event up to this revision has been sent.
    Progress { revision: Revision },
    /// The end: the start revision is compacted.
    Compacted { compact_revision: Revision },
    /// The end: the watcher was too slow for its bound, or the store stops.
    Cancelled { reason: String },
}

/// A running watch; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    /// The store's revision when the watch began.
    pub revision: Revision,
    /// Its messages; closes after `Compacted` or `Cancelled`.
    pub messages: mpsc::Receiver<WatchMessage>,
    /// Asks for progress out of turn.
    pub progress: ProgressRequest,
}

/// Asks a watch for [`WatchMessage::Progress`]: it comes in the watch's own order, after all events up to the
/// revision that it names. Asking again before it came changes nothing.
#[derive(Clone, Default)]
pub struct ProgressRequest(Option<Arc<dyn Fn() + Send + Sync>>);

impl ProgressRequest {
    /// A request that is carried out by `ask`.
    pub fn new(ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(ask)))
    }

    /// Asks. A watch that has ended answers nothing; an etcd too old to be asked, with its next notice of progress.
    pub fn send(&self) {
        if let Some(ask) = &self.0 {
            ask();
        }
    }
}

impl std::fmt::Debug for ProgressRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ProgressRequest").finish_non_exhaustive()
    }
}

/// A lease's state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LeaseStatus {
    pub id: LeaseId,
    pub granted_ttl_seconds: i64,
    /// -1 when expired or unknown.
    pub remaining_ttl_seconds: i64,
    pub keys: Vec<Bytes>,
}

/// The store's state in short.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Status {
    pub revision: Revision,
    pub compact_revision: Revision,
    pub raft_term: u64,
    pub raft_index: u64,
    pub db_size_bytes: u64,
    pub is_leader: bool,
}

/// Why an operation failed. A write fails as rejected (nothing happened) or as unknown.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// The asked revision was compacted away.
    #[error("mvcc: required revision has been compacted (compacted at {compact_revision})")]
    Compacted {
        /// The last compaction's revision, which is the oldest that is still answered.
        compact_revision: Revision,
    },
    /// The asked revision is in the future.
    #[error("mvcc: required revision is a future revision (now at {revision})")]
    FutureRevision {
        /// The store's revision.
        revision: Revision,
    },
    /// No such lease.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The lease exists already.
    #[error("lease already exists")]
    LeaseExists,
    /// `ignore_value` or `ignore_lease` on a missing key.
    #[error("key not found")]
    KeyNotFound,
    /// Refused in etcd's words; nothing happened.
    #[error("{0}")]
    Refused(Refusal),
    /// The request makes no sense in a way that etcd has no words for.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// Space or quota is exhausted; nothing was written.
    #[error("mvcc: database space exceeded: {0}")]
    NoSpace(String),
    /// Not carried out; safe to try again.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// May or may not have been carried out.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Durable state is damaged; the store has stopped.
    #[error("corrupt store: {0}")]
    Corrupt(String),
}

/// What a store returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An etcd v3 store: ours in process, ours by gRPC, or a real etcd.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads keys.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse>;

    /// Reads keys page by page, all of one revision.
    async fn range_stream(&self, request: RangeRequest) -> Result<RangeStream> {
        self.range(request).await.map(RangeStream::from)
    }

    /// Runs a transaction; when this returns `Ok`, its writes are durable.
    async fn txn(&self, txn: Txn) -> Result<TxnResponse>;

    /// Subscribes to changes.
    async fn watch(&self, request: WatchRequest) -> Result<Watch>;

    /// Forgets history below `revision`. `physical` waits until it is gone from disk.
    async fn compact(&self, revision: Revision, physical: bool) -> Result<()>;

    /// Grants a lease; `id` 0 lets the store choose. Returns the id and the granted TTL in seconds.
    async fn lease_grant(&self, id: LeaseId, ttl_seconds: i64) -> Result<(LeaseId, i64)>;

    /// Ends a lease and deletes its keys.
    async fn lease_revoke(&self, id: LeaseId) -> Result<()>;

    /// Renews a lease; returns its TTL in seconds.
    async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64>;

    /// A lease's remaining time, and its keys on request.
    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus>;

    /// All leases.
    async fn leases(&self) -> Result<Vec<LeaseId>>;

    /// The store's state.
    async fn status(&self) -> Result<Status>;

    /// Writes one key.
    async fn put(&self, put: Put) -> Result<(Revision, Option<KeyValue>)> {
        let answer = self
            .txn(Txn {
                success: vec![Op::Put(put)],
                ..Txn::default()
            })
            .await?;
        match answer.responses.into_iter().next() {
            Some(OpResponse::Put { prev_kv }) => Ok((answer.revision, prev_kv)),
            other => Err(Error::Unknown(format!("a put was answered by {other:?}"))),
        }
    }

    /// Deletes keys; returns the revision, how many there were, and they themselves with `prev_kv`.
    async fn delete(&self, range: KeyRange, prev_kv: bool) -> Result<(Revision, i64, Vec<KeyValue>)> {
        let op = Op::Delete { range, prev_kv };
        let answer = self
            .txn(Txn {
                success: vec![op],
                ..Txn::default()
            })
            .await?;
        match answer.responses.into_iter().next() {
            Some(OpResponse::Delete { deleted, prev_kvs }) => Ok((answer.revision, deleted, prev_kvs)),
            other => Err(Error::Unknown(format!("a delete was answered by {other:?}"))),
        }
    }
}
