//! Wasm workloads: `wasi:cli` commands and `wasi:http` servers, on wasmtime, without root.
//!
//! A container is a component with a process's environment; what it exports decides what it is. The machine
//! that runs guests is made when the first one starts. Compiled components are kept on disk ([`cache`]) and,
//! while something uses them, in memory. Called by [`crate::Embedded`] alone.

mod body;
mod cache;
mod command;
mod engine;
mod guest;
mod limits;
mod output;
mod serve;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;
use wasmtime::component::{Component, InstancePre};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use self::cache::CompileCache;
use self::engine::Machine;
use self::guest::Guest;
pub(crate) use self::guest::{Folder, GuestPlan};
pub(crate) use self::limits::Allowance;
use crate::task::{Running, Signal};
use crate::{Error, Result};

/// Until a component must have started.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const SERVES: &str = "wasi:http/incoming-handler@0.2";
const RUNS: &str = "wasi:cli/run@0.2";

/// The Wasm half of the runtime.
pub(crate) struct Wasm {
    machine: OnceCell<Arc<Machine>>,
    cache: CompileCache,
}

/// What a component's exports make of it.
enum Kind {
    Server(ProxyPre<Guest>),
    Command(CommandPre<Guest>),
}

impl Wasm {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            machine: OnceCell::new(),
            cache: CompileCache::new(root),
        }
    }

    /// Starts a component; `digest` is the one of `bytes`, checked.
    pub(crate) async fn start(
        &self,
        digest: String,
        bytes: Vec<u8>,
        plan: GuestPlan,
        signals: watch::Receiver<Signal>,
    ) -> Result<Running> {
        let machine = self.machine.get_or_try_init(make).await?;
        let (cache, for_compile) = (self.cache.clone(), Arc::clone(machine));
        let compiled = machine.spawn_blocking(move || {
            let component = cache.compile(&for_compile.engine, &digest, &bytes)?;
            kind_of(&for_compile, &component)
        });
        let kind = compiled
            .await
            .map_err(|error| Error::Container(format!("compiling the component: {error}")))??;
        let (machine, plan) = (Arc::clone(machine), Arc::new(plan));
        match kind {
            Kind::Server(pre) => serve::start(machine, pre, plan, signals).await,
            Kind::Command(pre) => command::start(machine, pre, plan, signals).await,
        }
    }
}

/// Makes the machine, apart from the async workers.
async fn make() -> Result<Arc<Machine>> {
    let made = tokio::task::spawn_blocking(Machine::new).await;
    made.map_err(|error| Error::Container(format!("the Wasm engine does not start: {error}")))?
        .map(Arc::new)
}

/// Waits for a component's start, and breaks it off when it takes too long.
async fn started<T>(mut starting: JoinHandle<Result<T>>) -> Result<T> {
    match tokio::time::timeout(START_TIMEOUT, &mut starting).await {
        Ok(joined) => joined.map_err(|error| Error::Container(format!("starting the component: {error}")))?,
        Err(_) => {
            starting.abort();
            Err(Error::Timeout("starting the component".into()))
        }
    }
}

fn kind_of(machine: &Machine, component: &Component) -> Result<Kind> {
    let exports: Vec<String> = component
        .component_type()
        .exports(&machine.engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    let linked = || -> Result<InstancePre<Guest>> {
        machine.linker.instantiate_pre(component).map_err(|error| {
            Error::Container(format!(
                "the component imports what this runtime does not have: {error:#}"
            ))
        })
    };
    let unfit =
        |error: wasmtime::Error| Error::Container(format!("the component's export is unfit: {error:#}"));
    if has(SERVES) {
        return ProxyPre::new(linked()?).map(Kind::Server).map_err(unfit);
    }
    if has(RUNS) {
        return CommandPre::new(linked()?).map(Kind::Command).map_err(unfit);
    }
    Err(Error::Container(format!(
        "the component exports neither {SERVES}.x (a server) nor {RUNS}.x (a command); it exports {exports:?}"
    )))
}
