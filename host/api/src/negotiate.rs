//! Which form of an answer a client accepts, and which form of a body it sent.
//!
//! JSON, YAML and Kubernetes protobuf; Table and PartialObjectMetadata are views of them, but there is no
//! Table in protobuf, and no custom kind. As in the original the forms are tried by `q`, then by their order,
//! and parameters that nobody knows are ignored. A watch is never YAML. No CBOR. Pure.

use std::cmp::Reverse;

use capstan_kinds::status::Status;
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};

use crate::protobuf::PROTOBUF;
use crate::refusal::Refusal;
use crate::request::Query;

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";

/// Forms in one Accept header that are looked at.
const CHOICES_MAX: usize = 32;
/// Clients that people read from: they get their JSON with line breaks.
const HUMAN_AGENTS: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

/// What of an object is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum View {
    #[default]
    Object,
    Table,
    Metadata,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    pub(crate) fn media(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Yaml => YAML,
            Self::Protobuf => PROTOBUF,
        }
    }
}

/// A form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Form {
    pub view: View,
    pub format: Format,
}

/// What can be had of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Whether its kind has a protobuf form.
    pub protobuf: bool,
    /// Whether it is streamed.
    pub watch: bool,
    /// Whether there are views of it: not of a Status.
    pub views: bool,
}

/// What the client wants of any answer's transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wishes {
    /// The form of documents that are no objects of the resource: a Status, a Scale, a review.
    pub document: Format,
    pub gzip: bool,
    pub pretty: bool,
}

impl Form {
    /// The best of the accepted forms that is offered.
    pub(crate) fn accepted(headers: &HeaderMap, offer: Offer) -> Result<Self, Refusal> {
        let choices = choices(headers);
        if choices.is_empty() {
            return Ok(Self::default());
        }
        let formats = [Format::Json, Format::Yaml, Format::Protobuf];
        let formats = formats
            .iter()
            .filter(|format| !(offer.watch && **format == Format::Yaml));
        for (_, choice) in choices {
            for format in formats.clone() {
                if let Some(form) = Self::of(choice, *format, offer) {
                    return Ok(form);
                }
            }
        }
        let stream = if offer.watch { ";stream=watch" } else { "" };
        let served: Vec<String> = formats
            .filter(|format| offer.protobuf || **format != Format::Protobuf)
            .map(|format| format!("{}{stream}", format.media()))
            .collect();
        let served: Vec<&str> = served.iter().map(String::as_str).collect();
        Err(Status::not_acceptable(&served).into())
    }

    /// The form in one format, if the choice means that format and what it asks for is offered.
    fn of(choice: &str, format: Format, offer: Offer) -> Option<Self> {
        let (media, parameters) = split(choice);
        if !matches!(media, "*/*" | "*" | "application/*") && media != format.media() {
            return None;
        }
        let parameter = |name: &str| {
            parameters
                .clone()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value)
        };
        if parameter("stream").is_some_and(|stream| stream != "watch") {
            return None;
        }
        let view = match parameter("as") {
            None if format == Format::Protobuf && !offer.protobuf => return None,
            None => View::Object,
            Some(_) if !offer.views => return None,
            Some(_) if parameter("g") != Some("meta.k8s.io") || parameter("v") != Some("v1") => return None,
            Some("Table") if format == Format::Protobuf => return None,
            Some("Table") => View::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => View::Metadata,
            Some(_) => return None,
        };
        Some(Self { view, format })
    }
}

impl Wishes {
    pub(crate) fn of(headers: &HeaderMap, query: &Query) -> Self {
        let offer = Offer {
            protobuf: true,
            watch: false,
            views: false,
        };
        let text = |value: Option<&http::HeaderValue>| {
            value.and_then(|value| value.to_str().ok().map(str::to_owned))
        };
        let pretty = match query.get("pretty") {
            Some(value) => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
            None => {
                let agent = text(headers.get(USER_AGENT)).unwrap_or_default();
                HUMAN_AGENTS.iter().any(|one| agent.starts_with(one))
                    || choices(headers)
                        .first()
                        .is_some_and(|(_, choice)| split(choice).1.any(|one| one == ("pretty", "1")))
            }
        };
        let encodings = text(headers.get(ACCEPT_ENCODING)).unwrap_or_default();
        Self {
            // A problem with the form must not hide the problem that the Status tells of.
            document: Form::accepted(headers, offer).map_or(Format::Json, |form| form.format),
            gzip: encodings.split(',').any(|one| one.trim() == "gzip"),
            pretty,
        }
    }
}

/// The forms of the Accept headers, the best first, each with its `q` in thousandths.
pub(crate) fn choices(headers: &HeaderMap) -> Vec<(u32, &str)> {
    let all = headers.get_all(ACCEPT).into_iter();
    let mut choices: Vec<(u32, &str)> = all
        .flat_map(|header| header.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .filter(|choice| !choice.is_empty())
        .take(CHOICES_MAX)
        .map(|choice| {
            let mut parameters = split(choice).1;
            let quality = parameters.find(|(name, _)| *name == "q").map(|(_, value)| value);
            let quality: f32 = quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            ((quality.clamp(0.0, 1.0) * 1000.0) as u32, choice)
        })
        .collect();
    // Where two are as good, the one without a wildcard.
    choices.sort_by_key(|(quality, choice)| (Reverse(*quality), split(choice).0.contains('*')));
    choices
}

/// A media type and its parameters.
pub(crate) fn split(text: &str) -> (&str, impl Iterator<Item = (&str, &str)> + Clone) {
    let mut parts = text.split(';');
    let media = parts.next().unwrap_or_default().trim();
    (media, parts.filter_map(|part| part.trim().split_once('=')))
}

/// The media type of a request's body, without parameters; JSON where none is given.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or(JSON);
    split(value).0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT_IN: Offer = Offer {
        protobuf: true,
        watch: false,
        views: true,
    };

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        headers
    }

    fn check(accept: &str, offer: Offer, expected: Option<(View, Format)>) {
        let form = Form::accepted(&headers(accept), offer).ok();
        assert_eq!(form.map(|form| (form.view, form.format)), expected, "{accept}");
    }

    #[test]
    fn the_best_offered_form_is_chosen() {
        let custom = Offer {
            protobuf: false,
            ..BUILT_IN
        };
        let both = "application/vnd.kubernetes.protobuf, application/json";
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let (json, protobuf) = (Format::Json, Format::Protobuf);
        check("application/json", BUILT_IN, Some((View::Object, json)));
        check(both, BUILT_IN, Some((View::Object, protobuf)));
        check(both, custom, Some((View::Object, json)));
        check(PROTOBUF, custom, None);
        check(table, BUILT_IN, Some((View::Table, json)));
        check(
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
            BUILT_IN,
            None,
        );
        check(
            &table.replace("json", "vnd.kubernetes.protobuf"),
            BUILT_IN,
            Some((View::Object, protobuf)),
        );
        check(metadata, custom, Some((View::Metadata, protobuf)));
        check("application/yaml", BUILT_IN, Some((View::Object, Format::Yaml)));
        check("*/*", BUILT_IN, Some((View::Object, json)));
        check(
            "text/html, application/*;q=0.1",
            BUILT_IN,
            Some((View::Object, json)),
        );
        check(
            "application/json;q=0.5,application/yaml;q=0.8",
            BUILT_IN,
            Some((View::Object, Format::Yaml)),
        );
        check(
            &format!("*/*, {PROTOBUF}"),
            BUILT_IN,
            Some((View::Object, protobuf)),
        );
        check(
            &format!("{PROTOBUF};stream=watch"),
            BUILT_IN,
            Some((View::Object, protobuf)),
        );
        check(&format!("{PROTOBUF};stream=log"), BUILT_IN, None);
        let watch = Offer {
            watch: true,
            ..BUILT_IN
        };
        check("application/yaml", watch, None);
        check(
            "application/yaml, application/json;q=0.1",
            watch,
            Some((View::Object, json)),
        );
    }

    #[test]
    fn what_is_wished_of_every_answer() {
        let query = |text: &str| Query::parse(&format!("/?{text}").parse().unwrap());
        let wishes = Wishes::of(
            &headers("application/json;as=Table;g=meta.k8s.io;v=v1"),
            &query(""),
        );
        assert_eq!(wishes, Wishes::default());
        let mut headers = headers("application/vnd.kubernetes.protobuf,application/json;pretty=1");
        headers.insert(ACCEPT_ENCODING, "deflate, gzip".parse().unwrap());
        let wishes = Wishes::of(&headers, &query("pretty=true"));
        assert!(wishes.gzip && wishes.pretty && wishes.document == Format::Protobuf);
        headers.insert(USER_AGENT, "curl/8.1".parse().unwrap());
        assert!(Wishes::of(&headers, &query("")).pretty);
        assert!(!Wishes::of(&headers, &query("pretty=0")).pretty);
    }
}
