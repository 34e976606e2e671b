//! One stream of watches: takes its requests and its watches' messages, and makes the responses.
//!
//! Requests go before events, so that a busy watch cannot keep the others from being ended; watches take turns
//! by readiness. A watch that the store gave up, for whatever reason but compaction, begins again after what
//! it has sent.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use capstan_store::{ProgressRequest, Refusal, Revision, WatchMessage};
use futures::future::AbortHandle;
use futures::stream::{Abortable, SelectAll, Stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::{Request, Status, Streaming};

use super::super::caller::{Host, LeaderLost};
use super::opening::{Asked, DUPLICATE_ID, Opened, Opening, open};
use super::progress::Round;
use super::reply::{self, NO_WATCH};
use crate::errors::refused;
use crate::proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;

/// How often in a row a watch begins again without a message in between.
const REOPENS_MAX: u32 = 3;

/// A watch of the stream.
struct Running {
    asked: Asked,
    /// The first revision that was not sent.
    next: Revision,
    progress: ProgressRequest,
    abort: AbortHandle,
    /// Nothing was sent since the last tick.
    is_quiet: bool,
    /// The next progress is for the watch itself.
    was_ticked: bool,
    reopens: u32,
}

/// A watch's messages under its id; none is the end.
struct Messages {
    id: i64,
    messages: Option<mpsc::Receiver<WatchMessage>>,
}

impl Stream for Messages {
    type Item = (i64, Option<WatchMessage>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(messages) = &mut self.messages else {
            return Poll::Ready(None);
        };
        messages.poll_recv(context).map(|message| {
            if message.is_none() {
                self.messages = None;
            }
            Some((self.id, message))
        })
    }
}

/// A stream of watches.
pub(super) struct Session {
    host: Arc<Host>,
    client: Arc<Request<()>>,
    requests: Option<Streaming<pb::WatchRequest>>,
    opening: Option<Opening>,
    reopening: VecDeque<i64>,
    watches: HashMap<i64, Running>,
    messages: SelectAll<Abortable<Messages>>,
    out: VecDeque<pb::WatchResponse>,
    next_id: i64,
    round: Round,
    ticks: Interval,
    leader_lost: LeaderLost,
    is_over: bool,
}

impl Session {
    pub(super) fn new(host: Arc<Host>, request: Request<Streaming<pb::WatchRequest>>) -> Self {
        let (metadata, extensions, requests) = request.into_parts();
        let leader_lost = host.leader_lost_for(metadata.as_ref());
        let interval = host.options.progress_interval;
        let mut ticks = interval_at(
            Instant::now() + interval.mul_f64(1.0 + fastrand::f64() / 10.0),
            interval,
        );
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            host,
            client: Arc::new(Request::from_parts(metadata, extensions, ())),
            requests: Some(requests),
            opening: None,
            reopening: VecDeque::new(),
            watches: HashMap::new(),
            messages: SelectAll::new(),
            out: VecDeque::new(),
            next_id: 0,
            round: Round::default(),
            ticks,
            leader_lost,
            is_over: false,
        }
    }

    fn reply(&mut self, revision: Revision, response: pb::WatchResponse) {
        let header = Some(self.host.header(revision));
        self.out.push_back(pb::WatchResponse { header, ..response });
    }

    fn take(&mut self, request: pb::WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(&create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.ask_progress(),
            None => {}
        }
    }

    fn create(&mut self, create: &pb::WatchCreateRequest) {
        let asked = match Asked::new(create) {
            Ok(asked) => asked,
            Err(reason) => return self.refuse(reason.to_owned()),
        };
        self.opening = Some(open(self.host.clone(), &self.client, asked));
    }

    fn refuse(&mut self, cancel_reason: String) {
        let response = pb::WatchResponse {
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason,
            ..pb::WatchResponse::default()
        };
        self.reply(self.host.store.revision(), response);
    }

    fn opened(&mut self, mut asked: Asked, opened: Opened) {
        let is_new = !asked.is_announced;
        let watch = match opened {
            Ok(watch) => watch,
            Err(reason) if is_new => return self.refuse(reason),
            Err(reason) => return self.end(asked.id, 0, reason),
        };
        if is_new {
            if asked.id == 0 {
                asked.id = self.free_id();
            } else if self.watches.contains_key(&asked.id) {
                return self.refuse(DUPLICATE_ID.to_owned());
            }
            asked.is_announced = true;
            let response = pb::WatchResponse {
                watch_id: asked.id,
                created: true,
                ..pb::WatchResponse::default()
            };
            self.reply(watch.revision, response);
        } else if !self.watches.contains_key(&asked.id) {
            // It was cancelled while it began again.
            return;
        }
        let id = asked.id;
        let (abort, registration) = AbortHandle::new_pair();
        let messages = Messages {
            id,
            messages: Some(watch.messages),
        };
        self.messages.push(Abortable::new(messages, registration));
        let before = self.watches.remove(&id);
        let next = match asked.request.start_revision {
            0 => watch.revision + 1,
            start => start,
        };
        let running = Running {
            next: before.as_ref().map_or(next, |before| before.next),
            asked,
            progress: watch.progress,
            abort,
            is_quiet: before.as_ref().is_none_or(|before| before.is_quiet),
            was_ticked: before.as_ref().is_some_and(|before| before.was_ticked),
            reopens: before.map_or(0, |before| before.reopens + 1),
        };
        if self.round.joined(id) || self.round.waits_for(id) || running.was_ticked {
            running.progress.send();
        }
        self.watches.insert(id, running);
    }

    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn cancel(&mut self, id: i64) {
        let Some(running) = self.watches.remove(&id) else {
            return;
        };
        running.abort.abort();
        let response = pb::WatchResponse {
            watch_id: id,
            canceled: true,
            ..pb::WatchResponse::default()
        };
        self.reply(self.host.store.revision(), response);
        self.left(id);
    }

    /// A watch ends by itself.
    fn end(&mut self, id: i64, compact_revision: Revision, cancel_reason: String) {
        let Some(running) = self.watches.remove(&id) else {
            return;
        };
        running.abort.abort();
        let response = pb::WatchResponse {
            watch_id: id,
            canceled: true,
            compact_revision,
            cancel_reason,
            ..pb::WatchResponse::default()
        };
        self.reply(0, response);
        self.left(id);
    }

    fn left(&mut self, id: i64) {
        if let Some(revision) = self.round.left(id) {
            self.answer_progress(revision);
        }
    }

    fn ask_progress(&mut self) {
        for id in self.round.ask(self.watches.keys().copied()) {
            if let Some(running) = self.watches.get(&id) {
                running.progress.send();
            }
        }
    }

    fn answer_progress(&mut self, revision: Revision) {
        let response = pb::WatchResponse {
            watch_id: NO_WATCH,
            ..pb::WatchResponse::default()
        };
        self.reply(revision, response);
        if self.round.is_due_again() {
            self.ask_progress();
        }
    }

    fn tick(&mut self) {
        for running in self
            .watches
            .values_mut()
            .filter(|running| running.asked.progress_notify)
        {
            if running.is_quiet {
                running.was_ticked = true;
                running.progress.send();
            }
            running.is_quiet = true;
        }
    }

    fn message(&mut self, id: i64, message: Option<WatchMessage>) {
        let Some(running) = self.watches.get_mut(&id) else {
            return;
        };
        match message {
            Some(WatchMessage::Events { revision, events }) => {
                running.next = revision + 1;
                running.reopens = 0;
                let events = reply::wanted(&running.asked, events);
                if events.is_empty() {
                    return;
                }
                running.is_quiet = false;
                let fragment = running.asked.fragment;
                let response = pb::WatchResponse {
                    header: Some(self.host.header(revision)),
                    watch_id: id,
                    events,
                    ..pb::WatchResponse::default()
                };
                reply::push(
                    &mut self.out,
                    response,
                    fragment,
                    self.host.options.message_bytes_max(),
                );
            }
            Some(WatchMessage::Progress { revision }) => {
                running.next = running.next.max(revision + 1);
                if std::mem::take(&mut running.was_ticked) {
                    let response = pb::WatchResponse {
                        watch_id: id,
                        ..pb::WatchResponse::default()
                    };
                    self.reply(revision, response);
                }
                if let Some(revision) = self.round.said(id, revision) {
                    self.answer_progress(revision);
                }
            }
            Some(WatchMessage::Compacted { compact_revision }) => {
                self.end(id, compact_revision, String::new());
            }
            Some(WatchMessage::Cancelled { reason }) => self.given_up(id, reason),
            None => self.given_up(id, "the watch ended".to_owned()),
        }
    }

    /// The store gave a watch up.
    fn given_up(&mut self, id: i64, reason: String) {
        let Some(running) = self.watches.get(&id) else {
            return;
        };
        if running.abort.is_aborted() {
            return;
        }
        running.abort.abort();
        if running.reopens >= REOPENS_MAX {
            return self.end(id, 0, reason);
        }
        self.reopening.push_back(id);
    }

    fn begin_reopening(&mut self) -> bool {
        let Some(id) = self.reopening.pop_front() else {
            return false;
        };
        let Some(running) = self.watches.get(&id).filter(|running| running.abort.is_aborted()) else {
            return true;
        };
        let mut asked = running.asked.clone();
        asked.request.start_revision = running.next;
        self.opening = Some(open(self.host.clone(), &self.client, asked));
        true
    }

    /// One step; `Pending` when there is nothing to do.
    fn step(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if let Some(lost) = &mut self.leader_lost
            && lost.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(refused(Refusal::NoLeader)));
        }
        if self.opening.is_none() && self.begin_reopening() {
            return Poll::Ready(Ok(()));
        }
        if let Some(opening) = &mut self.opening {
            if let Poll::Ready((asked, opened)) = opening.as_mut().poll(context) {
                self.opening = None;
                self.opened(asked, opened);
                return Poll::Ready(Ok(()));
            }
        } else if let Some(requests) = &mut self.requests
            && let Poll::Ready(request) = Pin::new(requests).poll_next(context)
        {
            match request {
                Some(Ok(request)) => self.take(request),
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None => self.requests = None,
            }
            return Poll::Ready(Ok(()));
        }
        if self.ticks.poll_tick(context).is_ready() {
            self.tick();
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(Some((id, message))) = Pin::new(&mut self.messages).poll_next(context) {
            let has_stopped =
                matches!(message, None | Some(WatchMessage::Cancelled { .. })) && !self.host.store.is_open();
            if has_stopped {
                return Poll::Ready(Err(refused(Refusal::Stopped)));
            }
            self.message(id, message);
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl Stream for Session {
    type Item = Result<pb::WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(response) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(response)));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            match self.step(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(status)) => {
                    self.is_over = true;
                    return Poll::Ready(Some(Err(status)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
