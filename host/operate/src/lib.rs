//! The plugin operator's commands: `capstan plugin history | rollback | promote | decisions | logs | dry-run`.
//!
//! They work on a live cluster as a client of its API, with the kubeconfig that kubectl would take. What a plugin said
//! is asked of each node that runs it, by the API server's node proxy. Called by the binary. Not here: what a revision,
//! a trial and a decision are (`capstan-plugin`).

mod cluster;
mod dry_run;
mod error;
mod history;
mod lines;

use std::path::PathBuf;

use capstan_plugin::Bundled;
use clap::{Args, Subcommand};

pub use error::Error;

/// What can be done with the plugins of a cluster.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the revisions of a plugin and what became of each
    History(Named),
    /// Return a plugin to an earlier revision
    Rollback(Rollback),
    /// Let a plugin's revision on trial serve from now on
    Promote(Named),
    /// Print what an admission plugin decided lately
    Decisions(Lately),
    /// Print what a plugin logged lately
    Logs(Lately),
    /// Say what a policy would refuse of all that a cluster has today, without loading it there
    DryRun(DryRun),
}

/// How the cluster is reached.
#[derive(Debug, Args)]
pub struct Reach {
    /// As kubectl's: KUBECONFIG or ~/.kube/config by default
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Options of `history` and `promote`.
#[derive(Debug, Args)]
pub struct Named {
    /// Name of the Plugin object
    pub name: String,
    /// The cluster
    #[command(flatten)]
    pub reach: Reach,
}

/// Options of `rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Name of the Plugin object
    pub name: String,
    /// Number of the revision, as `history` prints it; the last that served well before this one by default
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    /// The cluster
    #[command(flatten)]
    pub reach: Reach,
}

/// Options of `decisions` and `logs`.
#[derive(Debug, Args)]
pub struct Lately {
    /// Name of the Plugin object
    pub name: String,
    /// Go on until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Print JSON, one entry a line
    #[arg(long)]
    pub json: bool,
    /// The cluster
    #[command(flatten)]
    pub reach: Reach,
}

/// Options of `dry-run`.
#[derive(Debug, Args)]
pub struct DryRun {
    /// A Plugin manifest
    pub file: PathBuf,
    /// The cluster
    #[command(flatten)]
    pub reach: Reach,
}

/// Carries the command out, and prints what came of it. `bundled` are the components of `source: {bundled: …}`.
///
/// # Errors
/// See [`Error`].
pub fn run(command: Command, bundled: impl FnOnce() -> Bundled) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(async {
        match command {
            Command::History(options) => history::print(&options).await,
            Command::Rollback(options) => history::roll_back(&options).await,
            Command::Promote(options) => history::promote(&options).await,
            Command::Decisions(options) => lines::decisions(&options).await,
            Command::Logs(options) => lines::logs(&options).await,
            Command::DryRun(options) => dry_run::run(&options, bundled()).await,
        }
    })
}
