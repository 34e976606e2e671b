//! Sending a snapshot: its head, then its records in chunks that are read as they are taken.
//!
//! Memory is bounded by a few chunks whatever the state's size. One snapshot is on its way at a time; one that
//! makes no progress is given up, so that a member that hangs does not keep the others waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use futures::StreamExt;
use openraft::raft::SnapshotResponse;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::links::Links;
use super::types::{NodeId, Snapshot, SnapshotMeta, TypeConfig, Vote};
use crate::cluster::message;
use crate::replica::Image;
use crate::{Error, PeerCallKind, PeerError, Result};

/// Bytes of rows in a chunk, but for one larger row.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that are read ahead.
const CHUNKS_AHEAD_MAX: usize = 4;
/// How long no chunk may be taken.
const STALL_MAX: Duration = Duration::from_secs(20);
/// How long the receiver may take to install what it has.
const INSTALL_MAX: Duration = Duration::from_secs(600);

pub(super) const TAG_ROWS: u8 = 0;
pub(super) const TAG_END: u8 = 1;

/// The first chunk: all but the records.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    /// The image's own head.
    pub(super) image: Bytes,
}

/// Sends a snapshot; returns when it is installed there.
pub(super) async fn send(
    links: Arc<Links>,
    target: NodeId,
    vote: Vote,
    snapshot: Snapshot,
) -> Result<SnapshotResponse<TypeConfig>, PeerError> {
    let closed = |_| PeerError::Unreachable("the store is shutting down".into());
    let turn = links.snapshots.acquire().await.map_err(closed)?;
    let head = Head {
        vote,
        meta: snapshot.meta,
        image: snapshot
            .snapshot
            .head
            .encode()
            .map_err(|error| PeerError::Unreachable(error.to_string()))?,
    };
    let head = message::seal(links.own_id, target, &head)?;
    let (chunks, waiting) = mpsc::channel(CHUNKS_AHEAD_MAX);
    let taken = Arc::new(AtomicU64::new(0));
    let image = snapshot.snapshot;
    let produced = taken.clone();
    tokio::task::spawn_blocking(move || {
        let ended = produce(&image, head, &chunks, &produced);
        if let Err(error) = ended {
            let _ = chunks.blocking_send(Err(PeerError::Failed(error.to_string())));
        }
        produced.store(u64::MAX, Ordering::Release);
    });
    let stream = ReceiverStream::new(waiting).boxed();
    let mut sending = std::pin::pin!(links.stream(target, PeerCallKind::Snapshot, stream));
    let mut before = 0;
    while before != u64::MAX {
        if let Ok(answer) = tokio::time::timeout(STALL_MAX, &mut sending).await {
            return answer;
        }
        let now = taken.load(Ordering::Acquire);
        if now == before {
            return Err(PeerError::Failed(
                "the snapshot's receiver takes nothing more".into(),
            ));
        }
        before = now;
    }
    drop(turn);
    let answer = tokio::time::timeout(INSTALL_MAX, sending).await;
    answer.unwrap_or_else(|_| Err(PeerError::Failed("the snapshot was not installed in time".into())))
}

type Chunks = mpsc::Sender<Result<Bytes, PeerError>>;

/// Reads the image and hands on its chunks; ends when nobody takes them any more.
fn produce(image: &Image, head: Bytes, chunks: &Chunks, count: &AtomicU64) -> Result<()> {
    let send = |chunk: Bytes| {
        count.fetch_add(1, Ordering::Release);
        let gone = |_| Error::Unavailable("the snapshot's receiver is gone".into());
        chunks.blocking_send(Ok(chunk)).map_err(gone)
    };
    send(head)?;
    let (mut rows, mut checksum) = (vec![TAG_ROWS], 0);
    let mut sent = 0u64;
    image.source.records(&mut |key, value| {
        put_row(&mut rows, key, &value);
        sent += 1;
        if rows.len() >= CHUNK_BYTES {
            checksum = crc32c::crc32c_append(checksum, &rows[1..]);
            send(std::mem::replace(&mut rows, vec![TAG_ROWS]).into())?;
        }
        Ok(true)
    })?;
    checksum = crc32c::crc32c_append(checksum, &rows[1..]);
    send(rows.into())?;
    let mut end = vec![TAG_END];
    end.put_u64(sent);
    end.put_u32(checksum);
    send(end.into())
}

fn put_row(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.put_u32(u32::try_from(key.len()).unwrap_or(u32::MAX));
    out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
    out.put_slice(key);
    out.put_slice(value);
}
