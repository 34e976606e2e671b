//! Keeps a member going: one whose store has stopped, because the disk was full or failed, is opened anew in
//! the same process, which checks all that is on the disk.

use std::future::Future;
use std::time::Duration;

use capstan_store::Error;

use super::{Config, Process, ProcessError};

/// The pause before each try to open the store anew.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Runs a member until `stop`; `serving` is told of it at each start.
///
/// # Errors
/// When it cannot start, or cannot start anew for more than a full disk or a busy folder: what is damaged is
/// never opened.
pub async fn keep(
    config: Config,
    stop: impl Future<Output = ()>,
    mut serving: impl FnMut(&Process),
) -> Result<(), ProcessError> {
    tokio::pin!(stop);
    let mut process = tokio::select! {
        process = Process::start(config.clone()) => process?,
        () = stop.as_mut() => return Ok(()),
    };
    loop {
        serving(&process);
        let failure = tokio::select! {
            failure = process.store().failed() => failure,
            () = stop.as_mut() => {
                process.stop().await;
                return Ok(());
            }
        };
        tracing::error!(%failure, "the store has stopped and is opened anew");
        process.stop().await;
        process = loop {
            tokio::select! {
                () = tokio::time::sleep(REOPEN_AFTER) => {}
                () = stop.as_mut() => return Ok(()),
            }
            match Process::start(config.clone()).await {
                Ok(process) => break process,
                Err(ProcessError::Store(error @ (Error::NoSpace(_) | Error::Unavailable(_)))) => {
                    tracing::warn!(%error, "the store cannot be opened yet");
                }
                Err(error) => return Err(error),
            }
        };
    }
}
