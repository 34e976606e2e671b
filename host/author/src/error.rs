//! Why an author's command did not do what it was asked.

use std::path::PathBuf;
use std::process::ExitStatus;

use capstan_plugin::{HostError, LoadError};

/// One variant an operation; each says what would be right.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{0} is not empty; name a folder that is not there yet")]
    NotEmpty(PathBuf),
    #[error(
        "{0:?} is not a plugin's name: lower-case letters, digits and single dashes between, such as rack-spread"
    )]
    Name(String),
    #[error("there is no {language} template of the {world} world; there are: {known}")]
    Template {
        language: String,
        world: String,
        known: String,
    },
    #[error("{0} holds no plugin's project: neither Cargo.toml, plugin.py, plugin.js nor plugin.c is there")]
    NoProject(PathBuf),
    #[error("cannot start {program}: {source}; {way_out}")]
    Start {
        program: String,
        source: std::io::Error,
        way_out: String,
    },
    #[error("{program} ended with {status}")]
    Failed { program: String, status: ExitStatus },
    #[error("{0}")]
    Toolchain(String),
    #[error("cannot make a component of {path}: {message}")]
    Encode { path: PathBuf, message: String },
    #[error("{path}: {message}")]
    Cases { path: PathBuf, message: String },
    #[error("{path}, case {case:?}: {message}")]
    Case {
        path: PathBuf,
        case: String,
        message: String,
    },
    #[error("{path}: {source}")]
    Load { path: PathBuf, source: LoadError },
    #[error("{path}: {source}")]
    Signature {
        path: PathBuf,
        source: capstan_signature::Error,
    },
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Registry(#[from] capstan_registry::Error),
    #[error("{0}")]
    Cluster(String),
    #[error("plugin/{0} is not ready; what ran before goes on")]
    NotReady(String),
    #[error("cannot watch {path}: {source}")]
    Watch { path: PathBuf, source: notify::Error },
    #[error("{failed} of {total} cases failed")]
    Failing { failed: usize, total: usize },
}
