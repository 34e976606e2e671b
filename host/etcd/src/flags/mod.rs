//! etcd's flags and environment variables, and what they mean for a member.
//!
//! Names, defaults and the words of refusals are etcd's. [`Arguments`] is given to clap by the binary and the
//! example; [`Arguments::config`] turns it into a [`Config`](crate::process::Config), asking the DNS where that
//! is wanted. Flags of etcd that would mean nothing here are taken and ignored, so that its unit files and
//! manifests go on working.

mod arguments;
mod cluster;
mod duration;
mod founder;
mod member;

pub use arguments::{Arguments, LogLevel};
pub use cluster::{Members, members};

/// etcd's defaults, which count as flags that were not given.
const NAME: &str = "default";
const TOKEN: &str = "etcd-cluster";

/// Why flags make no member.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// Flags that do not go together, or a value that means nothing.
    #[error("{0}")]
    Bad(String),
    /// The DNS does not say who the members are.
    #[error(transparent)]
    Discovery(#[from] crate::discovery::DiscoveryError),
    /// What a restore left in the data folder cannot be read.
    #[error(transparent)]
    Restored(#[from] crate::backup::BackupError),
    /// The data folder cannot be read.
    #[error(transparent)]
    Store(#[from] capstan_store::Error),
}

impl FlagError {
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::Bad(text.into())
    }
}
