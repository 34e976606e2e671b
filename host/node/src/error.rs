//! Why the kubelet could not do something, named for what it was doing.

use std::path::PathBuf;

/// The crate's one error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Node object could not be created or read.
    #[error("registering node {node:?}: {source}")]
    Register {
        /// Its name.
        node: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The pods of this node could not be listed.
    #[error("first list: {0}")]
    FirstList(#[from] capstan_client::NotSynced),
    /// The runtime did not answer.
    #[error("runtime: {0}")]
    Runtime(#[from] capstan_runtime::Error),
    /// A folder of the kubelet's could not be made.
    #[error("making {path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: std::io::Error,
    },
    /// A fact about the machine could not be read.
    #[error("reading {what}: {source}")]
    Machine {
        /// Which.
        what: &'static str,
        /// How it failed.
        #[source]
        source: std::io::Error,
    },
    /// An option makes no sense.
    #[error("option {name}: {message}")]
    Option {
        /// Which.
        name: &'static str,
        /// What is wrong, and what would be right.
        message: String,
    },
}

/// What the crate's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
