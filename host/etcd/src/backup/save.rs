//! A snapshot of a running store, page by page.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use capstan_store::{Error, ImageReader, LocalStore, Member, Result};
use futures::Stream;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::file::HASH_BYTES;
use super::schema as s;
use crate::bolt::{BoltError, Layout, Writer, plan, write};

/// Bytes of a chunk; the last before the hash may have fewer.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a slow receiver.
const CHUNKS_QUEUED_MAX: usize = 4;
/// The cluster version that a file names: the newest whose form it has.
const CLUSTER_VERSION: &str = "3.5.0";

/// A snapshot on its way: chunks of the file in order, the last of them the SHA-256 of all before.
///
/// While it lives the store deletes no history from disk; dropping it ends it.
#[derive(Debug)]
pub struct SnapshotStream {
    size_bytes: u64,
    chunks: mpsc::Receiver<Result<Bytes>>,
}

impl SnapshotStream {
    /// Bytes of the whole file, the hash included.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

impl Stream for SnapshotStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_recv(context)
    }
}

/// Takes a snapshot of a store as it is now. Reads all of it twice, see [`crate::bolt`]'s writer: once before
/// this returns, once as the stream is read.
///
/// # Errors
/// Those of the store; after the first chunk they come as the stream's last item.
pub async fn stream(store: &LocalStore) -> Result<SnapshotStream> {
    let members = store.members(false).await?;
    let raft = store.raft();
    let snapshot = Snapshot {
        image: store.image()?,
        members,
        index: raft.applied_index,
        term: raft.term,
    };
    let (tell, planned) = oneshot::channel();
    let (sender, chunks) = mpsc::channel(CHUNKS_QUEUED_MAX);
    // One thread for both reads, so that the second reuses the memory of the first.
    spawn_blocking(move || {
        let layout = match plan(|writer| snapshot.fill(writer)).map_err(Failure::into_error) {
            Ok(layout) => layout,
            Err(error) => {
                let _ = tell.send(Err(error));
                return;
            }
        };
        if tell.send(Ok(layout)).is_err() {
            return;
        }
        match snapshot.send(layout, &sender) {
            Ok(()) | Err(Failure::ReceiverGone) => {}
            Err(failure) => {
                let _ = sender.blocking_send(Err(failure.into_error()));
            }
        }
    });
    let layout = planned
        .await
        .map_err(|_| Error::Unavailable("the thread that reads the store is gone".into()))??;
    Ok(SnapshotStream {
        size_bytes: layout.size_bytes() + HASH_BYTES,
        chunks,
    })
}

/// Why a snapshot ended early.
enum Failure {
    Store(Error),
    Bolt(BoltError),
    ReceiverGone,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<BoltError> for Failure {
    fn from(error: BoltError) -> Self {
        Self::Bolt(error)
    }
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Self::Store(error) => error,
            Self::Bolt(error) => Error::Corrupt(format!("making a snapshot: {error}")),
            Self::ReceiverGone => Error::Unavailable("the snapshot's receiver is gone".into()),
        }
    }
}

/// What goes into the file.
struct Snapshot {
    image: ImageReader,
    members: Vec<Member>,
    index: u64,
    term: u64,
}

impl Snapshot {
    fn send(&self, layout: Layout, sender: &mpsc::Sender<Result<Bytes>>) -> Result<(), Failure> {
        let mut out = Chunks {
            hash: Sha256::new(),
            waiting: BytesMut::with_capacity(2 * CHUNK_BYTES),
            sender,
        };
        write(layout, &mut |page| out.push(page), |writer| self.fill(writer))?;
        out.finish()
    }

    /// Puts everything, buckets and keys ascending.
    fn fill(&self, writer: &mut Writer<'_, Failure>) -> Result<(), Failure> {
        writer.bucket(s::ALARM)?;
        let mut alarms: Vec<_> = self.image.alarms().into_iter().map(s::encode_alarm).collect();
        alarms.sort_unstable();
        for alarm in alarms {
            writer.put(&alarm, &[])?;
        }
        self.fill_auth(writer)?;
        writer.bucket(s::CLUSTER)?;
        writer.put(s::CLUSTER_VERSION, CLUSTER_VERSION.as_bytes())?;
        self.fill_records(writer)?;
        self.fill_leases(writer)?;
        writer.bucket(s::MEMBERS)?;
        let mut members: Vec<_> = self.members.iter().map(s::encode_member).collect();
        members.sort_unstable();
        for (key, value) in members {
            writer.put(&key, &value)?;
        }
        writer.bucket(s::MEMBERS_REMOVED)?;
        self.fill_meta(writer)
    }

    fn fill_auth(&self, writer: &mut Writer<'_, Failure>) -> Result<(), Failure> {
        let auth = self.image.auth();
        writer.bucket(s::AUTH)?;
        for (key, value) in s::encode_auth(auth) {
            writer.put(key, &value)?;
        }
        writer.bucket(s::AUTH_ROLES)?;
        for (name, role) in &auth.roles {
            writer.put(name.as_bytes(), &s::encode_role(name, role))?;
        }
        writer.bucket(s::AUTH_USERS)?;
        for (name, user) in &auth.users {
            writer.put(name.as_bytes(), &s::encode_user(name, user))?;
        }
        Ok(())
    }

    fn fill_records(&self, writer: &mut Writer<'_, Failure>) -> Result<(), Failure> {
        writer.bucket(s::KEY)?;
        let mut value = Vec::new();
        let mut failed = None;
        let read = self.image.records(&mut |record| {
            let rev = s::Rev {
                main: record.kv.mod_revision,
                sub: i64::from(record.sub),
                is_tombstone: record.deleted,
            };
            s::encode_record(record, &mut value);
            failed = writer.put(&rev.encode(), &value).err();
            Ok(failed.is_none())
        });
        read?;
        failed.map_or(Ok(()), Err)
    }

    fn fill_leases(&self, writer: &mut Writer<'_, Failure>) -> Result<(), Failure> {
        writer.bucket(s::LEASE)?;
        let mut leases = self.image.leases().to_vec();
        leases.sort_unstable_by_key(|(id, _)| id.to_be_bytes());
        for (id, ttl) in leases {
            let (key, value) = s::encode_lease(id, ttl);
            writer.put(&key, &value)?;
        }
        Ok(())
    }

    fn fill_meta(&self, writer: &mut Writer<'_, Failure>) -> Result<(), Failure> {
        writer.bucket(s::META)?;
        writer.put(s::CONF_STATE, &s::encode_conf_state(&self.members))?;
        writer.put(s::CONSISTENT_INDEX, &self.index.to_be_bytes())?;
        let compacted = self.image.compact_revision();
        if compacted > 0 {
            // Records that a compaction has yet to delete are in the file; no reader minds them.
            let revision = s::Rev::whole(compacted).encode();
            writer.put(s::FINISHED_COMPACT, &revision)?;
            writer.put(s::SCHEDULED_COMPACT, &revision)?;
        }
        writer.put(s::TERM, &self.term.to_be_bytes())
    }
}

/// Cuts the file into chunks and hashes it.
struct Chunks<'a> {
    hash: Sha256,
    waiting: BytesMut,
    sender: &'a mpsc::Sender<Result<Bytes>>,
}

impl Chunks<'_> {
    fn push(&mut self, page: &[u8]) -> Result<(), Failure> {
        self.hash.update(page);
        self.waiting.extend_from_slice(page);
        while self.waiting.len() >= CHUNK_BYTES {
            let chunk = self.waiting.split_to(CHUNK_BYTES).freeze();
            self.send(chunk)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        let rest = self.waiting.split().freeze();
        if !rest.is_empty() {
            self.send(rest)?;
        }
        let hash = std::mem::take(&mut self.hash).finalize();
        self.send(Bytes::copy_from_slice(&hash))
    }

    fn send(&self, chunk: Bytes) -> Result<(), Failure> {
        let sent = self.sender.blocking_send(Ok(chunk));
        sent.map_err(|_| Failure::ReceiverGone)
    }
}
