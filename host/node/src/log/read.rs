//! Reading a container's log as `kubectl logs` asks: tail, since, follow, timestamps, limit.
//!
//! The formatting is pure; [`Reader`] does the blocking reads. An older file left by rotation (`<log>.1`) is
//! read before the current one. Not here: HTTP (`server.rs`).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::follow::{Follower, Start};
use super::format::{self, Entry};

/// Longest line of the file: a piece of 16 KiB with its head.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines handled at once.
const LINES_MAX: usize = 1024;
/// Bytes read at once when the beginning of the tail is searched for.
const BLOCK_BYTES: u64 = 64 * 1024;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<u64>,
}

/// Turns entries into what the client gets.
#[derive(Debug)]
struct Formatter {
    timestamps: bool,
    since: Option<Timestamp>,
    left_bytes: Option<u64>,
    within_line: bool,
}

impl Formatter {
    fn push(&mut self, out: &mut Vec<u8>, entry: Entry<'_>) {
        if let Some(since) = self.since
            && entry.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return;
        }
        let begin = out.len();
        if self.timestamps && !self.within_line {
            out.extend_from_slice(entry.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.text);
        if !entry.partial {
            out.push(b'\n');
        }
        self.within_line = entry.partial;
        if let Some(left) = &mut self.left_bytes {
            let added = (out.len() - begin) as u64;
            if added > *left {
                out.truncate(begin + usize::try_from(*left).unwrap_or(usize::MAX));
            }
            *left = left.saturating_sub(added);
        }
    }

    fn is_full(&self) -> bool {
        self.left_bytes == Some(0)
    }
}

/// A log being read. Blocking.
#[derive(Debug)]
pub(crate) struct Reader {
    /// What stands before a splice.
    prefix: Vec<u8>,
    older: Option<Follower>,
    current: Follower,
    formatter: Formatter,
}

impl Reader {
    /// Opens the log at `path`; the error is of the kind `NotFound` where there is none.
    pub(crate) fn open(path: &Path, wanted: &Wanted) -> io::Result<Self> {
        std::fs::metadata(path)?;
        let mut older_path = path.to_owned().into_os_string();
        older_path.push(".1");
        let older_path = PathBuf::from(older_path);
        let (current_start, lines) = match wanted.tail_lines {
            None => (0, 0),
            Some(lines) => tail(path, lines)?,
        };
        let missing = wanted.tail_lines.map(|wanted| wanted.saturating_sub(lines));
        let older = match missing {
            _ if !older_path.exists() || current_start > 0 => None,
            Some(0) => None,
            Some(missing) => Some(tail(&older_path, missing)?.0),
            None => Some(0),
        };
        Ok(Self {
            prefix: Vec::new(),
            older: older.map(|offset| Follower::new(older_path, Start::At(offset), LINE_BYTES_MAX)),
            current: Follower::new(path.to_owned(), Start::At(current_start), LINE_BYTES_MAX),
            formatter: Formatter {
                timestamps: wanted.timestamps,
                since: wanted.since,
                left_bytes: wanted.limit_bytes,
                within_line: false,
            },
        })
    }

    /// Opens a log that was cut over to another: `prefix` is what came before, `path` what comes after.
    pub(crate) fn open_spliced(prefix: Vec<u8>, path: &Path, wanted: &Wanted) -> io::Result<Self> {
        let whole = Wanted {
            tail_lines: None,
            ..wanted.clone()
        };
        if !path.exists() {
            std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        }
        let Some(lines) = wanted.tail_lines else {
            return Ok(Self {
                prefix,
                ..Self::open(path, &whole)?
            });
        };
        let missing = lines.saturating_sub(tail(path, lines)?.1);
        let ends = prefix.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let ends: Vec<usize> = ends.map(|(at, _)| at + 1).collect();
        let skipped = ends
            .len()
            .saturating_sub(usize::try_from(missing).unwrap_or(usize::MAX));
        let begin = skipped.checked_sub(1).map_or(0, |last| ends[last]);
        Ok(Self {
            prefix: prefix[begin..].to_vec(),
            ..Self::open(path, wanted)?
        })
    }

    /// What is there now; empty where there is no more yet, `None` where the limit is reached.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        for line in std::mem::take(&mut self.prefix).split(|byte| *byte == b'\n') {
            if let Some(entry) = format::parse(line).filter(|_| !self.formatter.is_full()) {
                self.formatter.push(&mut out, entry);
            }
        }
        loop {
            if self.formatter.is_full() {
                return Ok((!out.is_empty()).then_some(out));
            }
            let older = self.older.is_some();
            let source = self.older.as_mut().unwrap_or(&mut self.current);
            let lines = source.read(LINES_MAX)?;
            for line in &lines {
                if let Some(entry) = format::parse(line) {
                    self.formatter.push(&mut out, entry);
                }
            }
            if lines.len() < LINES_MAX && older {
                self.older = None;
                continue;
            }
            if !out.is_empty() || lines.len() < LINES_MAX {
                return Ok(Some(out));
            }
        }
    }
}

/// Where the last `lines` lines begin, and how many there are at most that many.
fn tail(path: &Path, lines: u64) -> io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok((length, 0));
    }
    let mut found = 0;
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        (&file).take(end - begin).read_to_end(&mut block)?;
        for (place, byte) in block.iter().enumerate().rev() {
            let at = begin + place as u64;
            // The end of the last line begins no other.
            if *byte == b'\n' && at + 1 < length {
                found += 1;
                if found == lines {
                    return Ok((at + 1, found));
                }
            }
        }
        end = begin;
    }
    Ok((0, if length == 0 { 0 } else { found + 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path, wanted: &Wanted) -> String {
        let mut reader = Reader::open(&folder.join("0.log"), wanted).unwrap();
        let mut all = Vec::new();
        while let Some(more) = reader.next().unwrap().filter(|more| !more.is_empty()) {
            all.extend(more);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn every_option_as_the_original_answers() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("0.log.1"), "2026-01-01T00:00:01Z stdout F a\n").unwrap();
        let text = "2026-01-01T00:00:02Z stdout P b\n2026-01-01T00:00:02Z stdout F c\n2026-01-01T00:00:03Z stderr F d\n";
        std::fs::write(folder.path().join("0.log"), text).unwrap();
        let tail = |lines| Wanted {
            tail_lines: Some(lines),
            ..Wanted::default()
        };
        let cases = [
            (Wanted::default(), "a\nbc\nd\n"),
            (tail(0), ""),
            (tail(1), "d\n"),
            (tail(2), "c\nd\n"),
            (tail(3), "bc\nd\n"),
            (tail(4), "a\nbc\nd\n"),
            (tail(9), "a\nbc\nd\n"),
            (
                Wanted {
                    limit_bytes: Some(4),
                    ..Wanted::default()
                },
                "a\nbc",
            ),
            (
                Wanted {
                    since: Some("2026-01-01T00:00:03Z".parse().unwrap()),
                    ..Wanted::default()
                },
                "d\n",
            ),
            (
                Wanted {
                    timestamps: true,
                    ..tail(3)
                },
                "2026-01-01T00:00:02Z bc\n2026-01-01T00:00:03Z d\n",
            ),
        ];
        for (wanted, expected) in cases {
            assert_eq!(read(folder.path(), &wanted), expected, "{wanted:?}");
        }
    }
}
