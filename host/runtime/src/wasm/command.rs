//! `wasi:cli` commands: run to completion, or until stopped.
//!
//! WASI 0.2 has no signals, so that a command cannot know of SIGTERM; it ends at once, as a process does that
//! does not handle it. Stopping drops the call, which unwinds the guest at its next epoch tick or host call.

use std::sync::Arc;

use tokio::sync::watch;
use wasmtime::Store;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::{Command, CommandPre};

use super::engine::Machine;
use super::guest::{Guest, GuestPlan};
use super::limits::Metered;
use crate::logs::Stream;
use crate::task::{self, EXIT_ABORTED, EXIT_KILLED, EXIT_TERMINATED, Exit, Running, Signal};
use crate::{Error, Result};

/// Starts a command on the guests' threads.
pub(crate) async fn start(
    machine: Arc<Machine>,
    pre: CommandPre<Guest>,
    plan: Arc<GuestPlan>,
    mut signals: watch::Receiver<Signal>,
) -> Result<Running> {
    let mut store = plan.store(&machine)?;
    let (for_start, its_plan) = (Arc::clone(&machine), Arc::clone(&plan));
    let instantiated = machine.spawn(async move {
        let _ticking = for_start.ticking();
        let call = Metered::new(pre.instantiate_async(&mut store), Arc::clone(&its_plan.allowance)).await;
        let command =
            call.map_err(|error| Error::Container(format!("the component does not start: {error:#}")))?;
        Ok((store, command))
    });
    let (store, command) = super::started(instantiated).await?;
    let call = Arc::clone(&machine);
    let running = machine.spawn(async move {
        let _ticking = call.ticking();
        tokio::select! {
            biased;
            asked = task::asked(&mut signals, Signal::Terminate) => match asked {
                Signal::Kill => Exit::with_code(EXIT_KILLED),
                _ => Exit::with_code(EXIT_TERMINATED),
            },
            exit = run(store, command, &plan) => exit,
        }
    });
    Ok(Box::pin(async move {
        let _machine = machine;
        running
            .await
            .unwrap_or_else(|error| Exit::failed(EXIT_ABORTED, format!("the host failed: {error}")))
    }))
}

async fn run(mut store: Store<Guest>, command: Command, plan: &GuestPlan) -> Exit {
    store.set_epoch_deadline(1);
    let call = Metered::new(
        command.wasi_cli_run().call_run(&mut store),
        Arc::clone(&plan.allowance),
    );
    match call.await {
        Ok(Ok(())) => Exit::with_code(0),
        Ok(Err(())) => Exit::with_code(1),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => Exit::with_code(*code),
            None => trapped(&error, plan),
        },
    }
}

/// A trap, or memory that ran out, as an exit; told in the log too.
pub(crate) fn trapped(error: &wasmtime::Error, plan: &GuestPlan) -> Exit {
    plan.log
        .stream(Stream::Stderr)
        .note(&format!("the component trapped: {error:?}"));
    match plan.allowance.exhausted_memory() {
        Some(limit) => Exit::out_of_memory(limit),
        None => Exit::failed(
            EXIT_ABORTED,
            format!("the component trapped: {}", error.root_cause()),
        ),
    }
}
