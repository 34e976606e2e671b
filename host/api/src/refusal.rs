//! How inner failures look to a client: each becomes a `metav1.Status`.

use capstan_kinds::resource::Resource;
use capstan_kinds::status::{OBJECT_MODIFIED, Status, StatusCause};

use crate::registry::{ReadError, WriteError};

/// Why a request is refused.
pub(crate) type Refusal = Box<Status>;

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        Box::new(match error {
            ReadError::Store(error) => of_store(&error),
            ReadError::TooLarge { .. } => {
                let cause = StatusCause {
                    reason: "ResourceVersionTooLarge".into(),
                    message: "Too large resource version".into(),
                    field: String::new(),
                };
                Status::timeout(error.to_string(), 1).with_causes(vec![cause])
            }
        })
    }
}

/// A write's failure as its client sees it.
pub(crate) fn of_write(error: WriteError, resource: &Resource, name: &str) -> Refusal {
    Box::new(match error {
        WriteError::Conflict => Status::conflict(resource, name, OBJECT_MODIFIED),
        WriteError::Store(error) => of_store(&error),
    })
}

pub(crate) fn of_store(error: &capstan_store::Error) -> Status {
    use capstan_store::Error;
    match error {
        Error::Compacted { .. } => Status::expired(
            "The provided continue parameter or resource version is too old: the server keeps history for a \
             limited time. Start the list again without it.",
        ),
        Error::FutureRevision { revision } => {
            Status::timeout(format!("Too large resource version, current: {revision}"), 1)
        }
        Error::Unavailable(_) => Status::unavailable(error.to_string()),
        Error::NoSpace(_) => Status::failure(507, "InsufficientStorage", error.to_string()),
        // The write may have happened: a timeout, never a refusal.
        Error::Unknown(_) => Status::timeout(error.to_string(), 1),
        _ => Status::internal(error),
    }
}
