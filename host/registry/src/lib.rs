//! OCI registries as everything here speaks to them: references, logins, documents and blobs, and the layout of a
//! Wasm component with its signatures.
//!
//! Invariants: whatever comes back was compared with the digest that it was asked by and is bounded in size; a
//! registry on this machine is spoken to in HTTP, any other in HTTPS. Used by the image store, the plugin host and the
//! author's commands. Not here: where fetched things are kept, and who is trusted.

pub mod archive;
mod client;
mod component;
mod login;
pub mod reference;
pub mod signatures;

pub use client::{DOCUMENT_BYTES_MAX, Digested, Registry, digest_of};
pub use component::{About, Artifact, Package, WASM_CONFIG, WASM_LAYER, documents};
pub use login::Login;
pub use oci_spec::distribution::Reference;
pub use signatures::Signature;

/// Why a registry or an archive did not give or take what was asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("couldn't parse image name \"{text}\": {wrong}")]
    Reference { text: String, wrong: &'static str },
    /// The registry's own answer, with its causes.
    #[error("{0}")]
    Answer(String),
    /// The registry has no such manifest.
    #[error("{0}")]
    Missing(String),
    #[error("the manifest has {size} bytes, more than {DOCUMENT_BYTES_MAX}")]
    DocumentTooLarge { size: usize },
    #[error("the component has {size} bytes, more than {max}")]
    ComponentTooLarge { size: u64, max: u64 },
    #[error("the registry answered {wanted} with {found}")]
    OtherDigest { wanted: String, found: String },
    #[error("{what} is damaged: {message}")]
    Damaged { what: &'static str, message: String },
    #[error("it holds no WebAssembly component: {0}")]
    NoComponent(String),
    #[error("{path}: {source}")]
    Archive {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
}
