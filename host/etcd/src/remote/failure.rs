//! What a failed call means: the store's error, and whether trying again is safe.
//!
//! Pure. A write that may have reached the log is never tried again.

use capstan_store::{Error, Refusal};
use tonic::{Code, Status};

use super::connections::Effect;
use crate::link::LinkError;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Hand the error on.
    GiveUp,
    /// Nothing happened, or it was a read: ask another member.
    Elsewhere,
    /// The token is worn out: get another one, then again.
    Authenticate,
}

/// A failed call.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) next: Next,
}

impl Failure {
    pub(super) fn of(status: &Status, effect: Effect) -> Self {
        match LinkError::of(status) {
            Some(error @ LinkError::NotSent { .. }) => return Self::unsent(error.to_string()),
            Some(error @ LinkError::Broken { .. }) => return Self::ambiguous(error.to_string(), effect),
            None => {}
        }
        match Refusal::of_message(status.message()) {
            Some(refusal) => Self::refused(refusal, effect),
            None => Self::unnamed(status, effect),
        }
    }

    /// No answer in time.
    pub(super) fn timed_out(effect: Effect) -> Self {
        Self::ambiguous("no answer in time".into(), effect)
    }

    fn refused(refusal: Refusal, effect: Effect) -> Self {
        use Refusal as R;
        let text = refusal.message().to_owned();
        match refusal {
            R::NoLeader | R::NotCapable | R::NotSupportedForLearner | R::TooManyRequests => {
                Self::unsent(text)
            }
            R::InvalidAuthToken | R::AuthOldRevision | R::UserEmpty => Self {
                error: Error::Refused(refusal),
                next: Next::Authenticate,
            },
            R::LeaderChanged
            | R::NotLeader
            | R::Stopped
            | R::Timeout
            | R::TimeoutDueToLeaderFail
            | R::TimeoutDueToConnectionLost
            | R::TimeoutWaitAppliedIndex
            | R::Cancelled
            | R::DeadlineExceeded => Self::ambiguous(text, effect),
            R::NoSpace => Self::last(Error::NoSpace("the remote store has used up its quota".into())),
            R::Corrupt => Self::last(Error::Corrupt(text)),
            other => Self::last(other.into()),
        }
    }

    fn unnamed(status: &Status, effect: Effect) -> Self {
        let text = status.message();
        let is_too_large = text.contains("larger than max") || text.contains("message length too large");
        match status.code() {
            Code::ResourceExhausted | Code::OutOfRange if is_too_large => {
                Self::last(Error::Refused(Refusal::RequestTooLarge))
            }
            Code::Unavailable
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Internal
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::Ok => Self::ambiguous(text.to_owned(), effect),
            Code::DataLoss => Self::last(Error::Corrupt(text.to_owned())),
            _ => Self::last(Error::Invalid(text.to_owned())),
        }
    }

    fn unsent(text: String) -> Self {
        Self {
            error: Error::Unavailable(text),
            next: Next::Elsewhere,
        }
    }

    fn ambiguous(text: String, effect: Effect) -> Self {
        match effect {
            Effect::Read => Self::unsent(text),
            Effect::Write | Effect::SlowWrite => Self::last(Error::Unknown(text)),
        }
    }

    fn last(error: Error) -> Self {
        Self {
            error,
            next: Next::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_did_not_happen_is_tried_again() {
        let named = |refusal: Refusal| Status::unavailable(refusal.message());
        for (status, read, write) in [
            (named(Refusal::NoLeader), Next::Elsewhere, Next::Elsewhere),
            (named(Refusal::Timeout), Next::Elsewhere, Next::GiveUp),
            (named(Refusal::LeaderChanged), Next::Elsewhere, Next::GiveUp),
            (named(Refusal::Stopped), Next::Elsewhere, Next::GiveUp),
            (
                named(Refusal::InvalidAuthToken),
                Next::Authenticate,
                Next::Authenticate,
            ),
            (named(Refusal::DuplicateKey), Next::GiveUp, Next::GiveUp),
            (
                Status::unavailable("transport is closing"),
                Next::Elsewhere,
                Next::GiveUp,
            ),
            (Status::unimplemented("?"), Next::GiveUp, Next::GiveUp),
        ] {
            assert_eq!(Failure::of(&status, Effect::Read).next, read, "{status}");
            assert_eq!(Failure::of(&status, Effect::Write).next, write, "{status}");
        }
        let timed_out = Failure::of(&named(Refusal::Timeout), Effect::Write);
        assert!(matches!(timed_out.error, Error::Unknown(_)));
        let compacted = Failure::of(&Status::out_of_range(Refusal::Compacted.message()), Effect::Read);
        assert!(matches!(compacted.error, Error::Compacted { .. }));
        let large = Status::resource_exhausted("grpc: received message larger than max (3 vs. 2)");
        let large = Failure::of(&large, Effect::Write);
        assert!(matches!(large.error, Error::Refused(Refusal::RequestTooLarge)));
    }
}
