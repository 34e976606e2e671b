//! What a cluster is before it runs: its data folder, certificates and kubeconfigs.
//!
//! Invariants: one process owns a data folder at a time; private keys are readable by their owner alone; what
//! is there is used again, what is damaged is said and left alone. Called by the composition root. Not here
//! yet: init and join, tokens, upgrade, backup.

mod data_dir;
mod kubeconfig;
mod pki;

pub use data_dir::{DataDir, DataDirError};
pub use kubeconfig::kubeconfig;
pub use pki::{Identity, Pki, PkiError};
