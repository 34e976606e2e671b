//! What all clients of a run share: the clock, the members' clients, the values given out, and the history.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::client::Client;
use super::history::{History, Operation, Outcome, Request};
use super::members::Members;

/// The incarnation of an operation whose member was restarted meanwhile.
pub const RESTARTED: u32 = u32::MAX;

/// Shared by all clients of a run.
#[derive(Debug)]
pub struct Field {
    started: Instant,
    clients: Vec<Client>,
    incarnations: Arc<[AtomicU32]>,
    present: Mutex<Vec<usize>>,
    values: AtomicU64,
    stopped: AtomicBool,
    history: Mutex<History>,
    /// How far the watch of everything on each place has come.
    watched: Vec<AtomicI64>,
    newest: AtomicI64,
    compacted: AtomicI64,
    pulse: Mutex<Pulse>,
}

/// How steadily answers came since it was last read.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    last: Instant,
    /// The longest time without any answer to a linearizable request.
    pub longest: Duration,
    /// Operations answered.
    pub answered: usize,
    /// Operations whose outcome is unknown.
    pub unknown: usize,
    /// Operations refused.
    pub refused: usize,
}

impl Pulse {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            longest: Duration::ZERO,
            answered: 0,
            unknown: 0,
            refused: 0,
        }
    }
}

impl Field {
    /// A field for the places of `members`.
    ///
    /// # Errors
    /// When an address is none.
    pub fn new(members: &Members) -> anyhow::Result<Self> {
        let clients: anyhow::Result<Vec<Client>> = (0..members.places())
            .map(|place| Client::new(&members.client_url(place)))
            .collect();
        Ok(Self {
            started: Instant::now(),
            clients: clients?,
            incarnations: members.incarnations(),
            present: Mutex::new(members.present()),
            values: AtomicU64::new(1),
            stopped: AtomicBool::new(false),
            history: Mutex::default(),
            watched: (0..members.places()).map(|_| AtomicI64::new(0)).collect(),
            newest: AtomicI64::new(0),
            compacted: AtomicI64::new(0),
            pulse: Mutex::new(Pulse::new()),
        })
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A shared client of the member at `place`.
    pub fn client(&self, place: usize) -> &Client {
        &self.clients[place]
    }

    /// Which places are of the cluster.
    pub fn present(&self) -> Vec<usize> {
        lock(&self.present).clone()
    }

    /// Says which places are of the cluster.
    pub fn set_present(&self, places: Vec<usize>) {
        *lock(&self.present) = places;
    }

    /// A value that nobody else writes.
    pub fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether traffic is to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Ends traffic.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// What was recorded so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Says how far the watch of everything at `place` has come.
    pub fn set_watched(&self, place: usize, revision: i64) {
        self.watched[place].fetch_max(revision, Ordering::Relaxed);
    }

    /// How far the watch of everything at `place` has come.
    pub fn watched(&self, place: usize) -> i64 {
        self.watched[place].load(Ordering::Relaxed)
    }

    /// The newest revision that any client saw.
    pub fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// The last revision that a compaction was asked for; those before may be gone.
    pub fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::Relaxed)
    }

    /// Notes that a compaction is asked for.
    pub fn compacting(&self, revision: i64) {
        self.compacted.fetch_max(revision, Ordering::Relaxed);
        let now = self.now();
        self.history().compactions.push((now, revision));
    }

    /// How steadily answers came since the last time; starts anew.
    pub fn pulse(&self) -> Pulse {
        let mut pulse = lock(&self.pulse);
        let mut told = *pulse;
        told.longest = told.longest.max(told.last.elapsed());
        *pulse = Pulse::new();
        told
    }

    fn beat(&self, outcome: &Outcome) {
        let mut pulse = lock(&self.pulse);
        match outcome {
            Outcome::Ok { revision, .. } => {
                self.newest.fetch_max(*revision, Ordering::Relaxed);
                pulse.longest = pulse.longest.max(pulse.last.elapsed());
                pulse.last = Instant::now();
                pulse.answered += 1;
            }
            Outcome::Refused(_) => pulse.refused += 1,
            Outcome::Unknown(_) => pulse.unknown += 1,
        }
    }

    /// Sends a request for a client to a member and records what came of it.
    pub async fn perform(
        &self,
        client: u32,
        place: usize,
        connection: &Client,
        request: Request,
        plain: bool,
    ) -> Outcome {
        let incarnation = self.incarnations[place].load(Ordering::SeqCst);
        let invoked = self.now();
        let outcome = connection.perform(&request, plain).await;
        let returned = self.now();
        let same = self.incarnations[place].load(Ordering::SeqCst) == incarnation;
        self.beat(&outcome);
        let operation = Operation {
            client,
            member: place,
            incarnation: if same { incarnation } else { RESTARTED },
            invoked,
            returned,
            request,
            outcome: outcome.clone(),
        };
        self.history().operations.push(operation);
        outcome
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
