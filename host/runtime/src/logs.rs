//! Container logs in CRI's format: one line of output a line, as
//! `2026-01-01T00:00:00.000000000Z stdout F text`; a long line is cut into `P` (partial) pieces and an `F`.
//!
//! A [`LogFile`] is shared by all writers of a container and bounded by rotation to one older file; a
//! [`LogStream`] keeps one writer's unfinished line. Called by both runtimes and the shim.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// Longest piece of a line in the file, as other CRI runtimes cut.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// A log file larger than this is moved to `<name>.1`, as the kubelet's default has it.
const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// Who may follow one container's output, and writes that wait for each.
const TAPS_MAX: usize = 32;
const TAP_WRITES_MAX: usize = 1024;

/// Which of a container's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A container's log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    open: Mutex<Open>,
    taps: Mutex<Vec<mpsc::Sender<(Stream, Bytes)>>>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size_bytes: u64,
}

impl LogFile {
    /// Opens it for appending, with its folders.
    pub(crate) fn open(path: &Path) -> io::Result<Arc<Self>> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let open = Mutex::new(open(path)?);
        Ok(Arc::new(Self {
            path: path.to_owned(),
            open,
            taps: Mutex::default(),
        }))
    }

    /// What is written from now on, as it comes. Who does not keep up is cut off; writers never wait.
    pub(crate) fn tap(&self) -> mpsc::Receiver<(Stream, Bytes)> {
        let (sender, receiver) = mpsc::channel(TAP_WRITES_MAX);
        let mut taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        if taps.len() < TAPS_MAX {
            taps.push(sender);
        }
        receiver
    }

    fn tell(&self, stream: Stream, bytes: &[u8]) {
        let mut taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner);
        if !taps.is_empty() {
            let bytes = Bytes::copy_from_slice(bytes);
            taps.retain(|tap| tap.try_send((stream, bytes.clone())).is_ok());
        }
    }

    /// A new writer of that stream.
    pub(crate) fn stream(self: &Arc<Self>, stream: Stream) -> LogStream {
        LogStream {
            file: Arc::clone(self),
            stream,
            unfinished: Vec::new(),
        }
    }

    /// Adds whole entries.
    fn append(&self, entries: &[u8]) -> io::Result<()> {
        let mut held = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if held.size_bytes + entries.len() as u64 > FILE_BYTES_MAX && held.size_bytes > 0 {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            *held = open(&self.path)?;
        }
        held.file.write_all(entries)?;
        held.size_bytes += entries.len() as u64;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size_bytes = file.metadata()?.len();
    Ok(Open { file, size_bytes })
}

/// One writer's view of a stream; its unfinished line is written when it is dropped.
#[derive(Debug)]
pub(crate) struct LogStream {
    file: Arc<LogFile>,
    stream: Stream,
    unfinished: Vec<u8>,
}

impl LogStream {
    /// Takes output as it comes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.tell(self.stream, bytes);
        self.unfinished.extend_from_slice(bytes);
        let mut entries = Vec::new();
        let used = cut(&mut entries, Timestamp::now(), self.stream, &self.unfinished);
        self.unfinished.drain(..used);
        if entries.is_empty() {
            Ok(())
        } else {
            self.file.append(&entries)
        }
    }

    /// Writes a line of the runtime's own.
    pub(crate) fn note(&mut self, line: &str) {
        let _ = self.write(format!("{line}\n").as_bytes());
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        if !self.unfinished.is_empty() {
            let mut entry = Vec::new();
            put(&mut entry, Timestamp::now(), self.stream, 'F', &self.unfinished);
            let _ = self.file.append(&entry);
        }
    }
}

/// Turns output into entries; returns how much of it was used. What remains is the start of a line.
fn cut(entries: &mut Vec<u8>, now: Timestamp, stream: Stream, output: &[u8]) -> usize {
    let mut used = 0;
    loop {
        let rest = &output[used..];
        let window = &rest[..rest.len().min(PIECE_BYTES_MAX + 1)];
        match window.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                put(entries, now, stream, 'F', &rest[..end]);
                used += end + 1;
            }
            None if rest.len() > PIECE_BYTES_MAX => {
                put(entries, now, stream, 'P', &rest[..PIECE_BYTES_MAX]);
                used += PIECE_BYTES_MAX;
            }
            None => return used,
        }
    }
}

fn put(entries: &mut Vec<u8>, now: Timestamp, stream: Stream, tag: char, piece: &[u8]) {
    entries.extend_from_slice(format!("{now:.9} {} {tag} ", stream.name()).as_bytes());
    entries.extend_from_slice(piece);
    entries.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_becomes_entries() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let long = "x".repeat(PIECE_BYTES_MAX + 3);
        let stamp = "2026-01-01T00:00:00.000000000Z";
        let cases = [
            ("", String::new(), 0),
            ("no end yet", String::new(), 0),
            (
                "one\ntwo\nthr",
                format!("{stamp} stdout F one\n{stamp} stdout F two\n"),
                8,
            ),
            ("\n", format!("{stamp} stdout F \n"), 1),
            (
                &format!("{long}\n"),
                format!("{stamp} stdout P {}\n{stamp} stdout F xxx\n", &long[3..]),
                long.len() + 1,
            ),
        ];
        for (output, entries, used) in cases {
            let mut got = Vec::new();
            assert_eq!(
                cut(&mut got, now, Stream::Stdout, output.as_bytes()),
                used,
                "{output:.20}"
            );
            assert_eq!(String::from_utf8(got).unwrap(), entries);
        }
    }

    #[test]
    fn a_full_file_is_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/0.log");
        let file = LogFile::open(&path).unwrap();
        let mut stream = file.stream(Stream::Stderr);
        let line = "y".repeat(1 << 16);
        for _ in 0..200 {
            stream.note(&line);
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= FILE_BYTES_MAX);
        assert!(std::fs::metadata(path.with_file_name("0.log.1")).unwrap().len() <= FILE_BYTES_MAX);
    }
}
