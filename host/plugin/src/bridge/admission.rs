//! `capstan:admission` as [`admission::Policy`]: a fresh instance for each call, on threads of its own.
//!
//! Workers keep one instance ready, described and configured, so that a request pays for the question
//! alone. The queue is bounded: over it, the request gets a fault that says so. Objects stay on the host's
//! side (`imports/documents`).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use capstan_kinds::plugin::Mode;
use capstan_points::admission::{self, Patch, Review, Verdict};
use capstan_points::{Fault, FaultKind};
use serde_json::Value;
use tokio::sync::oneshot;
use wasmtime::component::Resource;

use super::Ring;
use super::admission_binding::{Asked, Binding};
use super::admission_convert::{patch, request, verdict};
use crate::bindings::admission::capstan::admission::types as wit;
use crate::bindings::admission::exports::capstan::admission::{mutate, validate};
use crate::decision::Said;
use crate::error::LoadError;
use crate::health::Health;
use crate::imports::documents::Document;
use crate::live::{Answer, Live};
use crate::lock::lock;
use crate::program::Program;

/// Threads of one plugin.
const WORKERS: usize = 2;
/// Requests that wait for a thread.
const QUEUE_MAX: usize = 1_024;
const PATCHES_MAX: usize = 1_000;

pub(crate) type Recorded = Ring<Arc<Review>>;

#[derive(Debug, Clone, Copy)]
enum Question {
    Mutate,
    Validate,
}

enum Reply {
    Patches(Vec<wit::Patch>),
    Verdict(wit::Verdict),
}

struct Job {
    question: Question,
    review: Arc<Review>,
    reply: oneshot::Sender<Result<Reply, Fault>>,
}

pub(crate) struct Policy {
    pool: Arc<Pool>,
    binding: Binding,
    recorded: Arc<Recorded>,
}

struct Pool {
    program: Arc<Program>,
    health: Arc<Health>,
    validate: Option<validate::GuestIndices>,
    mutate: Option<mutate::GuestIndices>,
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Policy {
    pub(crate) fn new(
        program: &Arc<Program>,
        health: &Arc<Health>,
        binding: Binding,
        recorded: Arc<Recorded>,
    ) -> Result<Self, LoadError> {
        let link = |error: wasmtime::Error| LoadError::Link(crate::cache::chain(&error));
        let has = |interface: &str| program.surface.exports(interface);
        let validate = has("admission/validate").then(|| validate::GuestIndices::new(&program.pre));
        let mutate = has("admission/mutate").then(|| mutate::GuestIndices::new(&program.pre));
        let pool = Arc::new(Pool {
            program: Arc::clone(program),
            health: Arc::clone(health),
            validate: validate.transpose().map_err(link)?,
            mutate: mutate.transpose().map_err(link)?,
            queue: Mutex::default(),
            work: Condvar::new(),
        });
        Ok(Self {
            pool,
            binding,
            recorded,
        })
    }

    /// Starts the workers, each with an instance ready.
    pub(crate) fn warm(&self) -> Result<(), Fault> {
        for _ in 0..WORKERS {
            let ready = self.pool.program.start()?;
            let pool = Arc::clone(&self.pool);
            thread::Builder::new()
                .name(format!("admit-{}", pool.program.context.plugin))
                .spawn(move || pool.serve(ready))
                .map_err(|error| Fault::new(FaultKind::Host, format!("cannot start a thread: {error}")))?;
        }
        Ok(())
    }

    /// Asks fresh instances what was asked of the revision before; on the caller's thread.
    pub(crate) fn rehearse(&self) -> Result<(), (String, Fault)> {
        for review in self.recorded.recorded() {
            let questions = [
                (Question::Mutate, self.pool.mutate.is_some()),
                (Question::Validate, self.pool.validate.is_some()),
            ];
            for (question, _) in questions.into_iter().filter(|(_, asked)| *asked) {
                let asked = || {
                    let live = self.pool.program.start()?;
                    self.pool
                        .ask(live, question, &review)
                        .and_then(|reply| match reply {
                            Reply::Patches(patches) => self.patches(patches).map(drop),
                            Reply::Verdict(_) => Ok(()),
                        })
                };
                asked().map_err(|fault| {
                    (
                        format!(
                            "{question:?} of {} {}/{}",
                            review.resource, review.namespace, review.name
                        ),
                        fault,
                    )
                })?;
            }
        }
        Ok(())
    }

    async fn ask(&self, question: Question, review: Arc<Review>) -> Result<Reply, Fault> {
        self.pool.health.admit()?;
        let (reply, answer) = oneshot::channel();
        self.pool.submit(Job {
            question,
            review,
            reply,
        })?;
        let lost = || Fault {
            kind: FaultKind::Host,
            message: "the plugin host is closing".into(),
            retry: true,
        };
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    fn patches(&self, patches: Vec<wit::Patch>) -> Result<Vec<Patch>, Fault> {
        let patches = if patches.len() > PATCHES_MAX {
            Err(format!(
                "mutate gave {} patches; at most {PATCHES_MAX} make sense",
                patches.len()
            ))
        } else {
            patches.into_iter().map(patch).collect()
        };
        patches.map_err(|message| self.pool.health.garbage(message))
    }
}

impl Drop for Policy {
    /// The workers answer what is queued, then end.
    fn drop(&mut self) {
        lock(&self.pool.queue).closed = true;
        self.pool.work.notify_all();
    }
}

impl Pool {
    fn submit(&self, job: Job) -> Result<(), Fault> {
        let mut queue = lock(&self.queue);
        if queue.jobs.len() >= QUEUE_MAX {
            let message = format!("{QUEUE_MAX} requests are waiting for this policy already");
            return Err(Fault {
                kind: FaultKind::Host,
                message,
                retry: true,
            });
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.work.notify_one();
        Ok(())
    }

    fn serve(&self, ready: Live) {
        let mut ready = Some(ready);
        while let Some(job) = self.next() {
            let live = ready.take().map_or_else(|| self.program.start(), Ok);
            let stats = &self.program.context.stats;
            let answer = live
                .inspect_err(|fault| stats.note_fault(fault))
                .and_then(|live| self.ask(live, job.question, &job.review));
            let Job { review, reply, .. } = job;
            // The caller takes the object back, and need not copy it where nobody else holds it.
            drop(review);
            // The request may have been given up meanwhile.
            let _ = reply.send(self.health.note(answer));
            ready = self.program.start().ok();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Asks an instance, which is used up by it.
    fn ask(&self, mut live: Live, question: Question, review: &Review) -> Result<Reply, Fault> {
        let request = request(review);
        let instance = live.instance;
        live.call(Duration::ZERO, |store| -> Answer<Reply> {
            let mut push = |object: &Option<Arc<Value>>| {
                let document = object.as_ref().map(|object| Document(Arc::clone(object)));
                document.map(|d| store.data_mut().documents.push(d)).transpose()
            };
            let object: Option<Resource<Document>> = push(&review.object)?;
            let old = push(&review.old)?;
            Ok(match (question, &self.validate, &self.mutate) {
                (Question::Validate, Some(indices), _) => {
                    let guest = indices.load(&mut *store, &instance)?;
                    guest
                        .call_validate(store, &request, object, old)?
                        .map(Reply::Verdict)
                }
                (Question::Mutate, _, Some(indices)) => {
                    let guest = indices.load(&mut *store, &instance)?;
                    guest
                        .call_mutate(store, &request, object, old)?
                        .map(Reply::Patches)
                }
                (Question::Validate, None, _) => Ok(Reply::Verdict(wit::Verdict::Allow(Vec::new()))),
                (Question::Mutate, _, None) => Ok(Reply::Patches(Vec::new())),
            })
        })
    }
}

#[async_trait]
impl admission::Policy for Policy {
    fn covers(&self, review: &Review) -> bool {
        self.binding.covers(review)
    }

    fn mutates(&self) -> bool {
        self.pool.mutate.is_some()
    }

    fn validates(&self) -> bool {
        self.pool.validate.is_some()
    }

    async fn mutate(&self, review: Arc<Review>) -> Result<Vec<Patch>, Fault> {
        self.change(review).await
    }

    async fn validate(&self, review: Arc<Review>) -> Result<Verdict, Fault> {
        self.judge(review, false).await
    }

    async fn audit(&self, review: Arc<Review>) -> Result<Verdict, Fault> {
        let Asked::Yes = self.binding.asks(&self.pool.program.context, &review).await? else {
            return Ok(Verdict::Allow(Vec::new()));
        };
        match self.ask(Question::Validate, review).await? {
            Reply::Verdict(answer) => Ok(self.binding.weigh(verdict(answer))),
            Reply::Patches(_) => Ok(Verdict::Allow(Vec::new())),
        }
    }
}

impl Policy {
    /// The patches; none in a mode that lets objects be as they are.
    pub(super) async fn change(&self, review: Arc<Review>) -> Result<Vec<Patch>, Fault> {
        let context = &self.pool.program.context;
        if self.binding.mode != Mode::Enforce {
            return Ok(Vec::new());
        }
        let Asked::Yes = self.binding.asks(context, &review).await? else {
            return Ok(Vec::new());
        };
        let Reply::Patches(patches) = self.ask(Question::Mutate, Arc::clone(&review)).await? else {
            return Ok(Vec::new());
        };
        let patches = self.patches(patches)?;
        self.recorded.sample(review);
        Ok(patches)
    }

    /// The verdict as the mode has it, counted and kept; `shadow` where it decides nothing.
    pub(super) async fn judge(&self, review: Arc<Review>, shadow: bool) -> Result<Verdict, Fault> {
        let context = &self.pool.program.context;
        let judged = match self.binding.asks(context, &review).await {
            Ok(Asked::No) => return Ok(Verdict::Allow(Vec::new())),
            Ok(Asked::Excepted(name)) => {
                self.binding.note(context, &review, Said::Excepted(&name), shadow);
                return Ok(Verdict::Allow(Vec::new()));
            }
            Ok(Asked::Yes) => self.ask(Question::Validate, Arc::clone(&review)).await,
            Err(fault) => Err(fault),
        };
        let judged = judged.map(|reply| match reply {
            Reply::Verdict(answer) => self.binding.weigh(verdict(answer)),
            Reply::Patches(_) => Verdict::Allow(Vec::new()),
        });
        let said = match &judged {
            Ok(verdict) => Said::Verdict(verdict),
            Err(fault) => Said::Faulted(fault),
        };
        self.binding.note(context, &review, said, shadow);
        if judged.is_ok() && !shadow {
            self.recorded.sample(review);
        }
        judged
    }
}
