//! `capstan:admission` as [`admission::Policy`]: what is asked of a policy, and what its answers come to.
//!
//! Instances and the threads that make them are `admission_instances`', who is asked at all is `admission_binding`'s.
//! Objects stay on the host's side (`imports/documents`).

use std::sync::Arc;

use async_trait::async_trait;
use capstan_kinds::plugin::Mode;
use capstan_points::Fault;
use capstan_points::admission::{self, Patch, Review, Verdict};

use super::Ring;
use super::admission_binding::{Asked, Binding};
use super::admission_convert::{patch, verdict};
use super::admission_instances::{Instances, Question, Reply};
use crate::bindings::admission::capstan::admission::types as wit;
use crate::decision::Said;
use crate::error::LoadError;
use crate::health::Health;
use crate::program::Program;

const PATCHES_MAX: usize = 1_000;

pub(crate) type Recorded = Ring<Arc<Review>>;

pub(crate) struct Policy {
    instances: Arc<Instances>,
    binding: Binding,
    recorded: Arc<Recorded>,
}

impl Policy {
    pub(crate) fn new(
        program: &Arc<Program>,
        health: &Arc<Health>,
        binding: Binding,
        recorded: Arc<Recorded>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            instances: Instances::new(program, health)?,
            binding,
            recorded,
        })
    }

    /// Makes the first instance ready, and sees to it that there is a next one.
    pub(crate) fn warm(&self) -> Result<(), Fault> {
        self.instances.warm()
    }

    /// Asks fresh instances what was asked of the revision before; on the caller's thread.
    pub(crate) fn rehearse(&self) -> Result<(), (String, Fault)> {
        for review in self.recorded.recorded() {
            let questions = [
                (Question::Mutate, self.instances.mutates()),
                (Question::Validate, self.instances.validates()),
            ];
            for (question, _) in questions.into_iter().filter(|(_, asked)| *asked) {
                let reply = self.instances.rehearse(question, Arc::clone(&review));
                let checked = reply.and_then(|reply| match reply {
                    Reply::Patches(patches) => self.patches(patches).map(drop),
                    Reply::Verdict(_) => Ok(()),
                });
                checked.map_err(|fault| {
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

    fn patches(&self, patches: Vec<wit::Patch>) -> Result<Vec<Patch>, Fault> {
        let patches = if patches.len() > PATCHES_MAX {
            Err(format!(
                "mutate gave {} patches; at most {PATCHES_MAX} make sense",
                patches.len()
            ))
        } else {
            patches.into_iter().map(patch).collect()
        };
        patches.map_err(|message| self.instances.health.garbage(message))
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        self.instances.close();
    }
}

#[async_trait]
impl admission::Policy for Policy {
    fn covers(&self, review: &Review) -> bool {
        self.binding.covers(review)
    }

    fn mutates(&self) -> bool {
        self.instances.mutates()
    }

    fn validates(&self) -> bool {
        self.instances.validates()
    }

    async fn mutate(&self, review: Arc<Review>) -> Result<Vec<Patch>, Fault> {
        self.change(review).await
    }

    async fn validate(&self, review: Arc<Review>) -> Result<Verdict, Fault> {
        self.judge(review, false).await
    }

    async fn audit(&self, review: Arc<Review>) -> Result<Verdict, Fault> {
        let Asked::Yes = self
            .binding
            .asks(&self.instances.program.context, &review)
            .await?
        else {
            return Ok(Verdict::Allow(Vec::new()));
        };
        match self.instances.ask(Question::Validate, review).await? {
            Reply::Verdict(answer) => Ok(self.binding.weigh(verdict(answer))),
            Reply::Patches(_) => Ok(Verdict::Allow(Vec::new())),
        }
    }
}

impl Policy {
    /// The patches; none in a mode that lets objects be as they are.
    pub(super) async fn change(&self, review: Arc<Review>) -> Result<Vec<Patch>, Fault> {
        let context = &self.instances.program.context;
        if self.binding.mode != Mode::Enforce {
            return Ok(Vec::new());
        }
        let Asked::Yes = self.binding.asks(context, &review).await? else {
            return Ok(Vec::new());
        };
        let Reply::Patches(patches) = self.instances.ask(Question::Mutate, Arc::clone(&review)).await? else {
            return Ok(Vec::new());
        };
        let patches = self.patches(patches)?;
        self.recorded.sample(review);
        Ok(patches)
    }

    /// The verdict as the mode has it, counted and kept; `shadow` where it decides nothing.
    pub(super) async fn judge(&self, review: Arc<Review>, shadow: bool) -> Result<Verdict, Fault> {
        let context = &self.instances.program.context;
        let judged = match self.binding.asks(context, &review).await {
            Ok(Asked::No) => return Ok(Verdict::Allow(Vec::new())),
            Ok(Asked::Excepted(name)) => {
                self.binding.note(context, &review, Said::Excepted(&name), shadow);
                return Ok(Verdict::Allow(Vec::new()));
            }
            Ok(Asked::Yes) => self.instances.ask(Question::Validate, Arc::clone(&review)).await,
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
