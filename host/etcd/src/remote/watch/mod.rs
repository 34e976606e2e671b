//! Watches on a remote store: many on a few streams, each with its own place in history.
//!
//! A watch outlives its stream: it is begun again, on any member, from the first revision that it has not been
//! handed, so nothing is lost and nothing comes twice. One whose reader is slow is taken off its stream and
//! put back when there is room, so it holds up no other.

mod feed;
mod place;
mod watcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capstan_store::{Error, ProgressRequest, Result, WATCH_QUEUE_MAX, Watch, WatchRequest};
use tokio::sync::{mpsc, oneshot};

use super::connections::Connections;
use feed::Feed;
use watcher::Watcher;

/// Streams at most; each is begun when it has a watch.
const STREAMS: usize = 4;
/// Watches of one stream.
const WATCHERS_MAX: usize = 10_000;
/// Requests of watches that a stream has not looked at yet.
const COMMANDS_MAX: usize = 1_024;
/// How long a watch may take to begin.
const BEGIN_BOUND: Duration = Duration::from_secs(30);

/// What a stream is asked.
enum Command {
    Watch(Box<Watcher>),
    /// The watch with this number wants to know how far it is.
    Progress(u64),
}

/// The streams.
#[derive(Debug)]
pub(super) struct Watches {
    streams: Vec<Stream>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Stream {
    commands: mpsc::Sender<Command>,
    watchers: Arc<AtomicUsize>,
}

impl Watches {
    /// Needs a runtime for the streams' tasks.
    pub(super) fn new(connections: &Arc<Connections>) -> Self {
        let streams = (0..STREAMS).map(|_| {
            let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
            let watchers = Arc::new(AtomicUsize::new(0));
            tokio::spawn(Feed::new(connections.clone(), watchers.clone()).run(receiver));
            Stream { commands, watchers }
        });
        Self {
            streams: streams.collect(),
            next: AtomicUsize::new(1),
        }
    }

    /// Begins a watch: returns when the store has said at which revision.
    pub(super) async fn watch(&self, request: WatchRequest) -> Result<Watch> {
        let ended = || Error::Unavailable("the store is shut down".into());
        let stream = self
            .streams
            .iter()
            .min_by_key(|stream| stream.watchers.load(Ordering::Relaxed))
            .ok_or_else(ended)?;
        if stream.watchers.load(Ordering::Relaxed) >= WATCHERS_MAX {
            let most = STREAMS * WATCHERS_MAX;
            return Err(Error::Unavailable(format!("there are {most} watches already")));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed) as u64;
        let (sender, messages) = mpsc::channel(WATCH_QUEUE_MAX);
        let (begun, answer) = oneshot::channel();
        let watcher = Box::new(Watcher::new(number, &request, sender, begun));
        let commands = &stream.commands;
        commands
            .send(Command::Watch(watcher))
            .await
            .map_err(|_| ended())?;
        let revision = tokio::time::timeout(BEGIN_BOUND, answer).await;
        let revision = revision
            .map_err(|_| Error::Unavailable("no member began the watch in time".into()))?
            .map_err(|_| ended())??;
        let commands = commands.downgrade();
        Ok(Watch {
            revision,
            messages,
            progress: ProgressRequest::new(move || {
                if let Some(commands) = commands.upgrade() {
                    let _ = commands.try_send(Command::Progress(number));
                }
            }),
        })
    }
}
