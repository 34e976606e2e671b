//! One running instance: a store, and calls into it that always end.
//!
//! Every call has a budget and a ticker, and gives a value or a [`Fault`]. After a severe fault the instance
//! must not be used again: whoever holds it drops it. Called by the bridges and by `program`.

use std::sync::Arc;
use std::time::Duration;

use capstan_points::{Fault, FaultKind};
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::bindings::types;
use crate::budget::{Budget, Overrun};
use crate::limits::{INIT_DEADLINE, OUTPUT_MAX_BYTES};
use crate::state::{Context, State};
use crate::ticker::Ticker;

/// Bytes of a trap's text that are kept.
const TRAP_TEXT_MAX: usize = 600;
/// Functions that a trap's text names.
const TRAP_FRAMES_MAX: usize = 3;
/// Functions that stand between a mistake and its trap and say nothing about it.
const MACHINERY: [&str; 8] = [
    "<wasm function",
    "core::panicking",
    "core::option",
    "core::result",
    "__rust",
    "rust_",
    "std::",
    "alloc::",
];

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
            let state = store.data_mut();
            state.budget.on_tick()?;
            Ok(match state.in_slices {
                true => UpdateDeadline::Yield(1),
                false => UpdateDeadline::Continue(1),
            })
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
        self.record(&answer);
        answer
    }

    /// As [`Live::call`], but at each tick the future is pending for a moment: whoever polls it runs the guest for a
    /// tick at most, and may have another thread go on.
    pub(crate) async fn call_in_slices<R>(
        &mut self,
        allowance: Duration,
        call: impl AsyncFnOnce(&mut Store<State>) -> Answer<R>,
    ) -> Result<R, Fault> {
        let deadline = self.store.data().context.limits.deadline + allowance;
        self.begin(deadline);
        self.store.data_mut().in_slices = true;
        let running = self.ticker.enter();
        let result = call(&mut self.store).await;
        drop(running);
        self.store.data_mut().in_slices = false;
        let answer = result.map_err(|error| fault(&error, self.store.data()));
        let answer = answer.and_then(reported);
        self.record(&answer);
        answer
    }

    fn record<R>(&self, answer: &Result<R, Fault>) {
        let state = self.store.data();
        state
            .context
            .stats
            .record(state.budget.elapsed(), answer.as_ref().err());
    }

    fn begin(&mut self, deadline: Duration) {
        self.store.data_mut().budget = Budget::start(deadline);
        self.store.data_mut().memory_refused = false;
        self.store.set_epoch_deadline(1);
    }

    fn run<R>(
        &mut self,
        deadline: Duration,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        self.begin(deadline);
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
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let text = cut(error.root_cause().to_string() + &backtrace.map(place).unwrap_or_default());
    if state.memory_refused {
        let limit = state.context.limits.memory_bytes;
        return Fault::new(
            FaultKind::Memory,
            format!("asked for more than its {limit} bytes ({text})"),
        );
    }
    if backtrace.is_some() || error.downcast_ref::<Trap>().is_some() {
        return Fault::new(FaultKind::Trap, text);
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        let message = format!("no room for one more instance: {text}");
        return Fault {
            kind: FaultKind::Host,
            message,
            retry: true,
        };
    }
    // What is left is an answer that the canonical ABI refuses: bad pointers, bad text, too much of it.
    Fault::new(FaultKind::Garbage, text)
}

/// The innermost functions of the plugin's own, as far as their names are known.
fn place(backtrace: &WasmBacktrace) -> String {
    let text = backtrace.to_string();
    let is_own = |name: &&str| !MACHINERY.iter().any(|prefix| name.starts_with(prefix));
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once('!').map(|(_, name)| name))
        .filter(is_own)
        .take(TRAP_FRAMES_MAX)
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(", in {}", names.join(" < "))
    }
}

fn cut(mut text: String) -> String {
    let mut end = text.len().min(TRAP_TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
