use std::fmt;

/// Why a policy could not answer. It is an error of the policy or its host, never a verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// One line for a human.
    pub message: String,
    /// Whether the same call may succeed later.
    pub retry: bool,
}

/// The kinds of fault, as they show in a Plugin's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The component trapped: a panic, an `unreachable`, an access out of bounds.
    Trap,
    /// The call outran its deadline and was stopped.
    Deadline,
    /// The component asked for more memory than its limit.
    Memory,
    /// The answer was larger than its bound, or made no sense.
    Garbage,
    /// The component itself answered with a fault.
    Reported,
    /// The host could not make the call: overload, shutdown.
    Host,
}

impl Fault {
    /// A fault of the given kind that is not worth repeating.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry: false,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline exceeded",
            Self::Memory => "memory limit exceeded",
            Self::Garbage => "invalid answer",
            Self::Reported => "fault",
            Self::Host => "host",
        })
    }
}
