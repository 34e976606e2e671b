//! One watch: what it asked for, where it stands, and where its messages go.

use bytes::Bytes;
use capstan_store::{Error, Event, Result, Revision, WatchMessage, WatchRequest};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::super::wire;
use super::place::Place;
use crate::proto::etcdserverpb::WatchCreateRequest;

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    Done,
    /// The reader's queue is full.
    Full,
    /// The reader is gone.
    Closed,
}

pub(super) struct Watcher {
    pub(super) number: u64,
    key: Bytes,
    range_end: Bytes,
    prev_kv: bool,
    pub(super) wants_progress: bool,
    /// Progress was asked for out of turn.
    pub(super) is_asked: bool,
    /// Its id on the present stream, when it is on it.
    pub(super) wire_id: Option<i64>,
    /// The present stream has confirmed it.
    pub(super) is_confirmed: bool,
    /// How often it was cancelled without a word in between.
    pub(super) cancellations: u32,
    pub(super) place: Place,
    /// What the reader was told last.
    told: Revision,
    pub(super) messages: mpsc::Sender<WatchMessage>,
    begun: Option<oneshot::Sender<Result<Revision>>>,
}

impl Watcher {
    pub(super) fn new(
        number: u64,
        request: &WatchRequest,
        messages: mpsc::Sender<WatchMessage>,
        begun: oneshot::Sender<Result<Revision>>,
    ) -> Self {
        let (key, range_end) = wire::bounds(&request.range);
        Self {
            number,
            key,
            range_end,
            prev_kv: request.prev_kv,
            wants_progress: request.progress_notify,
            is_asked: false,
            wire_id: None,
            is_confirmed: false,
            cancellations: 0,
            place: Place::new(request.start_revision),
            told: 0,
            messages,
            begun: Some(begun),
        }
    }

    /// The request that puts it on a stream under this id. The store's own notices of progress are wanted too
    /// where they are all that answers a request for it (`needs_notices`).
    pub(super) fn create(&mut self, id: i64, needs_notices: bool) -> WatchCreateRequest {
        self.wire_id = Some(id);
        self.is_confirmed = false;
        self.place.restart();
        WatchCreateRequest {
            key: self.key.clone(),
            range_end: self.range_end.clone(),
            start_revision: self.place.next,
            progress_notify: self.wants_progress || needs_notices,
            filters: Vec::new(),
            prev_kv: self.prev_kv,
            watch_id: id,
            fragment: true,
        }
    }

    /// It is on no stream any more.
    pub(super) fn detach(&mut self) {
        self.wire_id = None;
        self.is_confirmed = false;
        self.place.restart();
    }

    /// The stream confirmed it.
    pub(super) fn confirm(&mut self, revision: Revision) {
        self.is_confirmed = true;
        self.place.begin(revision);
        if let Some(begun) = self.begun.take() {
            self.told = revision.min(self.place.next - 1);
            let _ = begun.send(Ok(revision));
        }
    }

    /// Hands events on.
    pub(super) fn deliver(&mut self, events: Vec<Event>, is_fragment: bool) -> Delivery {
        self.cancellations = 0;
        for (revision, events) in self.place.take(events, is_fragment) {
            match self.messages.try_send(WatchMessage::Events { revision, events }) {
                Ok(()) => {
                    self.place.passed(revision);
                    self.told = revision;
                }
                Err(TrySendError::Full(_)) => return Delivery::Full,
                Err(TrySendError::Closed(_)) => return Delivery::Closed,
            }
        }
        Delivery::Done
    }

    /// The store has sent everything up to this revision.
    pub(super) fn progress(&mut self, revision: Revision) -> Delivery {
        if revision + 1 < self.place.next {
            // A member that lags behind those before it.
            return Delivery::Done;
        }
        let is_news = revision > self.told && self.wants_progress;
        if !is_news && !self.is_asked {
            self.place.passed(revision);
            return Delivery::Done;
        }
        match self.messages.try_send(WatchMessage::Progress { revision }) {
            Ok(()) => {
                self.place.passed(revision);
                (self.told, self.is_asked) = (revision, false);
                Delivery::Done
            }
            Err(TrySendError::Full(_)) => Delivery::Full,
            Err(TrySendError::Closed(_)) => Delivery::Closed,
        }
    }

    /// Its last word: an error where it never began, else a message behind those that wait.
    pub(super) fn end(self, message: WatchMessage, error: Error) {
        if let Some(begun) = self.begun {
            if matches!(message, WatchMessage::Compacted { .. }) {
                let _ = begun.send(Ok(self.place.next.max(1) - 1));
            } else {
                let _ = begun.send(Err(error));
                return;
            }
        }
        if let Err(TrySendError::Full(message)) = self.messages.try_send(message) {
            let messages = self.messages;
            tokio::spawn(async move { messages.send(message).await });
        }
    }
}
