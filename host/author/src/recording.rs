//! Recordings: what a cluster asked or logged, a JSON object a line, asked again of one component in order.
//!
//! A line is a case's question (its name and expectation may be absent), a log line (`{"line": "…"}`) of a node or a
//! container, or an entry of an API server's audit log. Answers are compared with the line's own `expect`, else with the
//! file beside the recording that ends in `.golden`. All lines meet the same instance, so that counts and windows count.

use std::fs;
use std::path::{Path, PathBuf};

use capstan_kinds::plugin::{Plugin, PluginSpec};
use capstan_points::Fault;
use serde_json::{Value, json};

use crate::cases::{self, Case, CaseFile, Form, Stream, differences};
use crate::error::Error;
use crate::rig::Rig;

/// How a recording's name ends.
const ENDING: &str = "jsonl";
/// Bytes of a recording.
const BYTES_MAX: u64 = 256 << 20;
/// Failures that are told; the rest is counted.
const FAILURES_SHOWN_MAX: usize = 20;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) failed: usize,
    pub(crate) total: usize,
}

/// Whether a file is a recording.
pub(crate) fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING)
}

/// Asks all lines, and compares or keeps the answers.
pub(crate) fn test(rig: &Rig, component: &Path, path: &Path, bless: bool) -> Result<Tally, Error> {
    let text = cases::read(path, BYTES_MAX)?;
    rig.load(&setup(component)?, Vec::new())?;
    let mut tape = Tape { rig, stream: None };
    let golden = golden(path);
    let known = match golden.exists() && !bless {
        true => cases::read(&golden, BYTES_MAX)?,
        false => String::new(),
    };
    let mut known = known.lines();
    let mut answers = String::new();
    let mut tally = Tally::default();
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    for (at, line) in lines {
        let broken = |message: String| Error::Case {
            path: path.to_owned(),
            case: format!("line {}", at + 1),
            message,
        };
        let entry: Value = serde_json::from_str(line).map_err(|error| broken(error.to_string()))?;
        let Some(answer) = tape.ask(&entry, at + 1).map_err(broken)? else {
            continue;
        };
        answers += &format!("{answer}\n");
        let wanted = match (entry.get("expect"), bless) {
            (Some(expected), _) => Some(expected.clone()),
            (None, true) => None,
            (None, false) => {
                let known = known.next().ok_or_else(|| {
                    broken("nothing says what is expected; `--bless` takes the answers as they are".into())
                })?;
                Some(
                    serde_json::from_str(known)
                        .map_err(|error| broken(format!("the golden answer: {error}")))?,
                )
            }
        };
        tally.total += 1;
        let found = wanted.map_or_else(Vec::new, |wanted| differences(&wanted, &answer));
        if !found.is_empty() {
            tally.failed += 1;
            tell(&tally, path, at + 1, &found);
        }
    }
    if bless {
        fs::write(&golden, answers).map_err(|source| Error::Write {
            path: golden.clone(),
            source,
        })?;
        println!("wrote {}", golden.display());
    }
    Ok(tally)
}

fn tell(tally: &Tally, path: &Path, at: usize, found: &[String]) {
    if tally.failed <= FAILURES_SHOWN_MAX {
        println!("FAIL {}:{at}", path.display());
        for difference in found {
            println!("       {difference}");
        }
    }
}

fn golden(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".golden");
    name.into()
}

/// As the component runs in its cluster: by `plugin.yaml` beside it, else as its cases are asked.
fn setup(component: &Path) -> Result<PluginSpec, Error> {
    let manifest = component.with_file_name("plugin.yaml");
    if manifest.exists() {
        let text = crate::component::read(&manifest)?;
        let plugin: Plugin = serde_norway::from_slice(&text).map_err(|error| Error::Cases {
            path: manifest.clone(),
            message: error.to_string(),
        })?;
        return Ok(plugin.spec);
    }
    let cases = component.with_file_name("cases.yaml");
    match cases.exists() {
        true => Ok(CaseFile::read(&cases)?.spec),
        false => Ok(PluginSpec::default()),
    }
}

/// A loaded component that is asked line by line.
struct Tape<'a> {
    rig: &'a Rig,
    /// Where its lines are a container's.
    stream: Option<Stream>,
}

impl Tape<'_> {
    /// The answer to an entry; none where it is no question.
    fn ask(&mut self, entry: &Value, at: usize) -> Result<Option<Value>, String> {
        if entry.get("line").is_some() {
            return self.line(entry).map(Some);
        }
        let question = match entry["apiVersion"].as_str() {
            Some(version) if version.starts_with("audit.k8s.io/") => match audited(entry) {
                Some(question) => question,
                None => return Ok(None),
            },
            _ => entry.clone(),
        };
        self.case(question, at).map(Some)
    }

    fn case(&self, mut question: Value, at: usize) -> Result<Value, String> {
        if question.get("name").is_none() {
            question["name"] = json!(format!("line {at}"));
        }
        let case: Case = serde_json::from_value(question).map_err(|error| error.to_string())?;
        let answer = case.prepare(self.rig)?(Form::Shown);
        Ok(or_fault(answer))
    }

    /// A log line, to a problem daemon or to the stream of a container.
    fn line(&mut self, entry: &Value) -> Result<Value, String> {
        let worlds = &self.rig.about.worlds;
        if worlds.iter().any(|world| world == "problem") {
            let mut step = json!({"lines": [entry["line"]]});
            for key in ["at", "source", "dropped"] {
                if let Some(value) = entry.get(key) {
                    step[key] = value.clone();
                }
            }
            return self.case(json!({"problem": {"steps": [step]}}), 0);
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            closed => closed.insert(Stream::open(self.rig)?),
        };
        let mut line = json!({"text": entry["line"]});
        for key in ["at", "stream"] {
            if let Some(value) = entry.get(key) {
                line[key] = value.clone();
            }
        }
        Ok(or_fault(stream.tell(line)?))
    }
}

fn or_fault(answer: Result<Value, Fault>) -> Value {
    answer.unwrap_or_else(|fault| cases::fault(&fault))
}

/// The request that an audit log's entry tells of, where it tells the whole object.
fn audited(entry: &Value) -> Option<Value> {
    let verb = entry["verb"].as_str()?;
    let operation = match verb {
        "create" => "CREATE",
        "update" | "patch" => "UPDATE",
        _ => return None,
    };
    // What a patch asked for is not an object, what came of it is.
    let object = match verb {
        "patch" => &entry["responseObject"],
        _ => &entry["requestObject"],
    };
    if entry["stage"] != "ResponseComplete" || !object["kind"].is_string() {
        return None;
    }
    let mut object = object.clone();
    let reference = &entry["objectRef"];
    for key in ["name", "namespace"] {
        if object["metadata"][key].is_null() && reference[key].is_string() {
            object["metadata"][key] = reference[key].clone();
        }
    }
    let question = json!({
        "operation": operation,
        "object": object,
        "old": (operation == "UPDATE").then(|| object.clone()),
        "subresource": reference["subresource"].as_str().unwrap_or_default(),
        "user": entry["user"]["username"],
        "groups": entry["user"]["groups"].as_array().cloned().unwrap_or_default(),
        "now": entry["requestReceivedTimestamp"],
    });
    Some(json!({ "admission": question }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_objects_of_an_audit_log_are_questions() {
        let entry = |verb: &str, stage: &str| {
            json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "verb": verb, "stage": stage,
                   "objectRef": {"resource": "pods", "namespace": "a", "name": "x"},
                   "user": {"username": "me", "groups": ["team"]},
                   "requestObject": {"apiVersion": "v1", "kind": "Pod", "spec": {}}})
        };
        let question = audited(&entry("create", "ResponseComplete")).expect("a question");
        let admission = &question["admission"];
        assert_eq!(
            admission["object"]["metadata"],
            json!({"name": "x", "namespace": "a"})
        );
        assert_eq!(
            (&admission["operation"], &admission["user"]),
            (&json!("CREATE"), &json!("me"))
        );
        for (verb, stage) in [
            ("get", "ResponseComplete"),
            ("create", "RequestReceived"),
            ("patch", "ResponseComplete"),
        ] {
            assert!(audited(&entry(verb, stage)).is_none(), "{verb} {stage}");
        }
    }
}
