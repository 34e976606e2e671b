//! The crate's error, and which failures of a write a level-triggered controller shrugs off.

use capstan_client::NotSynced;

/// Why a controller could not do its work this time. All are retried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// An informer has no first list.
    #[error("{0}")]
    Sync(#[from] NotSynced),
    /// An object makes no sense to the controller.
    #[error("{0}")]
    Object(String),
    /// Several of a batch of writes failed; the first.
    #[error("{failed} of {asked} writes failed, first: {first}")]
    Batch {
        /// How many failed.
        failed: usize,
        /// How many there were.
        asked: usize,
        /// The first failure.
        #[source]
        first: kube::Error,
    },
}

impl Error {
    /// Whether this happens in the ordinary course of things: another wrote first, or the object is gone.
    pub(crate) fn is_routine(&self) -> bool {
        match self {
            Self::Api(error) | Self::Batch { first: error, .. } => is(error, 409) || is(error, 404),
            _ => false,
        }
    }
}

/// Whether the API server answered with this HTTP code.
pub(crate) fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// Whether the API server refused because the namespace is going away.
pub(crate) fn is_terminating(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403
        && (status.message.contains("being terminated")
            || status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")))
}

/// Failures that mean that somebody else has already brought about what we want.
pub(crate) trait Tolerate<T> {
    /// `None` when the object is gone.
    fn or_gone(self) -> Result<Option<T>, kube::Error>;
    /// `None` when the object is there already, or its namespace is going away.
    fn or_exists(self) -> Result<Option<T>, kube::Error>;
}

impl<T> Tolerate<T> for Result<T, kube::Error> {
    fn or_gone(self) -> Result<Option<T>, kube::Error> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if is(&error, 404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn or_exists(self) -> Result<Option<T>, kube::Error> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if is(&error, 404) || is_terminating(&error) => Ok(None),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
            Err(error) => Err(error),
        }
    }
}
