//! The leader's lease clock, and the loop that proposes the end of leases that run out.
//!
//! The clock stands only while this member leads a term, and starts when all before the term is applied: every
//! lease then gets its whole time again, and the time of an election, which its holder may have spent looking
//! for the leader. A lease is ended by a command that is valid in the clock's term alone, after the leadership
//! was confirmed: a deposed or paused leader ends none.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;

use super::server::Server;
use crate::cluster::message::{LeaseAnswer, LeaseAsk, Reply};
use crate::consensus::Applied;
use crate::lease::LeaseClock;
use crate::lock::Mutex;
use crate::replica::{Command, Outcome, Replica};
use crate::{Error, LeaseId, PeerCallKind, Refusal, Result};

/// Leases ended in one round; the others wait for the next.
const REVOKES_MAX: usize = 128;
/// The pause after a whole round, so that a thousand leases a second end at most (etcd's).
const ROUND_PAUSE: Duration = Duration::from_millis(128);
/// The pause after a revocation could not be proposed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many leases a new leader lets run out in one second; more are given longer.
const PROMOTED_PER_SECOND_MAX: usize = 500;

/// The leases of this member while it leads.
pub(super) struct Leases {
    replica: Weak<Replica>,
    clock: Mutex<Option<Term>>,
    /// The clock's next deadline may have changed.
    changed: Notify,
}

struct Term {
    number: u64,
    clock: LeaseClock,
    extension: Duration,
}

impl Leases {
    pub(super) fn new(replica: &Arc<Replica>) -> Arc<Self> {
        Arc::new(Self {
            replica: Arc::downgrade(replica),
            clock: Mutex::new(None),
            changed: Notify::new(),
        })
    }

    /// Starts the clock of a term, or stops it.
    fn follow(&self, leading: Option<u64>, extension: Duration) {
        let mut clock = self.clock.lock();
        if clock.as_ref().map(|term| term.number) == leading {
            return;
        }
        *clock = leading.map(|number| self.start(number, extension));
    }

    /// Every lease its whole time; where too many would run out together, some more.
    fn start(&self, number: u64, extension: Duration) -> Term {
        let mut clock = LeaseClock::default();
        let leases = self
            .replica
            .upgrade()
            .map(|replica| replica.look(|state| state.leases.iter().collect::<Vec<_>>()));
        let now = Instant::now();
        for (id, ttl_seconds, delay) in spread(leases.unwrap_or_default()) {
            clock.renew(id, ttl_seconds, now + extension + delay);
        }
        Term {
            number,
            clock,
            extension,
        }
    }

    fn expired(&self) -> (Vec<LeaseId>, Option<Instant>, Option<u64>) {
        let clock = self.clock.lock();
        let Some(term) = &*clock else {
            return (Vec::new(), None, None);
        };
        let due = term.clock.expired(Instant::now(), REVOKES_MAX);
        (due, term.clock.next_deadline(), Some(term.number))
    }
}

impl Applied for Leases {
    fn applied(&self, command: &Command, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Done(Ok(()))) {
            return;
        }
        let mut clock = match command {
            Command::By(_, command) => return self.applied(command, outcome),
            Command::LeaseGrant { .. } | Command::LeaseRevoke { .. } => self.clock.lock(),
            _ => return,
        };
        let Some(term) = &mut *clock else { return };
        match command {
            Command::LeaseGrant { id, ttl_seconds } => {
                let kept = self.replica.upgrade();
                let kept = kept.and_then(|replica| replica.look(|state| state.leases.ttl_seconds(*id)));
                term.clock
                    .renew(*id, kept.unwrap_or(*ttl_seconds), Instant::now());
            }
            Command::LeaseRevoke { id } => term.clock.forget(*id),
            _ => {}
        }
        drop(clock);
        self.changed.notify_one();
    }

    fn replaced(&self) {
        let mut clock = self.clock.lock();
        if let Some(term) = &mut *clock {
            *term = self.start(term.number, term.extension);
        }
    }
}

/// Each lease with how much longer than its time it gets.
fn spread(mut leases: Vec<(LeaseId, i64)>) -> Vec<(LeaseId, i64, Duration)> {
    leases.sort_unstable_by_key(|(_, ttl_seconds)| *ttl_seconds);
    let mut in_second: BTreeMap<i64, usize> = BTreeMap::new();
    let mut second = i64::MIN;
    let mut placed = Vec::with_capacity(leases.len());
    for (id, ttl_seconds) in leases {
        second = second.max(ttl_seconds);
        let count = in_second.entry(second).or_default();
        *count += 1;
        let delay = u64::try_from(second.saturating_sub(ttl_seconds)).unwrap_or(0);
        if *count >= PROMOTED_PER_SECOND_MAX {
            second += 1;
        }
        placed.push((id, ttl_seconds, Duration::from_secs(delay)));
    }
    placed
}

/// Runs until the server is dropped.
pub(super) async fn run(server: Weak<Server>) {
    let Some((mut leading, leases)) = server
        .upgrade()
        .map(|server| (server.consensus.watch_leading(), server.leases.clone()))
    else {
        return;
    };
    loop {
        let Some(this) = server.upgrade() else { return };
        let now = *leading.borrow_and_update();
        let extension = if this.consensus.is_only_voter() {
            Duration::ZERO
        } else {
            this.consensus.election_max()
        };
        leases.follow(now, extension);
        let (due, _, term) = leases.expired();
        let pause = match term {
            Some(term) if !due.is_empty() => this.end_leases(term, &due).await,
            _ => None,
        };
        let (_, next, _) = leases.expired();
        drop(this);
        let wait = pause.or_else(|| next.map(|next| next.saturating_duration_since(Instant::now())));
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
            continue;
        }
        let sleep = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = leases.changed.notified() => {}
            changed = leading.changed() => if changed.is_err() { return },
            () = sleep => {}
        }
    }
}

impl Server {
    /// Ends leases of the term's clock; how long to pause then.
    async fn end_leases(&self, term: u64, due: &[LeaseId]) -> Option<Duration> {
        if !matches!(self.consensus.confirm_leading(term).await, Reply::Done(())) {
            return Some(RETRY_AFTER);
        }
        let mut ending: FuturesUnordered<_> = due
            .iter()
            // One that was renewed while the leadership was confirmed lives on.
            .filter(|id| self.leases.remaining(**id, term).is_none())
            .map(|id| async move { (*id, self.end_lease(*id, term).await) })
            .collect();
        let mut pause = (due.len() == REVOKES_MAX).then_some(ROUND_PAUSE);
        while let Some((id, ended)) = ending.next().await {
            match ended {
                Ok(()) => {
                    self.replica.metrics().leases_expired.inc();
                    self.leases.forget(id);
                }
                Err(Error::LeaseNotFound) => self.leases.forget(id),
                Err(error) => {
                    tracing::warn!(lease = id, %error, "ending a lease that ran out");
                    pause = Some(RETRY_AFTER);
                }
            }
        }
        pause
    }

    async fn end_lease(&self, id: LeaseId, term: u64) -> Result<()> {
        let command = Command::LeaseRevoke { id }.encode()?;
        match self.consensus.propose_in_term(command, term).await? {
            Outcome::Done(answer) => answer,
            Outcome::Txn(answer) => Err(super::server::unexpected(&answer)),
        }
    }

    /// Renews a lease, wherever the leader is; returns its time in seconds.
    pub(super) async fn renew_lease(&self, id: LeaseId) -> Result<i64> {
        Ok(self.ask_lease(LeaseAsk::KeepAlive(id)).await?.granted_ttl_seconds)
    }

    pub(super) async fn ask_lease(&self, ask: LeaseAsk) -> Result<LeaseAnswer> {
        let here = || self.answer_lease(ask);
        self.consensus.ask_leader(PeerCallKind::Lease, &ask, here).await
    }

    /// Answers lease traffic as the leader.
    pub(super) async fn answer_lease(&self, ask: LeaseAsk) -> Reply<LeaseAnswer> {
        let term = self.leases.clock.lock().as_ref().map(|term| term.number);
        let Some(term) = term else {
            return Reply::NotLeader;
        };
        let asked = Instant::now();
        match self.consensus.confirm_leading(term).await {
            Reply::Done(()) => {}
            Reply::NotLeader => return Reply::NotLeader,
            Reply::Failed(error) => return Reply::Failed(error),
        }
        // After a pause of the process what was confirmed may be long past.
        if asked.elapsed() > self.consensus.election_max() {
            return Reply::NotLeader;
        }
        match ask {
            LeaseAsk::KeepAlive(id) => match self.leases.renew(id, term) {
                Ok(ttl_seconds) => Reply::Done(LeaseAnswer {
                    granted_ttl_seconds: ttl_seconds,
                    remaining_ttl_seconds: ttl_seconds,
                }),
                Err(Error::Refused(Refusal::NotLeader)) => Reply::NotLeader,
                Err(error) => Reply::Failed(error),
            },
            LeaseAsk::TimeToLive(id) => {
                let granted = self.replica.look(|state| state.leases.ttl_seconds(id));
                let remaining = self.leases.remaining(id, term);
                Reply::Done(LeaseAnswer {
                    granted_ttl_seconds: granted.unwrap_or(0),
                    remaining_ttl_seconds: granted.and(remaining).unwrap_or(-1),
                })
            }
        }
    }
}

impl Leases {
    fn forget(&self, id: LeaseId) {
        if let Some(term) = &mut *self.clock.lock() {
            term.clock.forget(id);
        }
    }

    fn remaining(&self, id: LeaseId, term: u64) -> Option<i64> {
        let clock = self.clock.lock();
        let clock = clock.as_ref().filter(|clock| clock.number == term)?;
        clock.clock.remaining_seconds(id, Instant::now())
    }

    fn renew(&self, id: LeaseId, term: u64) -> Result<i64> {
        let replica = self.replica.upgrade().ok_or(Error::Refused(Refusal::Stopped))?;
        let ttl_seconds = replica.look(|state| state.leases.ttl_seconds(id));
        let ttl_seconds = ttl_seconds.ok_or(Error::LeaseNotFound)?;
        let now = Instant::now();
        let mut clock = self.clock.lock();
        let clock = clock.as_mut().filter(|clock| clock.number == term);
        let clock = &mut clock.ok_or(Error::Refused(Refusal::NotLeader))?.clock;
        // One that has run out is being ended; it cannot be saved any more.
        clock.remaining_seconds(id, now).ok_or(Error::LeaseNotFound)?;
        clock.renew(id, ttl_seconds, now);
        replica.metrics().leases_renewed.inc();
        Ok(ttl_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_leader_ends_leases_little_by_little_and_none_early() {
        let count = PROMOTED_PER_SECOND_MAX * 3;
        let placed = spread((1..).zip(std::iter::repeat_n(10, count)).collect());
        let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, _, delay) in &placed {
            *seconds.entry(delay.as_secs()).or_default() += 1;
        }
        assert_eq!(placed.len(), count);
        assert_eq!(
            seconds.into_iter().collect::<Vec<_>>(),
            [0, 1, 2].map(|at| (at, PROMOTED_PER_SECOND_MAX))
        );
    }
}
