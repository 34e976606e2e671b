//! A pod's log lines and its metrics page, and what a sidecar makes of them.

use capstan_points::sidecar::{Line, Page, Stream, StreamContext};
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
        let seat = rig.host.sidecar_seats().borrow().first().cloned();
        let sidecar = seat.ok_or("no sidecar is loaded")?.policy;
        if !sidecar.transforms_logs() {
            return Err("the component does not export capstan:sidecar/logs".into());
        }
        let context = context(&self.pod, self.container.as_deref());
        let lines: Vec<Line> = self.lines.iter().map(line).collect::<Result<_, _>>()?;
        Ok(Box::new(move |form| {
            let mut stream = sidecar.open(&context)?;
            let mut stored = stream.on_lines(lines.clone())?;
            stored.extend(stream.flush()?);
            if form == Form::Silent {
                return Ok(Value::Null);
            }
            let shown = |line: &Line| {
                let stream = match line.stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                };
                json!({"text": line.text, "stream": stream})
            };
            Ok(json!({"lines": stored.iter().map(shown).collect::<Vec<_>>()}))
        }))
    }
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
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            other => return Err(format!("{other:?} is no stream: stdout or stderr")),
        },
        text: text.clone(),
    })
}
