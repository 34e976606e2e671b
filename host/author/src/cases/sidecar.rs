//! A pod's log lines and its metrics page, and what a sidecar makes of them.

use std::sync::Arc;

use capstan_points::Fault;
use capstan_points::sidecar::{Line, LogStream, Page, Sidecar, Stream as Output, StreamContext};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Form};
use crate::rig::Rig;

/// Lines of one container.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lines {
    /// A Pod; by default one without labels.
    #[serde(default)]
    pod: Value,
    #[serde(default)]
    container: Option<String>,
    lines: Vec<Given>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Given {
    /// Of the standard output.
    Text(String),
    Line {
        text: String,
        #[serde(default)]
        stream: Option<String>,
        #[serde(default)]
        at: Option<Value>,
    },
}

/// A page of one pod.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Metrics {
    #[serde(default)]
    pod: Value,
    #[serde(default)]
    content_type: Option<String>,
    page: String,
}

impl Lines {
    pub(crate) fn prepare<'a>(&'a self, rig: &'a Rig) -> Result<Ask<'a>, String> {
        let sidecar = transformer(rig)?;
        let context = context(&self.pod, self.container.as_deref());
        let lines: Vec<Line> = self.lines.iter().map(line).collect::<Result<_, _>>()?;
        Ok(Box::new(move |form| {
            let mut stream = sidecar.open(&context)?;
            let mut stored = stream.on_lines(lines.clone())?;
            stored.extend(stream.flush()?);
            if form == Form::Silent {
                return Ok(Value::Null);
            }
            Ok(shown(&stored))
        }))
    }
}

/// A container's stream that stays open from line to line.
pub(crate) struct Stream(Box<dyn LogStream>);

impl Stream {
    pub(crate) fn open(rig: &Rig) -> Result<Self, String> {
        let stream = transformer(rig)?.open(&context(&Value::Null, None));
        stream.map(Self).map_err(|fault| fault.to_string())
    }

    /// What becomes of a line, given as in a case.
    pub(crate) fn tell(&mut self, given: Value) -> Result<Result<Value, Fault>, String> {
        let given: Given = serde_json::from_value(given).map_err(|error| error.to_string())?;
        let line = line(&given)?;
        Ok(self.0.on_lines(vec![line]).map(|stored| shown(&stored)))
    }
}

fn transformer(rig: &Rig) -> Result<Arc<dyn Sidecar>, String> {
    let seat = rig.host.sidecar_seats().borrow().first().cloned();
    let sidecar = seat.ok_or("no sidecar is loaded")?.policy;
    match sidecar.transforms_logs() {
        true => Ok(sidecar),
        false => Err("the component does not export capstan:sidecar/logs".into()),
    }
}

fn shown(stored: &[Line]) -> Value {
    let shown = |line: &Line| {
        let stream = match line.stream {
            Output::Stdout => "stdout",
            Output::Stderr => "stderr",
        };
        json!({"text": line.text, "stream": stream})
    };
    json!({"lines": stored.iter().map(shown).collect::<Vec<_>>()})
}

impl Metrics {
    pub(crate) fn prepare<'a>(&'a self, rig: &'a Rig) -> Result<Ask<'a>, String> {
        let seat = rig.host.sidecar_seats().borrow().first().cloned();
        let sidecar = seat.ok_or("no sidecar is loaded")?.policy;
        let context = context(&self.pod, None);
        let content_type = self.content_type.clone();
        let page = Page {
            content_type: content_type.unwrap_or_else(|| "text/plain; version=0.0.4".into()),
            body: self.page.clone(),
        };
        Ok(Box::new(move |form| {
            let page = sidecar.translate(&context, page.clone())?;
            Ok(match form {
                Form::Silent => Value::Null,
                Form::Shown => json!({"page": page.body, "contentType": page.content_type}),
            })
        }))
    }
}

fn context(pod: &Value, container: Option<&str>) -> StreamContext {
    let text = |at: &Value, otherwise: &str| at.as_str().unwrap_or(otherwise).to_owned();
    StreamContext {
        namespace: text(&pod["metadata"]["namespace"], "default"),
        pod: text(&pod["metadata"]["name"], "pod"),
        container: container.map_or_else(
            || text(&pod["spec"]["containers"][0]["name"], "main"),
            str::to_owned,
        ),
        labels: super::labels(pod),
    }
}

fn line(given: &Given) -> Result<Line, String> {
    let (text, stream, at) = match given {
        Given::Text(text) => (text, None, None),
        Given::Line { text, stream, at } => (text, stream.as_deref(), at.as_ref()),
    };
    Ok(Line {
        time_ms: super::time(at)?,
        stream: match stream.unwrap_or("stdout") {
            "stdout" => Output::Stdout,
            "stderr" => Output::Stderr,
            other => return Err(format!("{other:?} is no stream: stdout or stderr")),
        },
        text: text.clone(),
    })
}
