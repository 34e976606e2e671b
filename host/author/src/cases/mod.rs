//! Case files: questions to a component and the answers that they expect, as YAML.
//!
//! A case names exactly one world's question. Every answer is one JSON value, so that one comparison serves all
//! worlds and `run` prints what `test` compares. Called by `trial` and `bench`.

mod admission;
mod compare;
mod problem;
mod remedy;
mod scheduler;
mod sidecar;

use std::fs;
use std::path::{Path, PathBuf};

use capstan_kinds::plugin::PluginSpec;
use capstan_points::Fault;
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use compare::differences;
pub(crate) use sidecar::Stream;

use crate::error::Error;
use crate::rig::Rig;

/// Bytes of a case file.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A case file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseFile {
    /// As in a Plugin object: `config`, `capabilities`, `limits`, `bind`.
    #[serde(default)]
    pub(crate) spec: PluginSpec,
    /// What `kube-read` finds in every case.
    #[serde(default)]
    pub(crate) objects: Vec<Value>,
    pub(crate) cases: Vec<Case>,
}

/// One question.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// In place of the file's `spec.config`.
    #[serde(default)]
    pub(crate) config: Option<Value>,
    /// More of what `kube-read` finds.
    #[serde(default)]
    pub(crate) objects: Vec<Value>,
    #[serde(default)]
    admission: Option<admission::Question>,
    #[serde(default)]
    problem: Option<problem::Question>,
    #[serde(default)]
    remedy: Option<remedy::Question>,
    #[serde(default)]
    logs: Option<sidecar::Lines>,
    #[serde(default)]
    metrics: Option<sidecar::Metrics>,
    #[serde(default)]
    scheduler: Option<scheduler::Question>,
    /// What the answer must hold; absent in a file that is only run.
    #[serde(default)]
    pub(crate) expect: Option<Value>,
}

/// A question that is ready to be asked again and again.
pub(crate) type Ask<'a> = Box<dyn FnMut(Form) -> Result<Value, Fault> + 'a>;

/// Whether the answer is wanted in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As a value to compare or print.
    Shown,
    /// Null: what is measured is the question.
    Silent,
}

impl Case {
    /// Makes the question ready for the loaded component.
    pub(crate) fn prepare<'a>(&'a self, rig: &'a Rig) -> Result<Ask<'a>, String> {
        let given = [
            ("admission", self.admission.is_some()),
            ("problem", self.problem.is_some()),
            ("remedy", self.remedy.is_some()),
            ("logs", self.logs.is_some()),
            ("metrics", self.metrics.is_some()),
            ("scheduler", self.scheduler.is_some()),
        ];
        let asked: Vec<&str> = given
            .iter()
            .filter(|(_, is)| *is)
            .map(|(name, _)| *name)
            .collect();
        let [question] = asked.as_slice() else {
            let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
            let found = if asked.is_empty() {
                "none".to_owned()
            } else {
                asked.join(" and ")
            };
            return Err(format!(
                "one of {} says what is asked; there is {found}",
                names.join(", ")
            ));
        };
        let world = match *question {
            "logs" | "metrics" => "sidecar",
            other => other,
        };
        if !rig.about.worlds.iter().any(|has| has == world) {
            let worlds = rig.about.worlds.join(", ");
            return Err(format!(
                "asks the {world} world, but the component implements {worlds}"
            ));
        }
        match self {
            Self {
                admission: Some(question),
                ..
            } => question.prepare(rig),
            Self {
                problem: Some(question),
                ..
            } => question.prepare(rig),
            Self {
                remedy: Some(question),
                ..
            } => question.prepare(rig),
            Self {
                logs: Some(question), ..
            } => question.prepare(rig),
            Self {
                metrics: Some(question),
                ..
            } => question.prepare(rig),
            Self {
                scheduler: Some(question),
                ..
            } => question.prepare(rig),
            _ => Err("nothing is asked".into()),
        }
    }
}

impl CaseFile {
    /// Reads a case file.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = read(path, FILE_BYTES_MAX)?;
        serde_norway::from_str(&text).map_err(|error| bad(path, &error))
    }

    /// Reads a case file, or a file of manifests as one creation each.
    pub(crate) fn read_or_manifests(path: &Path) -> Result<Self, Error> {
        let text = read(path, FILE_BYTES_MAX)?;
        let mut documents = Vec::new();
        for document in serde_norway::Deserializer::from_str(&text) {
            documents.push(Value::deserialize(document).map_err(|error| bad(path, &error))?);
        }
        if !documents.iter().any(|document| document["kind"].is_string()) {
            return serde_norway::from_str(&text).map_err(|error| bad(path, &error));
        }
        let case = |object: Value| {
            let metadata = &object["metadata"];
            let name = metadata["name"].as_str().or(metadata["generateName"].as_str());
            Case {
                name: format!(
                    "{} {}",
                    object["kind"].as_str().unwrap_or_default(),
                    name.unwrap_or_default()
                ),
                admission: Some(admission::Question::creation(object)),
                ..Case::default()
            }
        };
        let cases = documents
            .into_iter()
            .filter(|document| !document.is_null())
            .map(case)
            .collect();
        Ok(Self {
            cases,
            ..Self::default()
        })
    }

    /// The spec that a case is asked under.
    pub(crate) fn setup(&self, case: &Case) -> PluginSpec {
        let mut spec = self.spec.clone();
        if case.config.is_some() {
            spec.config.clone_from(&case.config);
        }
        spec
    }

    /// All that `kube-read` finds in a case.
    pub(crate) fn objects(&self, case: &Case) -> Vec<Value> {
        self.objects.iter().chain(&case.objects).cloned().collect()
    }
}

/// A file of at most `max` bytes.
pub(crate) fn read(path: &Path, max: u64) -> Result<String, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > max {
        return Err(Error::Cases {
            path: path.to_owned(),
            message: format!("{size} bytes are more than {max}"),
        });
    }
    fs::read_to_string(path).map_err(failed)
}

fn bad(path: &Path, error: &serde_norway::Error) -> Error {
    Error::Cases {
        path: path.to_owned(),
        message: error.to_string(),
    }
}

/// The files that a command is to read: those named, or `cases.yaml` beside the component.
pub(crate) fn files(component: &Path, named: &[PathBuf]) -> Vec<PathBuf> {
    if named.is_empty() {
        return vec![component.with_file_name("cases.yaml")];
    }
    named.to_vec()
}

/// An answer that is a fault.
pub(crate) fn fault(fault: &Fault) -> Value {
    json!({"fault": fault.to_string()})
}

/// When a question is asked that does not say: a fixed time, so that answers repeat.
const NOW_MS: u64 = 1_767_225_600_000;

/// Milliseconds since the Unix epoch, from them or from RFC 3339.
fn time(value: Option<&Value>) -> Result<u64, String> {
    match value {
        None | Some(Value::Null) => Ok(NOW_MS),
        Some(value) => {
            let parsed = value.as_u64().or_else(|| {
                let time: jiff::Timestamp = value.as_str()?.parse().ok()?;
                u64::try_from(time.as_millisecond()).ok()
            });
            parsed.ok_or_else(|| format!("{value} is no time: milliseconds, or such as 2026-01-01T00:00:00Z"))
        }
    }
}

/// Labels of an object.
fn labels(object: &Value) -> Vec<(String, String)> {
    let labels = object["metadata"]["labels"].as_object();
    labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}
