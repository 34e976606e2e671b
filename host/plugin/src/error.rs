//! Why a revision did not take its seat: one variant for each step of its life, one condition for each.

use std::path::PathBuf;

use capstan_points::Fault;

/// A step of a revision's life, and the condition that tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Step {
    Fetched,
    Verified,
    Compiled,
    Configured,
    Ready,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Step; 5] = [
        Self::Fetched,
        Self::Verified,
        Self::Compiled,
        Self::Configured,
        Self::Ready,
    ];

    /// The condition's type.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Fetched => "Fetched",
            Self::Verified => "Verified",
            Self::Compiled => "Compiled",
            Self::Configured => "Configured",
            Self::Ready => "Ready",
        }
    }
}

/// Why a revision was refused. The one before it keeps serving.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LoadError {
    /// A field of the Plugin object does not say what it should.
    #[error("{field}: {value:?} is not valid: must be {wanted}")]
    Spec {
        field: String,
        value: String,
        wanted: String,
        step: Step,
    },
    #[error("{what} is not supported yet: {instead}")]
    NotYetSupported {
        what: String,
        instead: String,
        step: Step,
    },
    #[error("cannot fetch {source_text}: {message}")]
    Fetch { source_text: String, message: String },
    #[error("spec.digest: the component from {source_text} has digest {found}, but {wanted} is asked for")]
    Digest {
        source_text: String,
        found: String,
        wanted: String,
    },
    #[error("not a WebAssembly component: {0}")]
    NotAComponent(String),
    #[error("wrong world: the component exports {exports}; {wanted}")]
    World { exports: String, wanted: String },
    #[error("import {import} is not granted: {way_out}")]
    Import { import: String, way_out: String },
    #[error(
        "the component is not signed, and this cluster's PluginTrust objects ask for it: set \
         spec.signature.bundle (`capstan plugin sign` makes one)"
    )]
    Unsigned,
    #[error("spec.signature: {0}")]
    Signature(String),
    #[error("the signature is good, but {0}")]
    Untrusted(String),
    #[error("cannot compile: {0}")]
    Compile(String),
    #[error("cannot link: {0}")]
    Link(String),
    #[error("{field}: {message}")]
    Config { field: String, message: String },
    #[error("the plugin cannot be started: {0}")]
    Start(Fault),
    #[error("self-test failed: {0}")]
    SelfTest(Fault),
    #[error("fails on a recorded call that the running revision answers ({input}): {fault}")]
    Replay { input: String, fault: Fault },
    #[error("cannot take over the running revision's state: {0}")]
    Warm(Fault),
    #[error(
        "this revision was rolled back after repeated faults, the last: {0}; change the component or its spec"
    )]
    RolledBack(String),
    #[error("this revision did not pass its trial: {0}; change the component or its spec")]
    Dropped(String),
}

impl LoadError {
    pub(crate) fn spec(
        field: impl Into<String>,
        value: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Self {
        Self::Spec {
            field: field.into(),
            value: value.into(),
            wanted: wanted.into(),
            step: Step::Configured,
        }
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        match self {
            Self::Spec { step, .. } | Self::NotYetSupported { step, .. } => *step,
            Self::Fetch { .. } => Step::Fetched,
            Self::Digest { .. }
            | Self::NotAComponent(_)
            | Self::World { .. }
            | Self::Import { .. }
            | Self::Unsigned
            | Self::Signature(_)
            | Self::Untrusted(_) => Step::Verified,
            Self::Compile(_) | Self::Link(_) => Step::Compiled,
            Self::Config { .. } | Self::Start(_) => Step::Configured,
            Self::SelfTest(_)
            | Self::Replay { .. }
            | Self::Warm(_)
            | Self::RolledBack(_)
            | Self::Dropped(_) => Step::Ready,
        }
    }

    /// The condition's reason, one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Spec { .. } => "InvalidSpec",
            Self::NotYetSupported { .. } => "NotYetSupported",
            Self::Fetch { .. } => "FetchFailed",
            Self::Digest { .. } => "DigestMismatch",
            Self::NotAComponent(_) => "NotAComponent",
            Self::World { .. } => "WrongWorld",
            Self::Import { .. } => "ImportNotGranted",
            Self::Unsigned => "Unsigned",
            Self::Signature(_) => "SignatureInvalid",
            Self::Untrusted(_) => "NotTrusted",
            Self::Compile(_) => "CompileFailed",
            Self::Link(_) => "LinkFailed",
            Self::Config { .. } => "ConfigInvalid",
            Self::Start(_) => "StartFailed",
            Self::SelfTest(_) => "SelfTestFailed",
            Self::Replay { .. } => "ReplayFailed",
            Self::Warm(_) => "WarmFailed",
            Self::RolledBack(_) => "RolledBack",
            Self::Dropped(_) => "TrialFailed",
        }
    }

    /// Whether trying the same again later may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Fetch { .. } | Self::Warm(_))
    }
}

/// Why a plugin host cannot open.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum HostError {
    #[error("cannot start the Wasm engine: {0}")]
    Engine(String),
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error("cannot use the compile cache {path}: {error}")]
    Cache { path: PathBuf, error: std::io::Error },
}
