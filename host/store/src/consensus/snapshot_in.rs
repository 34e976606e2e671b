//! Receiving a snapshot: into a file beside the state, and only when all of it is there and synced, installed.
//!
//! `snapshot.part` is on its way and worth nothing after a crash. `snapshot.ready` is whole; it stays until the
//! log before it is gone, so that a crash in the middle of its installation is repaired at the next start. One
//! at a time.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::sync::mpsc;

use super::snapshot_out::{Head, TAG_END, TAG_ROWS};
use super::types::SnapshotMeta;
use crate::engine::{Visit, io_error};
use crate::lock::Mutex;
use crate::replica::{Image, ImageHead, ImageSource};
use crate::{Error, PeerChunks, PeerError, Result};

/// Chunks that wait for the disk.
const CHUNKS_AHEAD_MAX: usize = 4;
/// No chunk and no head is larger; what says so is damaged.
const CHUNK_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Where snapshots are received.
pub(super) struct Spool {
    dir: PathBuf,
    /// The index of the snapshot in `snapshot.ready`.
    ready: Mutex<Option<u64>>,
    receiving: tokio::sync::Mutex<()>,
}

impl Spool {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            ready: Mutex::new(None),
            receiving: tokio::sync::Mutex::new(()),
        }
    }

    fn part(&self) -> PathBuf {
        self.dir.join("snapshot.part")
    }

    fn whole(&self) -> PathBuf {
        self.dir.join("snapshot.ready")
    }

    /// What an earlier run received and may not have installed.
    pub(super) fn left(&self) -> Result<Option<(SnapshotMeta, Image)>> {
        let _ = fs::remove_file(self.part());
        if !self.whole().exists() {
            return Ok(None);
        }
        let (head, image) = read(&self.whole())?;
        *self.ready.lock() = Some(index(&head.meta));
        Ok(Some((head.meta, image)))
    }

    /// The log up to this index is gone: a snapshot of it is of no more use.
    pub(super) fn purged(&self, upto: u64) {
        let mut ready = self.ready.lock();
        if ready.is_some_and(|index| index <= upto) {
            *ready = None;
            let _ = fs::remove_file(self.whole());
        }
    }

    /// Takes the chunks after the head.
    pub(super) async fn receive(
        self: &Arc<Self>,
        head: Head,
        mut chunks: PeerChunks,
    ) -> Result<(Head, Image), PeerError> {
        let busy = |_| PeerError::Unreachable("another snapshot is being received".into());
        let _turn = self.receiving.try_lock().map_err(busy)?;
        let (sender, waiting) = mpsc::channel(CHUNKS_AHEAD_MAX);
        let this = self.clone();
        let writing = tokio::task::spawn_blocking(move || this.write(&head, waiting));
        while let Some(chunk) = chunks.next().await {
            if sender.send(chunk?).await.is_err() {
                break;
            }
        }
        drop(sender);
        let written = writing
            .await
            .map_err(|error| PeerError::Failed(error.to_string()))?;
        written.map_err(|error| PeerError::Failed(error.to_string()))
    }

    fn write(&self, head: &Head, mut chunks: mpsc::Receiver<Bytes>) -> Result<(Head, Image)> {
        let doing = |error: &io::Error| io_error("receiving a snapshot", error);
        let mut file = BufWriter::new(File::create(self.part()).map_err(|error| doing(&error))?);
        let encoded = postcard::to_stdvec(head).map_err(|error| Error::Invalid(error.to_string()))?;
        put(&mut file, &encoded).map_err(|error| doing(&error))?;
        let (mut checksum, mut is_whole) = (0, false);
        while let Some(chunk) = chunks.blocking_recv() {
            match chunk.split_first() {
                Some((&TAG_ROWS, rows)) if !is_whole => {
                    checksum = crc32c::crc32c_append(checksum, rows);
                    if !rows.is_empty() {
                        put(&mut file, rows).map_err(|error| doing(&error))?;
                    }
                }
                Some((&TAG_END, mut end)) if !is_whole && end.len() == 12 => {
                    let _rows = end.get_u64();
                    is_whole = end.get_u32() == checksum;
                }
                _ => return Err(Error::Unavailable("a snapshot's chunk is not understood".into())),
            }
        }
        if !is_whole {
            return Err(Error::Unavailable(
                "a snapshot ended early, or was changed on its way".into(),
            ));
        }
        let finish = || -> io::Result<()> {
            file.write_all(&0u32.to_be_bytes())?;
            file.write_all(&checksum.to_be_bytes())?;
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync_all()?;
            fs::rename(self.part(), self.whole())?;
            File::open(&self.dir)?.sync_all()
        };
        finish().map_err(|error| doing(&error))?;
        let (head, image) = read(&self.whole())?;
        *self.ready.lock() = Some(index(&head.meta));
        Ok((head, image))
    }
}

fn index(meta: &SnapshotMeta) -> u64 {
    meta.last_log_id.map_or(0, |log_id| log_id.index)
}

fn put(file: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    file.write_all(&length.to_be_bytes())?;
    file.write_all(bytes)
}

/// The next part of the file; none at its end.
pub(super) fn take(file: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let damaged = |error: io::Error| Error::Corrupt(format!("a received snapshot cannot be read: {error}"));
    let mut length = [0; 4];
    file.read_exact(&mut length).map_err(damaged)?;
    let length = u32::from_be_bytes(length);
    if length > CHUNK_BYTES_MAX {
        return Err(damaged(io::ErrorKind::InvalidData.into()));
    }
    // Grows with what is there, whatever the length says.
    let mut bytes = Vec::new();
    file.take(u64::from(length))
        .read_to_end(&mut bytes)
        .map_err(damaged)?;
    if bytes.len() as u64 != u64::from(length) {
        return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok((length > 0).then_some(bytes))
}

fn read(path: &Path) -> Result<(Head, Image)> {
    let mut file = File::open(path).map_err(|error| io_error("opening a received snapshot", &error))?;
    let damaged = || Error::Corrupt("a received snapshot has no head".into());
    let head = take(&mut file)?.ok_or_else(damaged)?;
    let head: Head = postcard::from_bytes(&head).map_err(|_| damaged())?;
    let start = file
        .stream_position()
        .map_err(|error| io_error("reading a snapshot", &error))?;
    let source = Arc::new(Received {
        path: path.to_owned(),
        start,
    });
    let image = Image {
        head: ImageHead::decode(&head.image)?,
        source,
    };
    Ok((head, image))
}

/// The records of a received snapshot.
struct Received {
    path: PathBuf,
    start: u64,
}

impl ImageSource for Received {
    fn records(&self, visit: &mut Visit<'_>) -> Result<()> {
        let doing = |error: &io::Error| io_error("reading a received snapshot", error);
        let mut file = File::open(&self.path).map_err(|error| doing(&error))?;
        file.seek(SeekFrom::Start(self.start))
            .map_err(|error| doing(&error))?;
        let mut file = BufReader::new(file);
        let mut checksum = 0;
        while let Some(rows) = take(&mut file)? {
            checksum = crc32c::crc32c_append(checksum, &rows);
            let mut rows = Bytes::from(rows);
            while !rows.is_empty() {
                let (key, value) = row(&mut rows)?;
                if !visit(&key, value)? {
                    return Ok(());
                }
            }
        }
        let mut expected = [0; 4];
        file.read_exact(&mut expected).map_err(|error| doing(&error))?;
        if u32::from_be_bytes(expected) != checksum {
            return Err(Error::Corrupt("a received snapshot has changed on disk".into()));
        }
        Ok(())
    }
}

pub(super) fn row(rows: &mut Bytes) -> Result<(Bytes, Bytes)> {
    let damaged = || Error::Corrupt("a row of a received snapshot is cut".into());
    if rows.len() < 8 {
        return Err(damaged());
    }
    let (key, value) = (rows.get_u32(), rows.get_u32());
    let size = |length: u32| usize::try_from(length).unwrap_or(usize::MAX);
    if rows.len() < size(key).saturating_add(size(value)) {
        return Err(damaged());
    }
    let key = rows.split_to(size(key));
    Ok((key, rows.split_to(size(value))))
}
