//! What clients asked and were told: the material of every validation.
//!
//! Values are numbers that no two writes of a run share, so that an answer names the write it saw. Times are
//! nanoseconds since the run began, by one monotonic clock. An operation whose answer never came, or came as an
//! error that leaves open what happened, is [`Outcome::Unknown`] and may take effect at any later time. Written
//! as JSON lines when a run fails. Filled by `traffic`, read by `validate`; it judges nothing.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A key as a server told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// Its name.
    pub key: String,
    /// The number that its last write carried.
    pub value: u64,
    /// Revision that made it.
    pub created: i64,
    /// Revision of its last write.
    pub modified: i64,
    /// Writes since it was made.
    pub version: i64,
    /// Its lease, 0 for none.
    pub lease: i64,
}

/// How a comparison is put on the wire; since values are unique, all mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// By the revision of the last write.
    Modified,
    /// By value.
    Value,
}

/// One condition of a transaction: the key is still what its client saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Which key.
    pub key: String,
    /// How it is asked.
    pub by: Target,
    /// What the client saw: revision and value of the last write; both 0 when there was no such key.
    pub seen: (i64, u64),
}

/// One step of a request. A range is one key where `end` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Write.
    Put {
        /// Which key.
        key: String,
        /// Unique number.
        value: u64,
        /// Lease to attach, 0 for none.
        lease: i64,
        /// Whether the key before is asked for.
        previous: bool,
    },
    /// Read.
    Get {
        /// First key.
        key: String,
        /// End of the range.
        end: String,
    },
    /// Remove; the keys before are always asked for.
    Delete {
        /// First key.
        key: String,
        /// End of the range.
        end: String,
    },
}

/// What a step was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To a put: the key before, where asked for.
    Put(Option<KeyValue>),
    /// To a get.
    Got(Vec<KeyValue>),
    /// To a delete: the keys before.
    Deleted(Vec<KeyValue>),
}

/// Which state a request reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The newest.
    Linearizable,
    /// Whatever the member has.
    Serializable,
    /// That of a revision.
    At(i64),
}

/// What a client asks; also single puts, gets and deletes are told as a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Conditions.
    pub compares: Vec<Compare>,
    /// Steps when all hold.
    pub then: Vec<Step>,
    /// Steps when not.
    pub otherwise: Vec<Step>,
    /// What is read.
    pub mode: Mode,
}

impl Request {
    /// One step.
    pub fn single(step: Step) -> Self {
        Self {
            compares: Vec::new(),
            then: vec![step],
            otherwise: Vec::new(),
            mode: Mode::Linearizable,
        }
    }

    /// Whether it could change anything.
    pub fn writes(&self) -> bool {
        self.then
            .iter()
            .chain(&self.otherwise)
            .any(|step| !matches!(step, Step::Get { .. }))
    }

    /// Whether it could remove anything.
    pub fn removes(&self) -> bool {
        self.then
            .iter()
            .chain(&self.otherwise)
            .any(|step| matches!(step, Step::Delete { .. }))
    }

    /// The values that it may write.
    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.then
            .iter()
            .chain(&self.otherwise)
            .filter_map(|step| match step {
                Step::Put { value, .. } => Some(*value),
                _ => None,
            })
    }

    /// The keys that it names.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let compared = self.compares.iter().map(|compare| compare.key.as_str());
        let touched = self.then.iter().chain(&self.otherwise).map(|step| match step {
            Step::Put { key, .. } | Step::Get { key, .. } | Step::Delete { key, .. } => key.as_str(),
        });
        compared.chain(touched)
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Answered.
    Ok {
        /// The header's revision.
        revision: i64,
        /// Whether the conditions held.
        succeeded: bool,
        /// One for each step taken.
        answers: Vec<Answer>,
    },
    /// Surely without effect.
    Refused(String),
    /// Open.
    Unknown(String),
}

/// One request of one client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Operation {
    /// Which client.
    pub client: u32,
    /// Which member it asked.
    pub member: usize,
    /// How often that member had been started.
    pub incarnation: u32,
    /// When it was asked.
    pub invoked: u64,
    /// When its outcome was known.
    pub returned: u64,
    /// What was asked.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
}

/// One change of a key as a watch told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Revision of the change.
    pub revision: i64,
    /// Which key.
    pub key: String,
    /// The key after; none when it was removed.
    pub put: Option<KeyValue>,
    /// The key before, as told.
    pub previous: Option<KeyValue>,
}

/// What a frame of a watch said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// The watch is there.
    Created,
    /// Changes; `fragment` when more of the same frame follow.
    Events {
        /// In the order told.
        events: Vec<Event>,
        /// More follow.
        fragment: bool,
    },
    /// Nothing up to the header's revision is still to come.
    Progress,
    /// Ended by the server.
    Canceled {
        /// The oldest revision still there, when that was the reason.
        compact_revision: i64,
        /// The reason's text.
        reason: String,
    },
}

/// One answer on a watch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Frame {
    /// When it came.
    pub received: u64,
    /// The header's revision.
    pub revision: i64,
    /// What it said.
    pub said: Said,
}

/// One watch from its creation to its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WatchStream {
    /// Which client.
    pub client: u32,
    /// Which member.
    pub member: usize,
    /// First key.
    pub key: String,
    /// End of the range; empty for one key, `\0` for all after.
    pub end: String,
    /// Revision that it was asked to start from.
    pub start: i64,
    /// Whether puts are left out.
    pub no_put: bool,
    /// Whether removals are left out.
    pub no_delete: bool,
    /// What came.
    pub frames: Vec<Frame>,
}

/// One lease through its life, with a key of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lease {
    /// Its number.
    pub id: i64,
    /// Its key, put with it.
    pub key: String,
    /// When its grant was asked, and the seconds granted.
    pub granted: (u64, i64),
    /// Keep-alives that were answered: asked, answered, seconds granted (0: it had expired).
    pub renewals: Vec<(u64, u64, i64)>,
    /// When its revocation was asked.
    pub revoked: Option<u64>,
    /// When its client gave it up: after that it must expire in time.
    pub abandoned: Option<u64>,
}

/// Everything that a run's clients saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct History {
    /// Requests.
    pub operations: Vec<Operation>,
    /// Watches.
    pub streams: Vec<WatchStream>,
    /// Leases.
    pub leases: Vec<Lease>,
    /// Compactions: when asked, up to which revision.
    pub compactions: Vec<(u64, i64)>,
    /// The run broke off: its watches ended at whatever revision they had come to.
    pub cut_short: bool,
}

impl History {
    /// Writes it as JSON lines, each with its kind.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for operation in &self.operations {
            serde_json::to_writer(&mut file, &serde_json::json!({ "operation": operation }))?;
            file.write_all(b"\n")?;
        }
        for stream in &self.streams {
            serde_json::to_writer(&mut file, &serde_json::json!({ "stream": stream }))?;
            file.write_all(b"\n")?;
        }
        for lease in &self.leases {
            serde_json::to_writer(&mut file, &serde_json::json!({ "lease": lease }))?;
            file.write_all(b"\n")?;
        }
        for compaction in &self.compactions {
            serde_json::to_writer(&mut file, &serde_json::json!({ "compaction": compaction }))?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    }
}
