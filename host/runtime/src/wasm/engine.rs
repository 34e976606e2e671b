//! The machine that guests run on: one engine, its linker, its threads, and the epoch ticker.
//!
//! Guests run on a runtime of their own, never on the host's workers; they yield at each epoch tick, so that
//! a spinning guest starves neither another guest nor its own stop. The ticker is an OS thread that sleeps
//! for good while no guest runs. Made at the first Wasm container.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, EngineWeak};

use super::guest::Guest;
use crate::{Error, Result};

/// How often a running guest is interrupted.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Threads that run guests, at least: one guest's host call that blocks leaves one for the others.
const THREADS_MIN: usize = 2;
/// Threads for guests' file operations.
const BLOCKING_THREADS_MAX: usize = 32;

/// Engine, linker and threads of all guests.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<Guest>,
    ticker: Arc<Ticker>,
    /// Taken when dropped: a runtime must not be waited for in async code.
    threads: Option<Runtime>,
}

#[derive(Debug)]
struct Ticker {
    calls: AtomicUsize,
    is_over: AtomicBool,
    thread: Thread,
}

impl Machine {
    pub(crate) fn new() -> Result<Self> {
        Self::build().map_err(|error| Error::Container(format!("the Wasm engine does not start: {error:#}")))
    }

    fn build() -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let threads = thread::available_parallelism()
            .map_or(THREADS_MIN, usize::from)
            .max(THREADS_MIN);
        let threads = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("guest")
            .enable_all()
            .build()?;
        let ticker = Ticker::start(engine.weak())?;
        Ok(Self {
            engine,
            linker,
            ticker,
            threads: Some(threads),
        })
    }

    /// Runs host code that serves guests on the guests' threads.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime().spawn(task)
    }

    /// Runs long computation (compiling) apart from the guests.
    pub(crate) fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime().spawn_blocking(work)
    }

    /// Keeps the ticker going while a guest's call runs.
    pub(crate) fn ticking(&self) -> Ticking {
        if self.ticker.calls.fetch_add(1, SeqCst) == 0 {
            self.ticker.thread.unpark();
        }
        Ticking(Arc::clone(&self.ticker))
    }

    fn runtime(&self) -> &Runtime {
        self.threads.as_ref().expect("taken only when dropped")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.ticker.is_over.store(true, SeqCst);
        self.ticker.thread.unpark();
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// Held during a guest's call.
#[derive(Debug)]
pub(crate) struct Ticking(Arc<Ticker>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, SeqCst);
    }
}

impl Ticker {
    fn start(engine: EngineWeak) -> std::io::Result<Arc<Self>> {
        let (sender, receiver) = std::sync::mpsc::channel::<Arc<Self>>();
        let handle = thread::Builder::new()
            .name("guest-ticker".into())
            .spawn(move || {
                let Ok(ticker) = receiver.recv() else { return };
                ticker.run(&engine);
            })?;
        let thread = handle.thread().clone();
        let ticker = Arc::new(Self {
            calls: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            thread,
        });
        sender.send(Arc::clone(&ticker)).map_err(std::io::Error::other)?;
        Ok(ticker)
    }

    fn run(&self, engine: &EngineWeak) {
        while !self.is_over.load(SeqCst) {
            if self.calls.load(SeqCst) == 0 {
                thread::park();
                continue;
            }
            thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    }
}
