//! The crate's one error type: text from a user that could not be read. Each variant names what was
//! being parsed and keeps the original's wording, since the API server hands the text on to clients.
//! Patches have their own `patch::PatchError`, because their kinds map to different HTTP codes.

/// Text from a user that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A label selector string or a `metav1.LabelSelector` document.
    #[error("unable to parse requirement: {0}")]
    ParseLabelSelector(String),
    /// A field selector string.
    #[error("{0}")]
    ParseFieldSelector(String),
    /// A resource quantity such as `100m` or `1Gi`.
    #[error("{0}")]
    ParseQuantity(&'static str),
}
