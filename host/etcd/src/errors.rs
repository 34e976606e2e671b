//! The store's errors as gRPC statuses, with etcd's own codes and messages.

use capstan_store::{Error, Refusal};
use tonic::{Code, Status};

/// The status that etcd answers with.
pub(crate) fn refused(refusal: Refusal) -> Status {
    Status::new(Code::from_i32(refusal.code().number()), refusal.message())
}

/// The same for any error. What etcd has no name for keeps its own words: they are the operator's help.
pub(crate) fn status(error: Error) -> Status {
    if let Some(refusal) = error.refusal() {
        return refused(refusal);
    }
    match error {
        Error::Invalid(text) => Status::invalid_argument(text),
        // A client takes a timeout for what it is: the write may have been carried out.
        Error::Unknown(text) => {
            tracing::warn!(text, "the outcome of a request is unknown");
            refused(Refusal::Timeout)
        }
        error => Status::unavailable(format!("etcdserver: {error}")),
    }
}

/// For `map_err(status_of)` where the error may be a refusal as well.
pub(crate) fn status_of(error: impl Into<Error>) -> Status {
    status(error.into())
}
