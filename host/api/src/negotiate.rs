//! Which form of an answer a client accepts, and which form of a body it sent.
//!
//! JSON and YAML are served; Table and PartialObjectMetadata are views of either. Protobuf is read but not
//! written: a client that accepts nothing else gets 406.

use capstan_kinds::status::Status;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::refusal::Refusal;

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";

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
}

/// A form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Form {
    pub view: View,
    pub format: Format,
}

impl Form {
    /// The first of the accepted forms that is served.
    pub(crate) fn accepted(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut asked = false;
        for header in headers.get_all(ACCEPT) {
            for choice in header.to_str().unwrap_or_default().split(',').map(str::trim) {
                if choice.is_empty() {
                    continue;
                }
                asked = true;
                if let Some(form) = Self::of(choice) {
                    return Ok(form);
                }
            }
        }
        if asked {
            Err(Status::not_acceptable(&[JSON, YAML]).into())
        } else {
            Ok(Self::default())
        }
    }

    fn of(choice: &str) -> Option<Self> {
        let (media, parameters) = split(choice);
        let format = match media {
            JSON | "*/*" | "application/*" => Format::Json,
            YAML => Format::Yaml,
            _ => return None,
        };
        let parameter = |name: &str| {
            parameters
                .clone()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value)
        };
        let view = match parameter("as") {
            None => View::Object,
            Some(_) if parameter("g") != Some("meta.k8s.io") || parameter("v") != Some("v1") => return None,
            Some("Table") => View::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => View::Metadata,
            Some(_) => return None,
        };
        Some(Self { view, format })
    }
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

    fn check(accept: &str, expected: Option<(View, Format)>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        let form = Form::accepted(&headers).ok().map(|form| (form.view, form.format));
        assert_eq!(form, expected, "{accept}");
    }

    #[test]
    fn the_first_served_form_is_chosen() {
        check("application/json", Some((View::Object, Format::Json)));
        check(
            "application/vnd.kubernetes.protobuf, application/json",
            Some((View::Object, Format::Json)),
        );
        check("application/vnd.kubernetes.protobuf", None);
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Some((View::Table, Format::Json)),
        );
        check("application/json;as=Table;v=v1beta1;g=meta.k8s.io", None);
        check(
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Some((View::Metadata, Format::Json)),
        );
        check("application/yaml", Some((View::Object, Format::Yaml)));
        check("*/*", Some((View::Object, Format::Json)));
    }
}
