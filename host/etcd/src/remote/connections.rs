//! The endpoints of one etcd: who is asked next, and what happens when the answer is none.

use std::future::Future;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use capstan_store::{Error, Result, Revision};
use tonic::{Response, Status};

use super::failure::{Failure, Next};
use super::session::{Headers, Session};
use super::version::Version;
use super::{ENDPOINTS_MAX, RemoteOptions};
use crate::link::{Address, Link, LinkOptions};
use crate::proto::etcdserverpb::ResponseHeader;

/// How long an endpoint that failed is asked only after all others.
const REST: Duration = Duration::from_secs(3);
/// The longest pause between attempts to connect to one endpoint.
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Rounds over the endpoints begin again until so many times the request timeout have passed.
const REQUEST_TIMEOUTS_MAX: u32 = 3;
/// Pauses between rounds.
const ROUND_PAUSE_MIN: Duration = Duration::from_millis(20);
const ROUND_PAUSE_MAX: Duration = Duration::from_secs(1);
/// What a compaction that waits for the disk may take.
const SLOW_WRITE_BOUND: Duration = Duration::from_secs(300);

/// What a call does to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Read,
    Write,
    /// A write that waits for the disk.
    SlowWrite,
}

/// One member's address.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) link: Link,
    rests_until: Mutex<Option<Instant>>,
    version: tokio::sync::OnceCell<Version>,
}

impl Endpoint {
    fn rest(&self) {
        let until = Some(Instant::now() + REST);
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn rests(&self) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

/// All endpoints, and who we are to them.
#[derive(Debug)]
pub(super) struct Connections {
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
    session: Session,
    seen: AtomicI64,
    pub(super) request_timeout: Duration,
}

impl Connections {
    pub(super) fn new(options: RemoteOptions) -> Result<Self> {
        let invalid = |error: &dyn std::error::Error| Error::Invalid(error.to_string());
        if options.endpoints.is_empty() || options.endpoints.len() > ENDPOINTS_MAX {
            let told = format!("between 1 and {ENDPOINTS_MAX} etcd endpoints are needed");
            return Err(Error::Invalid(told));
        }
        let link_options = LinkOptions {
            dial_timeout: options.dial_timeout,
            keep_alive_interval: options.keep_alive_interval,
            keep_alive_timeout: options.keep_alive_timeout,
            pause_max: DIAL_PAUSE_MAX,
            tls: options.tls,
        };
        let mut endpoints = Vec::new();
        for url in &options.endpoints {
            let address = Address::parse(url.trim()).map_err(|error| invalid(&error))?;
            if address.is_https() && endpoints.is_empty() {
                link_options.tls.config().map_err(|error| invalid(&error))?;
            }
            endpoints.push(Endpoint {
                link: Link::new(address, link_options.clone()),
                rests_until: Mutex::default(),
                version: tokio::sync::OnceCell::new(),
            });
        }
        Ok(Self {
            // Many clients with one list must not all begin with the same member.
            next: AtomicUsize::new(fastrand::usize(..endpoints.len())),
            endpoints,
            session: Session::new(options.user),
            seen: AtomicI64::new(0),
            request_timeout: options.request_timeout,
        })
    }

    /// Says who we are, and looks at the version of a member.
    pub(super) async fn start(&self) -> Result<()> {
        self.authenticate(&self.session.headers()).await?;
        let version = self.call(Effect::Read, |link, headers| async move {
            super::version::of(link, &headers).await.map(Response::new)
        });
        let version = version.await?;
        if version < Version::OLDEST {
            let told = format!("etcd {version} is too old: {} is needed", Version::OLDEST);
            return Err(Error::Invalid(told));
        }
        Ok(())
    }

    /// Carries a call out on one endpoint after the other.
    pub(super) async fn call<A, F, Answer>(&self, effect: Effect, run: F) -> Result<A>
    where
        F: Fn(Link, Headers) -> Answer,
        Answer: Future<Output = Result<Response<A>, Status>>,
    {
        let attempt_bound = match effect {
            Effect::Read | Effect::Write => self.request_timeout,
            Effect::SlowWrite => SLOW_WRITE_BOUND,
        };
        let give_up_at = Instant::now() + self.request_timeout * REQUEST_TIMEOUTS_MAX;
        let mut pause = ROUND_PAUSE_MIN;
        let mut has_authenticated = false;
        loop {
            let mut error = None;
            for endpoint in self.round() {
                let headers = self.session.headers();
                let answer = run(endpoint.link.clone(), headers.clone());
                let failure = match tokio::time::timeout(attempt_bound, answer).await {
                    Ok(Ok(answer)) => return Ok(answer.into_inner()),
                    Ok(Err(status)) => Failure::of(&status, effect),
                    Err(_) => Failure::timed_out(effect),
                };
                match failure.next {
                    Next::Elsewhere => endpoint.rest(),
                    Next::Authenticate if !has_authenticated => {
                        has_authenticated = true;
                        self.authenticate(&headers).await?;
                    }
                    Next::Authenticate | Next::GiveUp => return Err(failure.error),
                }
                error = Some(failure.error);
                if Instant::now() > give_up_at {
                    break;
                }
            }
            if let Some(error) = error
                && Instant::now() + pause > give_up_at
            {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ROUND_PAUSE_MAX);
        }
    }

    /// Gets a token in the place of the one in `used`.
    pub(super) async fn authenticate(&self, used: &Headers) -> Result<()> {
        let gave_up = Error::Unavailable("no endpoint answers to a login".into());
        self.session
            .renew(used, self.round(), self.request_timeout, gave_up)
            .await
    }

    /// All endpoints, the rested ones first, beginning with another one each time.
    pub(super) fn round(&self) -> Vec<&Endpoint> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.endpoints.len();
        let (before, after) = self.endpoints.split_at(first);
        let mut round: Vec<&Endpoint> = after.iter().chain(before).collect();
        round.sort_by_key(|endpoint| endpoint.rests());
        round
    }

    /// An endpoint for a stream.
    pub(super) fn pick(&self) -> &Endpoint {
        // A round has every endpoint, and there is at least one.
        self.round().first().copied().unwrap_or(&self.endpoints[0])
    }

    /// A stream failed: on to another endpoint, or to another token.
    pub(super) async fn stream_failed(&self, endpoint: &Endpoint, used: &Headers, status: &Status) {
        match Failure::of(status, Effect::Read).next {
            Next::Authenticate => {
                if let Err(error) = self.authenticate(used).await {
                    tracing::warn!(%error, "logging in to the remote store");
                }
            }
            Next::Elsewhere | Next::GiveUp => endpoint.rest(),
        }
    }

    pub(super) fn headers(&self) -> Headers {
        self.session.headers()
    }

    /// The endpoint's version, if it tells.
    pub(super) async fn version(&self, endpoint: &Endpoint) -> Option<Version> {
        let headers = self.headers();
        let asked = endpoint
            .version
            .get_or_try_init(|| super::version::of(endpoint.link.clone(), &headers));
        let told = tokio::time::timeout(self.request_timeout, asked).await;
        told.ok()?.ok().copied()
    }

    /// Remembers the newest revision.
    pub(super) fn saw(&self, header: Option<&ResponseHeader>) {
        let revision = header.map_or(0, |header| header.revision);
        self.seen.fetch_max(revision, Ordering::Relaxed);
    }

    /// The newest revision that anybody told.
    pub(super) fn seen(&self) -> Revision {
        self.seen.load(Ordering::Relaxed)
    }
}
