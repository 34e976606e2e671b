//! One stream of watches, kept up over broken connections.
//!
//! A single task owns the watchers. It is asked by [`Command`]s and told by the store; a watcher that goes off
//! the stream keeps its place, and goes on again under another id, so that late messages to the old id are
//! nobody's.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capstan_store::{Error, Event, Refusal, WATCH_QUEUE_MAX, WatchMessage};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::super::connections::Connections;
use super::super::session::Headers;
use super::super::{unbounded, wire};
use super::watcher::{Delivery, Watcher};
use super::{Command, WATCHERS_MAX};
use crate::proto::etcdserverpb as pb;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;

/// Requests on their way to the store: each watcher has few under way.
const REQUESTS_MAX: usize = 4 * WATCHERS_MAX;
/// How often idle watchers' progress is asked for, and readers that are gone are looked for.
const TICK: Duration = Duration::from_secs(1);
/// The pauses before a stream is begun again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often the store may cancel a watch in a row before its reader is told.
const CANCELLATIONS_MAX: u32 = 3;
/// The id of answers that concern all watches of a stream.
const ALL: i64 = -1;

/// The stream's task.
pub(super) struct Feed {
    connections: Arc<Connections>,
    watchers: HashMap<u64, Watcher>,
    by_wire_id: HashMap<i64, u64>,
    next_wire_id: i64,
    /// Watchers off the stream, until their readers have room.
    waiting: FuturesUnordered<BoxFuture<'static, u64>>,
    count: Arc<AtomicUsize>,
}

/// A stream that stands.
struct Live {
    requests: Requests,
    answers: Streaming<pb::WatchResponse>,
}

/// What the store is asked on a stream.
struct Requests {
    queue: mpsc::Sender<pb::WatchRequest>,
    /// The member answers requests for progress soundly. One that does not tells progress in its own time.
    answers_progress: bool,
}

/// Why the task goes on from a stream.
enum Ended {
    /// Nobody can ask for anything any more.
    Store,
    /// The last watcher left.
    Idle,
    Broken(Status),
}

impl Feed {
    pub(super) fn new(connections: Arc<Connections>, count: Arc<AtomicUsize>) -> Self {
        Self {
            connections,
            watchers: HashMap::new(),
            by_wire_id: HashMap::new(),
            next_wire_id: 1,
            waiting: FuturesUnordered::new(),
            count,
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut pause = PAUSE_MIN;
        loop {
            self.sweep(None);
            if self.watchers.is_empty() {
                match commands.recv().await {
                    Some(command) => self.accept(command, None),
                    None => return,
                }
                continue;
            }
            let connections = self.connections.clone();
            let endpoint = connections.pick();
            let headers = connections.headers();
            let ended = match self.open(endpoint, &headers).await {
                Ok(live) => {
                    pause = PAUSE_MIN;
                    self.serve(live, &mut commands).await
                }
                Err(status) => Ended::Broken(status),
            };
            for watcher in self.watchers.values_mut() {
                watcher.detach();
            }
            self.by_wire_id.clear();
            match ended {
                Ended::Store => return,
                Ended::Idle => {}
                Ended::Broken(status) => {
                    tracing::debug!(%status, "a stream of watches broke; it is begun again");
                    connections.stream_failed(endpoint, &headers, &status).await;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Begins a stream with all watchers whose readers have room.
    async fn open(
        &mut self,
        endpoint: &super::super::connections::Endpoint,
        headers: &Headers,
    ) -> Result<Live, Status> {
        let version = self.connections.version(endpoint).await;
        let (queue, receiver) = mpsc::channel(REQUESTS_MAX);
        let requests = Requests {
            queue,
            answers_progress: version.is_some_and(|version| version.has_sound_progress_requests()),
        };
        let numbers: Vec<u64> = self.watchers.keys().copied().collect();
        for number in numbers {
            self.put_on(number, &requests);
        }
        let mut client = unbounded!(WatchClient::new(endpoint.link.clone()));
        let opened = client.watch(headers.on(ReceiverStream::new(receiver)));
        let opened = tokio::time::timeout(self.connections.request_timeout, opened).await;
        let answers = opened.map_err(|_| Status::unavailable("no stream in time"))??;
        Ok(Live {
            requests,
            answers: answers.into_inner(),
        })
    }

    async fn serve(&mut self, mut live: Live, commands: &mut mpsc::Receiver<Command>) -> Ended {
        let mut tick = ticker();
        loop {
            tokio::select! {
                answer = live.answers.message() => match answer {
                    Ok(Some(answer)) => self.handle(answer, &live),
                    Ok(None) => return Ended::Broken(Status::unavailable("the stream ended")),
                    Err(status) => return Ended::Broken(status),
                },
                command = commands.recv() => match command {
                    Some(command) => self.accept(command, Some(&live)),
                    None => return Ended::Store,
                },
                Some(number) = self.waiting.next() => self.put_on(number, &live.requests),
                _ = tick.tick() => {
                    self.sweep(Some(&live));
                    let wanted = self.watchers.values().any(|one| one.wants_progress || one.is_asked);
                    if wanted {
                        live.requests.ask_progress();
                    }
                }
            }
            if self.watchers.is_empty() {
                return Ended::Idle;
            }
            if live.requests.queue.is_closed() {
                return Ended::Broken(Status::unavailable("the stream takes no more requests"));
            }
        }
    }

    fn accept(&mut self, command: Command, live: Option<&Live>) {
        match command {
            Command::Watch(watcher) => {
                let number = watcher.number;
                self.watchers.insert(number, *watcher);
                self.count.store(self.watchers.len(), Ordering::Relaxed);
                if let Some(live) = live {
                    self.put_on(number, &live.requests);
                }
            }
            Command::Progress(number) => {
                if let Some(watcher) = self.watchers.get_mut(&number) {
                    watcher.is_asked = true;
                    if let Some(live) = live {
                        live.requests.ask_progress();
                    }
                }
            }
        }
    }

    /// Puts a watcher on the stream, or lets it wait for its reader.
    fn put_on(&mut self, number: u64, requests: &Requests) {
        let Some(watcher) = self.watchers.get_mut(&number) else {
            return;
        };
        if watcher.wire_id.is_some() {
            return;
        }
        if watcher.messages.capacity() < WATCH_QUEUE_MAX / 2 {
            let messages = watcher.messages.clone();
            self.waiting.push(Box::pin(async move {
                let _ = messages.reserve_many(WATCH_QUEUE_MAX / 2).await;
                number
            }));
            return;
        }
        let id = self.next_wire_id;
        self.next_wire_id += 1;
        self.by_wire_id.insert(id, number);
        let create = watcher.create(id, !requests.answers_progress);
        requests.send(RequestUnion::CreateRequest(create));
    }

    /// Takes a watcher off the stream; it keeps its place.
    fn take_off(&mut self, number: u64, live: &Live) {
        if let Some(watcher) = self.watchers.get_mut(&number)
            && let Some(id) = watcher.wire_id
        {
            watcher.detach();
            self.by_wire_id.remove(&id);
            live.requests.cancel(id);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Watcher> {
        let watcher = self.watchers.remove(&number)?;
        if let Some(id) = watcher.wire_id {
            self.by_wire_id.remove(&id);
        }
        self.count.store(self.watchers.len(), Ordering::Relaxed);
        Some(watcher)
    }

    /// Forgets watchers whose readers are gone.
    fn sweep(&mut self, live: Option<&Live>) {
        let gone = self.watchers.values().filter(|one| one.messages.is_closed());
        let gone: Vec<u64> = gone.map(|one| one.number).collect();
        for number in gone {
            if let (
                Some(Watcher {
                    wire_id: Some(id), ..
                }),
                Some(live),
            ) = (self.remove(number), live)
            {
                live.requests.cancel(id);
            }
        }
    }

    fn handle(&mut self, answer: pb::WatchResponse, live: &Live) {
        self.connections.saw(answer.header.as_ref());
        let revision = wire::revision(answer.header.as_ref());
        if answer.watch_id == ALL && !answer.created && !answer.canceled {
            let on_stream: Vec<u64> = self.by_wire_id.values().copied().collect();
            for number in on_stream {
                self.deliver(number, live, |watcher| {
                    if watcher.is_confirmed {
                        watcher.progress(revision)
                    } else {
                        Delivery::Done
                    }
                });
            }
            return;
        }
        let Some(number) = self.number_of(&answer) else {
            return;
        };
        if answer.canceled {
            self.cancelled(number, answer, live);
        } else if answer.created {
            if let Some(watcher) = self.watchers.get_mut(&number) {
                watcher.confirm(revision);
            }
        } else if answer.events.is_empty() && !answer.fragment {
            self.deliver(number, live, |watcher| watcher.progress(revision));
        } else {
            let events: Vec<Event> = answer.events.into_iter().filter_map(wire::event).collect();
            self.deliver(number, live, |watcher| watcher.deliver(events, answer.fragment));
        }
    }

    /// Whom an answer concerns. A watch that was refused at once may come back without its id: then it is the
    /// oldest that waits, since answers come in the order of requests.
    fn number_of(&self, answer: &pb::WatchResponse) -> Option<u64> {
        if answer.watch_id == ALL && answer.canceled {
            let unconfirmed = self.by_wire_id.iter().filter(|(_, number)| {
                self.watchers
                    .get(number)
                    .is_some_and(|watcher| !watcher.is_confirmed)
            });
            return unconfirmed.min_by_key(|(id, _)| **id).map(|(_, number)| *number);
        }
        self.by_wire_id.get(&answer.watch_id).copied()
    }

    fn deliver(&mut self, number: u64, live: &Live, hand_on: impl FnOnce(&mut Watcher) -> Delivery) {
        let Some(watcher) = self.watchers.get_mut(&number) else {
            return;
        };
        match hand_on(watcher) {
            Delivery::Done => {}
            Delivery::Full => {
                self.take_off(number, live);
                self.put_on(number, &live.requests);
            }
            Delivery::Closed => {
                if let Some(id) = self.remove(number).and_then(|watcher| watcher.wire_id) {
                    live.requests.cancel(id);
                }
            }
        }
    }

    fn cancelled(&mut self, number: u64, answer: pb::WatchResponse, live: &Live) {
        let Some(watcher) = self.watchers.get_mut(&number) else {
            return;
        };
        let reason = answer.cancel_reason;
        let is_final = answer.compact_revision != 0 || (answer.created && !is_passing(&reason));
        if !is_final && watcher.cancellations < CANCELLATIONS_MAX {
            watcher.cancellations += 1;
            if let Some(id) = watcher.wire_id.take() {
                self.by_wire_id.remove(&id);
            }
            watcher.detach();
            self.put_on(number, &live.requests);
            return;
        }
        let Some(watcher) = self.remove(number) else {
            return;
        };
        let compact_revision = answer.compact_revision;
        if compact_revision != 0 {
            let error = Error::Compacted { compact_revision };
            watcher.end(WatchMessage::Compacted { compact_revision }, error);
        } else {
            let error = match Refusal::of_message(&reason) {
                Some(refusal) => refusal.into(),
                None => Error::Unavailable(format!("the watch was cancelled: {reason}")),
            };
            watcher.end(WatchMessage::Cancelled { reason }, error);
        }
    }
}

/// A refusal that another try may not meet.
fn is_passing(reason: &str) -> bool {
    let refusal = Refusal::of_message(reason);
    refusal.is_some_and(|refusal| matches!(refusal, Refusal::NoLeader | Refusal::AuthOldRevision))
}

fn ticker() -> Interval {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    tick
}

impl Requests {
    /// A stream whose queue is full is broken: it has room for every watcher's requests many times over.
    fn send(&self, request: RequestUnion) {
        let request = pb::WatchRequest {
            request_union: Some(request),
        };
        if self.queue.try_send(request).is_err() {
            tracing::warn!("a stream of watches does not take requests");
        }
    }

    fn cancel(&self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
    }

    fn ask_progress(&self) {
        if self.answers_progress {
            self.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
        }
    }
}
