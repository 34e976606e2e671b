//! A stateful seat's one instance: kept between calls, retired by a severe fault, replaced at the next call.
//!
//! One lock a seat; the instance is taken out of it for the call, so that neither a fault nor a panic leaves
//! a broken one behind. Called by the bridges of stateful worlds.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use capstan_points::{Fault, FaultKind};
use wasmtime::Store;

use crate::health::Health;
use crate::live::{Answer, Live};
use crate::lock::lock;
use crate::program::Program;
use crate::state::State;

/// How a bridge finds its exports in a fresh instance.
pub(crate) type Bind<G> = Box<dyn Fn(&mut Live) -> Result<G, Fault> + Send + Sync>;

pub(crate) struct Resident<G> {
    program: Arc<Program>,
    pub(crate) health: Arc<Health>,
    bind: Bind<G>,
    seated: Mutex<Option<(Live, G)>>,
}

/// Whether an instance is good for another call after this.
pub(crate) fn survives<R>(answer: &Result<R, Fault>) -> bool {
    !answer
        .as_ref()
        .is_err_and(|fault| fault.kind != FaultKind::Reported)
}

impl<G> Resident<G> {
    pub(crate) fn new(program: Arc<Program>, health: Arc<Health>, bind: Bind<G>) -> Self {
        Self {
            program,
            health,
            bind,
            seated: Mutex::new(None),
        }
    }

    /// A fresh instance, for this seat or for a rehearsal.
    pub(crate) fn fresh(&self) -> Result<(Live, G), Fault> {
        let mut live = self.program.start()?;
        let guest = (self.bind)(&mut live)?;
        Ok((live, guest))
    }

    /// Starts the instance now, so that the first call does not pay for it.
    pub(crate) fn warm(&self) -> Result<(), Fault> {
        let mut seated = lock(&self.seated);
        if seated.is_none() {
            *seated = Some(self.fresh()?);
        }
        Ok(())
    }

    /// Calls the instance; `lost` runs, under the seat's lock, whenever there is a new one or it is retired.
    pub(crate) fn call<R>(
        &self,
        allowance: Duration,
        lost: impl Fn(),
        call: impl FnOnce(&G, &mut Store<State>) -> Answer<R>,
    ) -> Result<R, Fault> {
        self.health.admit()?;
        let answer = {
            let mut seated = lock(&self.seated);
            self.call_locked(&mut seated, allowance, lost, call)
        };
        self.health.note(answer)
    }

    /// Calls the instance unless `moved` says, under the seat's lock, that somebody else answers by now. The
    /// caller notes the answer's health.
    pub(crate) fn call_unless<R>(
        &self,
        allowance: Duration,
        moved: impl Fn() -> bool,
        call: impl FnOnce(&G, &mut Store<State>) -> Answer<R>,
    ) -> Option<Result<R, Fault>> {
        if let Err(fault) = self.health.admit() {
            return Some(Err(fault));
        }
        let mut seated = lock(&self.seated);
        if moved() {
            return None;
        }
        Some(self.call_locked(&mut seated, allowance, || {}, call))
    }

    fn call_locked<R>(
        &self,
        seated: &mut Option<(Live, G)>,
        allowance: Duration,
        lost: impl Fn(),
        call: impl FnOnce(&G, &mut Store<State>) -> Answer<R>,
    ) -> Result<R, Fault> {
        let (mut live, guest) = match seated.take() {
            Some(pair) => pair,
            None => {
                lost();
                self.fresh()
                    .inspect_err(|fault| self.program.context.stats.note_fault(fault))?
            }
        };
        let answer = live.call(allowance, |store| call(&guest, store));
        if survives(&answer) {
            *seated = Some((live, guest));
        } else {
            lost();
        }
        answer
    }

    /// Retires the instance, as after a fault that voids its state.
    pub(crate) fn retire(&self) {
        *lock(&self.seated) = None;
    }

    /// Looks at the instance between calls, for a hand-off.
    pub(crate) fn between_calls<R>(&self, look: impl FnOnce(&Program, &mut Option<(Live, G)>) -> R) -> R {
        look(&self.program, &mut lock(&self.seated))
    }
}
