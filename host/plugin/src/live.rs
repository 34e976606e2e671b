//! One running instance: a store, and calls into it that always end.
//!
//! Every call has a budget and a ticker, and gives a value or a [`Fault`]. After a severe fault the instance
//! must not be used again: whoever holds it drops it. Called by the bridges and by `program`.

use std::sync::Arc;
use std::time::Duration;

use capstan_points::{Fault, FaultKind};
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Engine, Store, Trap, UpdateDeadline};

use crate::bindings::types;
use crate::budget::{Budget, Overrun};
use crate::limits::{INIT_DEADLINE, OUTPUT_MAX_BYTES};
use crate::state::{Context, State};
use crate::ticker::Ticker;

/// Bytes of a trap's text that are kept.
const TRAP_TEXT_MAX: usize = 600;

pub(crate) struct Live {
    pub(crate) store: Store<State>,
    pub(crate) instance: Instance,
    ticker: Arc<Ticker>,
}

/// What a guest answers where it may answer with a fault.
pub(crate) type Answer<R> = wasmtime::Result<Result<R, types::Fault>>;

impl Live {
    /// A fresh instance that has run nothing but its own start.
    pub(crate) fn instantiate(
        engine: &Engine,
        ticker: &Arc<Ticker>,
        pre: &InstancePre<State>,
        context: Arc<Context>,
    ) -> Result<Self, Fault> {
        let mut store = Store::new(engine, State::new(context));
        store.limiter(|state| state);
        store.set_hostcall_fuel(OUTPUT_MAX_BYTES);
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().budget.on_tick()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store.data_mut().budget = Budget::start(INIT_DEADLINE);
        store.set_epoch_deadline(1);
        let running = ticker.enter();
        let instance = pre
            .instantiate(&mut store)
            .map_err(|error| fault(&error, store.data()))?;
        drop(running);
        Ok(Self {
            store,
            instance,
            ticker: Arc::clone(ticker),
        })
    }

    /// A call at load, which is not counted.
    pub(crate) fn initialize<R>(
        &mut self,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        self.run(INIT_DEADLINE, call)
    }

    /// A counted call with the revision's deadline plus `allowance`.
    pub(crate) fn call<R>(
        &mut self,
        allowance: Duration,
        call: impl FnOnce(&mut Store<State>) -> Answer<R>,
    ) -> Result<R, Fault> {
        let deadline = self.store.data().context.limits.deadline + allowance;
        let answer = self.run(deadline, call).and_then(reported);
        let took = self.store.data().budget.elapsed();
        self.store
            .data()
            .context
            .stats
            .record(took, answer.as_ref().err());
        answer
    }

    fn run<R>(
        &mut self,
        deadline: Duration,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        self.store.data_mut().budget = Budget::start(deadline);
        self.store.data_mut().memory_refused = false;
        self.store.set_epoch_deadline(1);
        let running = self.ticker.enter();
        let result = call(&mut self.store);
        drop(running);
        result.map_err(|error| fault(&error, self.store.data()))
    }
}

/// A guest's own fault as the host's.
pub(crate) fn reported<R>(answer: Result<R, types::Fault>) -> Result<R, Fault> {
    answer.map_err(|fault| Fault {
        kind: FaultKind::Reported,
        message: fault.message,
        retry: fault.retry,
    })
}

fn fault(error: &wasmtime::Error, state: &State) -> Fault {
    if let Some(overrun) = error.downcast_ref::<Overrun>() {
        return Fault::new(FaultKind::Deadline, overrun.to_string());
    }
    let mut text = crate::cache::chain(error).replace('\n', " ");
    let mut end = text.len().min(TRAP_TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    if state.memory_refused {
        let limit = state.context.limits.memory_bytes;
        return Fault::new(
            FaultKind::Memory,
            format!("asked for more than its {limit} bytes ({text})"),
        );
    }
    if error.downcast_ref::<Trap>().is_some() || error.downcast_ref::<wasmtime::WasmBacktrace>().is_some() {
        return Fault::new(FaultKind::Trap, text);
    }
    if error
        .downcast_ref::<wasmtime::PoolConcurrencyLimitError>()
        .is_some()
    {
        return Fault {
            kind: FaultKind::Host,
            message: format!("no room for one more instance: {text}"),
            retry: true,
        };
    }
    // What is left is an answer that the canonical ABI refuses: bad pointers, bad text, too much of it.
    Fault::new(FaultKind::Garbage, text)
}
