//! The lines that a daemon asked for: one file, a pattern of files, or the kernel's log.
//!
//! Invariant: a source keeps its places while its pattern is asked for, whoever asks. A backlog over
//! [`LAG_BYTES_MAX`] is skipped and its lines are counted.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use capstan_points::problem::Line;
use jiff::Timestamp;

use super::glob;
use super::kmsg::{self, Kmsg};
use crate::log::follow::{Follower, Start};
use crate::notify::{Changes, Notify};

/// Longest text of a line; the WIT package promises it.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// How far behind its file a source may be.
const LAG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How far back a look goes at most.
const LOOKBACK_BYTES_MAX: u64 = 1024 * 1024;

enum Kind {
    Files {
        followers: BTreeMap<PathBuf, Follower>,
        changes: Vec<Changes>,
    },
    Kernel(Kmsg),
}

/// One source of lines.
pub(crate) struct LineSource {
    pattern: String,
    kind: Kind,
}

impl LineSource {
    /// Opens it; the error is for a human.
    pub(crate) fn open(pattern: &str, lookback_ms: u64, notify: &Notify) -> io::Result<Self> {
        let kind = if pattern == kmsg::PATH {
            Kind::Kernel(Kmsg::open(lookback_ms)?)
        } else {
            let start = |path: &Path| begin(path, lookback_ms);
            let paths = paths(pattern);
            let followers = paths.into_iter().map(|path| {
                (
                    path.clone(),
                    Follower::new(path.clone(), start(&path), LINE_BYTES_MAX),
                )
            });
            Kind::Files {
                followers: followers.collect(),
                changes: vec![notify.folder(&glob::literal_folder(pattern))],
            }
        };
        let mut source = Self {
            pattern: pattern.to_owned(),
            kind,
        };
        source.listen(notify);
        Ok(source)
    }

    /// Listens in every folder that has one of the files.
    fn listen(&mut self, notify: &Notify) {
        let Kind::Files { followers, changes } = &mut self.kind else {
            return;
        };
        let mut folders: Vec<PathBuf> = followers
            .keys()
            .filter_map(|path| Some(path.parent()?.to_owned()))
            .collect();
        folders.push(glob::literal_folder(&self.pattern));
        folders.sort();
        folders.dedup();
        *changes = folders.iter().map(|folder| notify.folder(folder)).collect();
    }

    /// Up to so many lines that are there now, and how many were lost before them. Blocking, but briefly.
    pub(crate) fn read(&mut self, lines_max: usize, notify: &Notify) -> io::Result<(Vec<Line>, u64)> {
        let Kind::Files { followers, .. } = &mut self.kind else {
            let Kind::Kernel(kmsg) = &mut self.kind else {
                return Ok((Vec::new(), 0));
            };
            return kmsg.read(lines_max);
        };
        let mut fresh = false;
        for path in paths(&self.pattern) {
            followers.entry(path.clone()).or_insert_with(|| {
                fresh = true;
                // It came after we began, so all of it is new.
                Follower::new(path, Start::Beginning, LINE_BYTES_MAX)
            });
        }
        let time_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        let (mut lines, mut dropped) = (Vec::new(), 0);
        for follower in followers.values_mut() {
            if lines.len() >= lines_max {
                break;
            }
            dropped += skip_backlog(follower)?;
            for text in follower.read(lines_max - lines.len())? {
                lines.push(Line {
                    time_ms,
                    text: String::from_utf8_lossy(&text).into_owned(),
                });
            }
        }
        if fresh {
            self.listen(notify);
        }
        Ok((lines, dropped))
    }

    /// Waits until there may be more.
    pub(crate) async fn changed(&mut self) {
        match &mut self.kind {
            Kind::Kernel(kmsg) => kmsg.changed().await,
            Kind::Files { changes, .. } => {
                let any = changes.iter_mut().map(|changes| Box::pin(changes.changed()));
                futures::future::select_all(any).await;
            }
        }
    }
}

fn paths(pattern: &str) -> Vec<PathBuf> {
    if glob::is_pattern(pattern) {
        glob::expand(pattern)
    } else {
        vec![PathBuf::from(pattern)]
    }
}

/// Where to begin in a file that is there already.
fn begin(path: &Path, lookback_ms: u64) -> Start {
    let Ok(meta) = std::fs::metadata(path) else {
        return Start::Beginning;
    };
    let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    if lookback_ms == 0 || age > Duration::from_millis(lookback_ms) {
        return Start::End;
    }
    Start::At(meta.len().saturating_sub(LOOKBACK_BYTES_MAX))
}

/// Passes over what is too far behind; how many lines that were.
fn skip_backlog(follower: &mut Follower) -> io::Result<u64> {
    let length = match std::fs::metadata(follower.path()) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut skipped = 0;
    while length.saturating_sub(follower.position()) > LAG_BYTES_MAX {
        let lines = follower.read(1024)?;
        if lines.is_empty() {
            break;
        }
        skipped += lines.len() as u64;
    }
    Ok(skipped)
}
