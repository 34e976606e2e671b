//! Follows a file that grows, is rotated by renaming, or truncated: whole lines, none lost, none doubled.
//!
//! Invariants: a renamed file is read to its end before the new one at the path is begun; a line is given
//! out once it has its end, or when its file is left; memory is bounded by `line_bytes_max` and one block.
//! Blocking; callers run it on a blocking thread and wait for [`crate::notify`] between reads.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes read at once.
const BLOCK_BYTES: usize = 64 * 1024;

/// Where to begin in a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Beginning,
    End,
    At(u64),
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: (u64, u64),
    offset: u64,
}

/// A place in a followed file.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    start: Start,
    open: Option<Open>,
    pending: Vec<u8>,
    line_bytes_max: usize,
    skipping: bool,
}

impl Follower {
    /// Follows `path`, which need not be there yet; if it comes later it is read from its beginning.
    pub(crate) fn new(path: PathBuf, start: Start, line_bytes_max: usize) -> Self {
        let mut follower = Self {
            path,
            start,
            open: None,
            pending: Vec::new(),
            line_bytes_max,
            skipping: false,
        };
        let opened = follower.open();
        follower.start = Start::Beginning;
        if let Err(error) = opened {
            tracing::debug!(%error, path = %follower.path.display(), "not there yet");
        }
        follower
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The place after the last line given out, in the file that is open.
    pub(crate) fn position(&self) -> u64 {
        self.open
            .as_ref()
            .map_or(0, |open| open.offset - self.pending.len() as u64)
    }

    fn open(&mut self) -> io::Result<bool> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        let offset = match self.start {
            Start::Beginning => 0,
            Start::End => meta.len(),
            Start::At(offset) => offset.min(meta.len()),
        };
        self.open = Some(Open {
            file,
            inode: (meta.dev(), meta.ino()),
            offset,
        });
        Ok(true)
    }

    /// Up to `lines_max` lines that are there now, without their ends. Fewer means there are no more.
    pub(crate) fn read(&mut self, lines_max: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            self.take_lines(&mut lines, lines_max);
            if lines.len() >= lines_max {
                return Ok(lines);
            }
            if self.open.is_none() && !self.open()? {
                return Ok(lines);
            }
            let Some(open) = &mut self.open else {
                return Ok(lines);
            };
            let count = open.file.read_at(&mut block, open.offset)?;
            if count > 0 {
                open.offset += count as u64;
                self.pending.extend_from_slice(&block[..count]);
                continue;
            }
            if !self.turn_page(&mut lines)? {
                return Ok(lines);
            }
        }
    }

    /// Moves whole lines from what was read into `lines`.
    fn take_lines(&mut self, lines: &mut Vec<Vec<u8>>, lines_max: usize) {
        let mut begin = 0;
        while lines.len() < lines_max {
            let rest = &self.pending[begin..];
            match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    if !std::mem::take(&mut self.skipping) {
                        lines.push(rest[..end.min(self.line_bytes_max)].to_vec());
                    }
                    begin += end + 1;
                }
                None if rest.len() >= self.line_bytes_max => {
                    // Cut here; the rest of the line is passed over.
                    if !std::mem::replace(&mut self.skipping, true) {
                        lines.push(rest[..self.line_bytes_max].to_vec());
                    }
                    begin = self.pending.len();
                }
                None => break,
            }
        }
        self.pending.drain(..begin);
    }

    /// At the end of the open file: whether there is more to read elsewhere.
    fn turn_page(&mut self, lines: &mut Vec<Vec<u8>>) -> io::Result<bool> {
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        let length = open.file.metadata()?.len();
        if length > open.offset {
            return Ok(true);
        }
        if length < open.offset {
            open.offset = 0;
            self.leave_line(lines);
            return Ok(true);
        }
        let at_path = std::fs::metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
        let replaced = at_path.is_ok_and(|inode| inode != open.inode);
        if !replaced || open.file.metadata()?.len() > open.offset {
            return Ok(replaced);
        }
        self.open = None;
        self.leave_line(lines);
        self.open()
    }

    fn leave_line(&mut self, lines: &mut Vec<Vec<u8>>) {
        let unfinished = std::mem::take(&mut self.pending);
        if !unfinished.is_empty() && !std::mem::take(&mut self.skipping) {
            lines.push(unfinished);
        }
        self.skipping = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn read(follower: &mut Follower, lines_max: usize) -> Vec<String> {
        let lines = follower.read(lines_max).unwrap();
        lines
            .into_iter()
            .map(|line| String::from_utf8(line).unwrap())
            .collect()
    }

    #[test]
    fn growth_rotation_and_truncation_lose_and_double_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, "old\n");
        let mut follower = Follower::new(path.clone(), Start::End, 1024);
        assert!(read(&mut follower, 10).is_empty());
        append(&path, "1\n2\nunfin");
        assert_eq!(read(&mut follower, 1), ["1"]);
        assert_eq!(read(&mut follower, 10), ["2"]);
        append(&path, "ished\n3\n");
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        append(&folder.path().join("log.1"), "late\n");
        append(&path, "4\n");
        assert_eq!(read(&mut follower, 10), ["unfinished", "3", "late", "4"]);
        std::fs::File::create(&path).unwrap();
        append(&path, "5");
        std::fs::File::create(&path).unwrap();
        assert!(read(&mut follower, 10).is_empty());
        append(&path, "6\n");
        assert_eq!(read(&mut follower, 10), ["6"]);
    }

    #[test]
    fn a_file_that_comes_later_is_read_whole_and_long_lines_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut follower = Follower::new(path.clone(), Start::End, 4);
        assert!(read(&mut follower, 10).is_empty());
        append(&path, "abcdefgh");
        assert_eq!(read(&mut follower, 10), ["abcd"]);
        append(&path, "ijk\nxy\nabcdef\n");
        assert_eq!(read(&mut follower, 10), ["xy", "abcd"]);
    }
}
