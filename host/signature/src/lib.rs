//! Signatures of components: ECDSA keys over P-256, Sigstore's bundle format and the older signed statements. Pure, but for making a key.
//!
//! A bundle is checked against the public keys that a cluster is given, offline: no transparency log and no time is
//! asked for. Invariant: what verifies was signed by the key, byte for byte. Called by the plugin host and by the
//! author's commands. Not here: whom a cluster trusts for what, certificates, attestations.

mod bundle;
mod key;
mod statement;

pub use bundle::Bundle;
pub use key::{PrivateKey, PublicKey};
pub use statement::Statement;

/// A signature in any form that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Evidence {
    Bundle(Bundle),
    Statement(Statement),
}

impl Evidence {
    /// Checks that this key signed these very bytes.
    ///
    /// # Errors
    /// [`Error::Changed`] where they are not what was signed, [`Error::Forged`] where the key did not sign.
    pub fn verify(&self, key: &PublicKey, component: &[u8]) -> Result<(), Error> {
        match self {
            Self::Bundle(bundle) => bundle.verify(key, component),
            Self::Statement(statement) => statement.verify(key, component),
        }
    }
}

/// Why a signature is not accepted, or not made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{what} is not PEM text of kind {wanted}: {message}")]
    Pem {
        what: &'static str,
        wanted: &'static str,
        message: String,
    },
    #[error("{0} is not an ECDSA key over P-256; `capstan plugin keygen` makes one")]
    NotP256(&'static str),
    #[error("the signature bundle cannot be read: {0}")]
    Bundle(String),
    #[error(
        "the component is not what was signed: the signature is over sha256:{signed}, the component is sha256:{found}"
    )]
    Changed { signed: String, found: String },
    #[error("the signature was not made by this key")]
    Forged,
    #[error("this machine gives no random numbers")]
    Random,
}
