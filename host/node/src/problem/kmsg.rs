//! The kernel's log: `/dev/kmsg` gives one record a read, `priority,sequence,microseconds,flags;text`.
//!
//! The parser is pure. What the kernel's ring dropped before we read it shows as a gap in the sequence and is
//! counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use capstan_points::problem::Line;
use jiff::Timestamp;
use tokio::io::unix::AsyncFd;

/// Where the kernel's log is.
pub(crate) const PATH: &str = "/dev/kmsg";
/// A record is never longer.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// One message of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    /// Microseconds since the machine started.
    pub(crate) time_us: u64,
    pub(crate) text: String,
}

/// Understands one record; continuation lines (`KEY=value` after the first line end) are left out.
pub(crate) fn parse(record: &[u8]) -> Option<Record> {
    let text = String::from_utf8_lossy(record);
    let (prefix, rest) = text.split_once(';')?;
    let mut fields = prefix.split(',');
    let _priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let time_us = fields.next()?.parse().ok()?;
    let line = rest.split('\n').next().unwrap_or_default();
    Some(Record {
        sequence,
        time_us,
        text: unescape(line),
    })
}

/// The kernel writes bytes that do not print as `\xHH`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let byte = rest
            .get(at + 2..at + 4)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[at + 4..];
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The open device.
pub(crate) struct Kmsg {
    file: AsyncFd<File>,
    started_ms: u64,
    since_ms: u64,
    next: Option<u64>,
    dropped: u64,
}

impl Kmsg {
    /// Opens it at its end, or so far back.
    pub(crate) fn open(lookback_ms: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
            .open(PATH)?;
        if lookback_ms == 0 {
            file.seek(SeekFrom::End(0))?;
        }
        let now_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        let uptime = std::fs::read_to_string("/proc/uptime")?;
        let seconds: f64 = uptime
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0);
        let started_ms = now_ms.saturating_sub((seconds * 1000.0) as u64);
        #[expect(
            deprecated,
            reason = "the file is owned by the AsyncFd; its replacement is unsafe"
        )]
        let file = AsyncFd::new(file)?;
        Ok(Self {
            file,
            started_ms,
            since_ms: now_ms.saturating_sub(lookback_ms),
            next: None,
            dropped: 0,
        })
    }

    /// Up to so many lines that are there now, and how many were lost before them. Never waits.
    pub(crate) fn read(&mut self, lines_max: usize) -> io::Result<(Vec<Line>, u64)> {
        let mut lines = Vec::new();
        let mut record = vec![0; RECORD_BYTES_MAX];
        while lines.len() < lines_max {
            let count = match self.file.get_mut().read(&mut record) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The ring went over what we would have read; the next read goes on behind it.
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EPIPE as i32) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(record) = parse(&record[..count]) else {
                continue;
            };
            self.dropped += self.next.map_or(0, |next| record.sequence.saturating_sub(next));
            self.next = Some(record.sequence + 1);
            let time_ms = self.started_ms + record.time_us / 1000;
            if time_ms >= self.since_ms || self.since_ms == 0 {
                lines.push(Line {
                    time_ms,
                    text: record.text,
                });
            }
        }
        let dropped = if lines.is_empty() {
            0
        } else {
            std::mem::take(&mut self.dropped)
        };
        Ok((lines, dropped))
    }

    /// Waits until there may be more.
    pub(crate) async fn changed(&self) {
        if let Ok(mut ready) = self.file.readable().await {
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_understood() {
        let record = |sequence, time_us, text: &str| {
            Some(Record {
                sequence,
                time_us,
                text: text.into(),
            })
        };
        let cases: [(&str, Option<Record>); 5] = [
            (
                "6,339,5140900,-;NET: Registered protocol family 10\n",
                record(339, 5_140_900, "NET: Registered protocol family 10"),
            ),
            ("4,7,10,c,caller=T1;a;b\n SUBSYSTEM=acpi\n", record(7, 10, "a;b")),
            ("4,8,11,-;tab\\x09end \\xzz\n", record(8, 11, "tab\tend \\xzz")),
            ("no prefix", None),
            ("x,1,2,-;text", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }
}
