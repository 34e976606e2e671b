//! Appends in flight: a leader sends the next before the last is answered, and the follower takes them in the
//! order that they were sent in, whatever order the transport delivers.
//!
//! A session is one run of appends from one leader; the next one replaces it. What is missing in the middle is
//! never filled in: the leader notices, and begins a session anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::raft::Raft;
use super::types::{NodeId, TypeConfig};
use crate::PeerError;
use crate::lock::Mutex;

/// Appends to one member that are not answered yet.
pub(super) const IN_FLIGHT_MAX: usize = 8;
/// Members that one may be led by at a time, and a few that were.
const SESSIONS_MAX: usize = 8;

type Request = AppendEntriesRequest<TypeConfig>;
type Response = AppendEntriesResponse<TypeConfig>;

/// An append as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AppendAsk {
    /// Its place in a session; none for one by itself, a sign of life.
    pub(super) place: Option<(u64, u64)>,
    pub(super) request: Request,
}

/// A number for a new session, larger than any before, also those of earlier processes if the clock is right.
pub(super) fn new_session() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let before = LAST.fetch_max(now, Ordering::Relaxed);
    if before < now {
        now
    } else {
        LAST.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The sessions of those who append here.
#[derive(Default)]
pub(super) struct Sessions {
    by_sender: Mutex<VecDeque<(NodeId, Session)>>,
}

struct Session {
    number: u64,
    next: u64,
    /// Those that came before their turn.
    early: BTreeMap<u64, (Request, oneshot::Sender<Response>)>,
    input: mpsc::Sender<Request>,
    answers: mpsc::Sender<oneshot::Sender<Response>>,
}

impl Session {
    fn start(raft: &Raft, number: u64) -> Self {
        let (input, requests) = mpsc::channel(IN_FLIGHT_MAX * 2);
        let (answers, mut waiting) = mpsc::channel::<oneshot::Sender<Response>>(IN_FLIGHT_MAX * 2);
        let appended = raft.stream_append(ReceiverStream::new(requests));
        tokio::spawn(async move {
            let mut appended = std::pin::pin!(appended);
            // It ends with the first that is not appended; those behind it then are without an answer.
            while let Some(Ok(answer)) = appended.next().await {
                let Some(waiting) = waiting.recv().await else {
                    return;
                };
                let _ = waiting.send(answer.into());
            }
        });
        Self {
            number,
            next: 0,
            early: BTreeMap::new(),
            input,
            answers,
        }
    }

    /// Hands on all whose turn it is; false when the session has ended.
    fn advance(&mut self) -> bool {
        while let Some((request, answer)) = self.early.remove(&self.next) {
            if self.answers.try_send(answer).is_err() || self.input.try_send(request).is_err() {
                return false;
            }
            self.next += 1;
        }
        self.early.len() <= IN_FLIGHT_MAX * 2
    }
}

impl Sessions {
    /// Appends in the session's order.
    pub(super) async fn append(
        &self,
        raft: &Raft,
        from: NodeId,
        (number, sequence): (u64, u64),
        request: Request,
    ) -> Result<Response, PeerError> {
        let ended = || PeerError::Failed("the session of appends has ended".into());
        let answer = {
            let mut sessions = self.by_sender.lock();
            let found = sessions.iter().position(|(sender, _)| *sender == from);
            // The sender's clock may have gone back; a beginning is a beginning.
            let is_current = found.is_some_and(|at| {
                let current = sessions[at].1.number;
                current == number || (current > number && sequence > 0)
            });
            if !is_current {
                if let Some(at) = found {
                    sessions.remove(at);
                }
                sessions.push_back((from, Session::start(raft, number)));
                if sessions.len() > SESSIONS_MAX {
                    sessions.pop_front();
                }
            }
            let session = sessions
                .iter_mut()
                .find(|(sender, _)| *sender == from)
                .map(|(_, session)| session);
            let session = session.filter(|session| session.number == number && sequence >= session.next);
            let session = session.ok_or_else(ended)?;
            let (sender, answer) = oneshot::channel();
            session.early.insert(sequence, (request, sender));
            if !session.advance() {
                // Its number stays taken: nothing more of it is appended.
                session.early.clear();
                session.next = u64::MAX;
            }
            answer
        };
        answer.await.map_err(|_| ended())
    }

    /// Ends them; they hold Raft.
    pub(super) fn clear(&self) {
        self.by_sender.lock().clear();
    }
}

/// Numbers the appends of a session.
pub(super) struct Numbered {
    session: u64,
    next: AtomicU64,
}

impl Numbered {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            session: new_session(),
            next: AtomicU64::new(0),
        })
    }

    pub(super) fn next(&self) -> (u64, u64) {
        (self.session, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
