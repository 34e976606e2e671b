//! What a running container looks like to the one who started it, whichever runtime runs it.
//!
//! A runtime gets a [`Signal`] to watch and ends with one [`Exit`]. The signal only ever rises, so that a late
//! reader misses nothing.

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::LinuxContainerResources;

/// Exit code of what was ended by SIGKILL.
pub(crate) const EXIT_KILLED: i32 = 137;
/// Exit code of what was ended by SIGTERM.
pub(crate) const EXIT_TERMINATED: i32 = 143;
/// Exit code of what aborted by its own fault.
pub(crate) const EXIT_ABORTED: i32 = 134;
/// Exit code of what was lost with the process that ran it.
pub(crate) const EXIT_LOST: i32 = 255;

/// What is asked of a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// Go on.
    Run,
    /// End in good order.
    Terminate,
    /// End now.
    Kill,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    /// `Completed`, `Error` or `OOMKilled`.
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Exit {
    /// An end with that code and nothing to add.
    pub(crate) fn with_code(code: i32) -> Self {
        let reason = if code == 0 { "Completed" } else { "Error" };
        Self {
            code,
            reason: reason.into(),
            message: String::new(),
        }
    }

    /// An end that needs words.
    pub(crate) fn failed(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: "Error".into(),
            message: message.into(),
        }
    }

    /// Memory was refused and the workload could not go on without.
    pub(crate) fn out_of_memory(limit_bytes: u64) -> Self {
        let message = format!("the container reached its memory limit of {limit_bytes} bytes");
        Self {
            code: EXIT_KILLED,
            reason: "OOMKilled".into(),
            message,
        }
    }
}

/// A started container: ends with its exit, which the starter must await.
pub(crate) type Running = BoxFuture<'static, Exit>;

/// What a process is to be given, decided from the image and the container's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) args: Vec<String>,
    pub(crate) envs: Vec<(String, String)>,
    pub(crate) working_dir: String,
    /// As an image writes it: a name or number, with a group after a colon.
    pub(crate) user: String,
    pub(crate) ports: Vec<u16>,
    pub(crate) resources: LinuxContainerResources,
}

/// Waits until at least that is asked.
pub(crate) async fn asked(signals: &mut watch::Receiver<Signal>, least: Signal) -> Signal {
    match signals.wait_for(|signal| *signal >= least).await {
        Ok(signal) => *signal,
        Err(_) => Signal::Kill,
    }
}
