//! Carries one container's raw log through its chain into the log that readers see.
//!
//! Invariants: each raw line passes once, also across a swap (the old chain is flushed before the new one
//! begins) and across a kubelet's restart (the place in the raw log is kept beside it; only a kill between
//! two writes can double the last batch). The written log is bounded by one rotation.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use capstan_points::Seats;
use capstan_points::sidecar::{Line, Sidecar, StreamContext};
use jiff::Timestamp;
use tokio::sync::watch;

use super::chain::Chain;
use crate::log::follow::{Follower, Start};
use crate::log::format::{self, Entry};
use crate::log::read::LINE_BYTES_MAX;
use crate::notify::Notify;

/// Lines in one call.
const LINES_MAX: usize = 512;
/// The written log is moved to `<log>.1` over this size.
const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Pause before lines that were held back by a fault are brought again.
const HELD_PAUSE: Duration = Duration::from_secs(1);

/// What the pump is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// How many readers asked for all lines so far.
    pub(crate) count: u64,
    /// Whether the container has ended.
    pub(crate) ended: bool,
}

/// One container's pump.
pub(crate) struct Pump {
    pub(crate) raw: PathBuf,
    /// The log that readers see.
    pub(crate) sink: PathBuf,
    /// Where in the raw log to begin.
    pub(crate) begin: u64,
    pub(crate) context: StreamContext,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) seats: Seats<dyn Sidecar>,
    pub(crate) notify: Notify,
    pub(crate) asking: watch::Receiver<Asked>,
    pub(crate) settled: watch::Sender<u64>,
}

/// What moves to the blocking thread and back.
struct Work {
    follower: Follower,
    chain: Chain,
    sink: Sink,
    context: StreamContext,
    /// Raw lines that were read and have not passed.
    held: Vec<Vec<u8>>,
}

enum Step {
    Moved,
    Empty,
    Held,
}

impl Pump {
    /// Runs until the container has ended and all its lines have passed.
    pub(crate) async fn run(mut self) {
        let sink = Sink::new(self.sink.clone(), self.raw.with_extension("position"));
        let start = Start::At(sink.position().max(self.begin));
        let mut work = Some(Work {
            follower: Follower::new(self.raw.clone(), start, LINE_BYTES_MAX),
            chain: Chain::default(),
            sink,
            context: self.context.clone(),
            held: Vec::new(),
        });
        let mut row_is_final = false;
        loop {
            let asked = *self.asking.borrow_and_update();
            let mut changes = self.raw.parent().map(|folder| self.notify.folder(folder));
            let row = std::sync::Arc::clone(&self.seats.borrow_and_update());
            let chain = Chain::new(&row, &self.context.namespace, &self.labels);
            let Some(mut now) = work.take() else { return };
            let done = tokio::task::spawn_blocking(move || {
                let step = now.swap(chain).and_then(|()| now.step());
                (now, step)
            });
            let Ok((back, step)) = done.await else { return };
            let work = work.insert(back);
            let held = match step {
                Ok(Step::Moved) => continue,
                Ok(Step::Empty) => {
                    self.settled.send_replace(asked.count);
                    if asked.ended {
                        return self.end(work);
                    }
                    false
                }
                Ok(Step::Held) => true,
                Err(error) => {
                    tracing::warn!(%error, raw = %self.raw.display(), "log not carried on");
                    true
                }
            };
            let more = async {
                match &mut changes {
                    Some(changes) if !held => changes.changed().await,
                    _ if held => tokio::time::sleep(HELD_PAUSE).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                () = more => {}
                // Where the plugin host is gone, the row is final.
                swapped = self.seats.changed(), if !row_is_final => row_is_final = swapped.is_err(),
                asked = self.asking.changed() => if asked.is_err() { return },
            }
        }
    }

    fn end(&self, work: &mut Work) {
        if let Err(error) = work.swap(Chain::default()) {
            tracing::warn!(%error, raw = %self.raw.display(), "the log's last lines were not written");
        }
        // A reader that asked meanwhile has all there is.
        self.settled.send_replace(u64::MAX);
    }
}

impl Work {
    /// Puts another chain in the place of this one, which first gives out what it held.
    fn swap(&mut self, chain: Chain) -> io::Result<()> {
        if self.chain.same(&chain) {
            return Ok(());
        }
        let old = std::mem::replace(&mut self.chain, chain);
        let flushed = old.flush(&self.context);
        self.sink.write(&encode(&flushed))
    }

    fn step(&mut self) -> io::Result<Step> {
        if self.held.is_empty() {
            self.held = self.follower.read(LINES_MAX)?;
        }
        if self.held.is_empty() {
            return Ok(Step::Empty);
        }
        let out = if self.chain.is_empty() {
            let mut out = Vec::new();
            for line in &self.held {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            out
        } else {
            match self.chain.pass(&self.context, decode(&self.held)) {
                Ok(lines) => encode(&lines),
                Err(_) => return Ok(Step::Held),
            }
        };
        self.sink.write(&out)?;
        self.held.clear();
        self.sink.keep(self.follower.position())?;
        Ok(Step::Moved)
    }
}

fn decode(raw: &[Vec<u8>]) -> Vec<Line> {
    let line = |line: &Vec<u8>| {
        let entry = format::parse(line)?;
        let time: Timestamp = entry.time.parse().ok()?;
        Some(Line {
            time_ms: u64::try_from(time.as_millisecond()).unwrap_or(0),
            stream: entry.stream,
            text: String::from_utf8_lossy(entry.text).into_owned(),
        })
    };
    raw.iter().filter_map(line).collect()
}

fn encode(lines: &[Line]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        let time = i64::try_from(line.time_ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let time = format!("{:.9}", time.unwrap_or_default());
        // A line end within a text would forge an entry.
        for text in line.text.split('\n') {
            format::write(
                &mut out,
                Entry {
                    time: &time,
                    stream: line.stream,
                    partial: false,
                    text: text.as_bytes(),
                },
            );
        }
    }
    out
}

/// The written log.
struct Sink {
    path: PathBuf,
    position: PathBuf,
    open: Option<(File, u64)>,
}

impl Sink {
    fn new(path: PathBuf, position: PathBuf) -> Self {
        Self {
            path,
            position,
            open: None,
        }
    }

    /// Where an earlier kubelet stopped reading.
    fn position(&self) -> u64 {
        std::fs::read_to_string(&self.position)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    fn keep(&self, position: u64) -> io::Result<()> {
        std::fs::write(&self.position, position.to_string())
    }

    fn write(&mut self, entries: &[u8]) -> io::Result<()> {
        if self
            .open
            .as_ref()
            .is_some_and(|(_, size)| size + entries.len() as u64 > FILE_BYTES_MAX)
        {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            self.open = None;
        }
        let (file, size) = match &mut self.open {
            Some(open) => open,
            none => {
                if let Some(folder) = self.path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                let size = file.metadata()?.len();
                none.insert((file, size))
            }
        };
        file.write_all(entries)?;
        *size += entries.len() as u64;
        Ok(())
    }
}
