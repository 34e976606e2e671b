//! The instances of one policy: one that is ready for each question, and the threads that make the next.
//!
//! A question runs where it was asked, on the request's own task, until the first tick: nearly all are answered in
//! microseconds, and the way to another thread and back costs more. One that is not answered by then goes on on a
//! thread of the policy's, so that a guest never holds up the API server. The threads also answer where nothing is
//! ready, or where the guest may read the cluster and so wait; and they put away instances, each of which is used once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use capstan_points::admission::Review;
use capstan_points::{Fault, FaultKind};
use futures::FutureExt;
use serde_json::Value;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{Resource, ResourceTable};

use super::admission_convert::request;
use crate::bindings::admission::capstan::admission::types as wit;
use crate::bindings::admission::exports::capstan::admission::{mutate, validate};
use crate::error::LoadError;
use crate::health::Health;
use crate::imports::documents::Document;
use crate::live::{Answer, Live};
use crate::lock::lock;
use crate::program::Program;
use crate::state::State;

/// Threads of one policy.
const WORKERS: usize = 2;
/// Questions that wait for a thread.
const QUEUE_MAX: usize = 1_024;
/// Instances that are kept ready; a thread is woken once there are fewer than [`READY_LOW`].
const READY_MAX: usize = 8;
const READY_LOW: usize = 5;
/// Used instances that wait to be put away.
const USED_MAX: usize = 8;

#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    Mutate,
    Validate,
}

pub(super) enum Reply {
    Patches(Vec<wit::Patch>),
    Verdict(wit::Verdict),
}

type Answered = Result<Reply, Fault>;

/// A question that an instance is being asked. Pending means that a tick has passed.
type Asking = Pin<Box<dyn Future<Output = (Live, Answered)> + Send>>;

/// What a thread is to do for somebody who waits.
struct Job {
    task: Task,
    reply: oneshot::Sender<Answered>,
}

enum Task {
    Ask(Question, Arc<Review>),
    Finish(Asking),
}

/// The instances and the threads; these end when it is closed.
pub(super) struct Instances {
    pub(super) program: Arc<Program>,
    pub(super) health: Arc<Health>,
    validate: Option<validate::GuestIndices>,
    mutate: Option<mutate::GuestIndices>,
    /// A host call may keep the guest waiting, so that it must not run where it was asked.
    may_wait: bool,
    stock: Mutex<Stock>,
    work: Condvar,
}

#[derive(Default)]
struct Stock {
    ready: Vec<Live>,
    /// Instances to make.
    wanted: usize,
    used: Vec<Live>,
    jobs: VecDeque<Job>,
    is_closed: bool,
}

/// What a thread does next.
enum Work {
    Answer(Job),
    Renew { make: bool, put_away: Option<Live> },
}

impl Stock {
    /// A ready instance, if there is one; where few are left, more are wanted from now on.
    fn take(&mut self) -> Option<Live> {
        let live = self.ready.pop();
        if self.ready.len() < READY_LOW {
            self.wanted = READY_MAX - self.ready.len();
        }
        live
    }

    fn next(&mut self) -> Option<Work> {
        if let Some(job) = self.jobs.pop_front() {
            return Some(Work::Answer(job));
        }
        if self.is_closed {
            return None;
        }
        let (make, put_away) = (self.wanted > 0, self.used.pop());
        self.wanted = self.wanted.saturating_sub(1);
        (make || put_away.is_some()).then_some(Work::Renew { make, put_away })
    }
}

impl Instances {
    pub(super) fn new(program: &Arc<Program>, health: &Arc<Health>) -> Result<Arc<Self>, LoadError> {
        let link = |error: wasmtime::Error| LoadError::Link(crate::cache::chain(&error));
        let has = |interface: &str| program.surface.exports(interface);
        let validate = has("admission/validate").then(|| validate::GuestIndices::new(&program.pre));
        let mutate = has("admission/mutate").then(|| mutate::GuestIndices::new(&program.pre));
        Ok(Arc::new(Self {
            program: Arc::clone(program),
            health: Arc::clone(health),
            validate: validate.transpose().map_err(link)?,
            mutate: mutate.transpose().map_err(link)?,
            may_wait: program.context.grants.may_wait(),
            stock: Mutex::default(),
            work: Condvar::new(),
        }))
    }

    pub(super) fn mutates(&self) -> bool {
        self.mutate.is_some()
    }

    pub(super) fn validates(&self) -> bool {
        self.validate.is_some()
    }

    /// Makes the first instance, and starts the threads, which make the others.
    pub(super) fn warm(self: &Arc<Self>) -> Result<(), Fault> {
        let first = self.program.start()?;
        {
            let mut stock = lock(&self.stock);
            stock.ready.push(first);
            stock.wanted = READY_MAX - 1;
        }
        for _ in 0..WORKERS {
            let this = Arc::clone(self);
            thread::Builder::new()
                .name(format!("admit-{}", self.program.context.plugin))
                .spawn(move || this.work())
                .map_err(|error| Fault::new(FaultKind::Host, format!("cannot start a thread: {error}")))?;
        }
        Ok(())
    }

    /// The threads answer what is queued, then end.
    pub(super) fn close(&self) {
        lock(&self.stock).is_closed = true;
        self.work.notify_all();
    }

    /// Asks an instance of its own.
    pub(super) async fn ask(self: &Arc<Self>, question: Question, review: Arc<Review>) -> Answered {
        self.health.admit()?;
        let task = match self.take() {
            Some(live) => {
                let mut asking = self.asking(live, question, review);
                match (&mut asking).now_or_never() {
                    Some((live, answer)) => {
                        self.put_away(live);
                        return self.health.note(answer);
                    }
                    None => Task::Finish(asking),
                }
            }
            None => Task::Ask(question, review),
        };
        let (reply, answer) = oneshot::channel();
        self.submit(Job { task, reply })?;
        let lost = || Fault {
            kind: FaultKind::Host,
            message: "the plugin host is closing".into(),
            retry: true,
        };
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Asks a fresh instance, on the caller's thread; nothing of it is noted.
    pub(super) fn rehearse(self: &Arc<Self>, question: Question, review: Arc<Review>) -> Answered {
        let live = self.program.start()?;
        finish(self.asking(live, question, review)).1
    }

    /// An instance to be asked on the caller's task, if there may be one.
    fn take(&self) -> Option<Live> {
        if self.may_wait {
            return None;
        }
        let mut stock = lock(&self.stock);
        let live = stock.take();
        let is_work = stock.wanted > 0;
        drop(stock);
        if is_work {
            self.work.notify_one();
        }
        live
    }

    fn put_away(&self, live: Live) {
        let mut stock = lock(&self.stock);
        if stock.used.len() < USED_MAX {
            stock.used.push(live);
        } else {
            drop(stock);
            drop(live);
        }
    }

    fn submit(&self, job: Job) -> Result<(), Fault> {
        let mut stock = lock(&self.stock);
        if stock.jobs.len() >= QUEUE_MAX {
            let message = format!("{QUEUE_MAX} requests are waiting for this policy already");
            return Err(Fault {
                kind: FaultKind::Host,
                message,
                retry: true,
            });
        }
        stock.jobs.push_back(job);
        drop(stock);
        self.work.notify_one();
        Ok(())
    }

    fn work(self: &Arc<Self>) {
        while let Some(work) = self.next() {
            match work {
                Work::Answer(Job { task, reply }) => {
                    let answer = self.carry_out(task);
                    // The request may have been given up meanwhile.
                    let _ = reply.send(self.health.note(answer));
                }
                Work::Renew { make, put_away } => {
                    // Its slot is the next one's.
                    drop(put_away);
                    if make && let Ok(live) = self.program.start() {
                        lock(&self.stock).ready.push(live);
                    }
                }
            }
        }
    }

    fn next(&self) -> Option<Work> {
        let mut stock = lock(&self.stock);
        loop {
            if let Some(work) = stock.next() {
                return Some(work);
            }
            if stock.is_closed {
                return None;
            }
            stock = self.work.wait(stock).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn carry_out(self: &Arc<Self>, task: Task) -> Answered {
        let asking = match task {
            Task::Finish(asking) => asking,
            Task::Ask(question, review) => {
                let ready = lock(&self.stock).take();
                let live = ready.map_or_else(|| self.program.start(), Ok);
                let live = live.inspect_err(|fault| self.program.context.stats.note_fault(fault))?;
                self.asking(live, question, review)
            }
        };
        let (live, answer) = finish(asking);
        self.put_away(live);
        answer
    }

    /// Asks an instance, which is used up by it. The answer leaves nobody with the review's objects.
    fn asking(self: &Arc<Self>, mut live: Live, question: Question, review: Arc<Review>) -> Asking {
        let this = Arc::clone(self);
        Box::pin(async move {
            let instance = live.instance;
            let answer = live
                .call_in_slices(Duration::ZERO, async |store| {
                    this.put(store, &instance, question, &review).await
                })
                .await;
            live.store.data_mut().documents = ResourceTable::new();
            (live, answer)
        })
    }

    async fn put(
        &self,
        store: &mut Store<State>,
        instance: &wasmtime::component::Instance,
        question: Question,
        review: &Review,
    ) -> Answer<Reply> {
        let request = request(review);
        let mut push = |object: &Option<Arc<Value>>| {
            let document = object.as_ref().map(|object| Document(Arc::clone(object)));
            document.map(|d| store.data_mut().documents.push(d)).transpose()
        };
        let object: Option<Resource<Document>> = push(&review.object)?;
        let old = push(&review.old)?;
        Ok(match (question, &self.validate, &self.mutate) {
            (Question::Validate, Some(indices), _) => {
                let guest = indices.load(&mut *store, instance)?;
                let verdict = guest.call_validate(store, &request, object, old).await?;
                verdict.map(Reply::Verdict)
            }
            (Question::Mutate, _, Some(indices)) => {
                let guest = indices.load(&mut *store, instance)?;
                let patches = guest.call_mutate(store, &request, object, old).await?;
                patches.map(Reply::Patches)
            }
            (Question::Validate, None, _) => Ok(Reply::Verdict(wit::Verdict::Allow(Vec::new()))),
            (Question::Mutate, _, None) => Ok(Reply::Patches(Vec::new())),
        })
    }
}

/// Runs a question to its end on this thread. It is pending at ticks alone, and may go on at once.
fn finish(mut asking: Asking) -> (Live, Answered) {
    loop {
        if let Some(done) = (&mut asking).now_or_never() {
            return done;
        }
    }
}
