//! Container logs on disk: CRI's line format, following a growing file, and reading for `kubectl logs`.

pub(crate) mod follow;
pub(crate) mod format;
pub(crate) mod read;
pub(crate) mod splice;
