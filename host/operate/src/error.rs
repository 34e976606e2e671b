//! Why an operator's command did not do what it was asked.

use std::path::PathBuf;

use capstan_plugin::{HostError, LoadError};

/// One variant an operation; each says what would be right.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error("cannot read the kubeconfig: {0}; name one with --kubeconfig")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("cannot reach the cluster: {0}")]
    Reach(kube::Error),
    #[error("cannot read plugin {name}: {source}")]
    ReadPlugin { name: String, source: kube::Error },
    #[error("cannot write plugin {name}: {source}")]
    WritePlugin { name: String, source: kube::Error },
    #[error("plugin {name}: {message}")]
    Plugin { name: String, message: String },
    #[error("cannot ask node {node} what plugin {name} said: {source}")]
    AskNode {
        node: String,
        name: String,
        source: kube::Error,
    },
    #[error("node {node} gave no list of entries: {source}")]
    Entries {
        node: String,
        source: serde_json::Error,
    },
    #[error("{path}: {message}")]
    Manifest { path: PathBuf, message: String },
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("cannot make a folder for compiled components: {0}")]
    Folder(std::io::Error),
    #[error("the policy cannot be loaded: {0}")]
    Load(#[from] LoadError),
    #[error("cannot look through the cluster: {0}")]
    Walk(kube::Error),
}
