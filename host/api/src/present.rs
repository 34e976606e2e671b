//! From stored bytes to what a client sees: the object itself, its Table row, or its metadata alone.
//!
//! The object itself is the stored bytes, untouched, unless the request came by another version of its
//! kind or wants protobuf. Tables and metadata are made by decoding, for those who ask. Pure.

use bytes::Bytes;
use capstan_kinds::{columns, convert, resource::Resource};
use serde_json::{Value, json};

use crate::negotiate::{Form, Format, View};
use crate::protobuf::Codec;
use crate::registry::Entry;

/// Which object goes along with a table's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    None,
    Metadata,
    Object,
}

/// Presents objects of one resource in one form.
#[derive(Debug, Clone)]
pub(crate) struct Presenter {
    pub resource: std::sync::Arc<Resource>,
    pub form: Form,
    include: Include,
    /// How the stored bytes begin where they are in the asked version.
    head: String,
}

impl Presenter {
    pub(crate) fn new(resource: std::sync::Arc<Resource>, form: Form, include: Option<&str>) -> Self {
        let head = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",",
            resource.kind,
            resource.api_version()
        );
        let include = match include {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        };
        Self {
            resource,
            form,
            include,
            head,
        }
    }

    /// Whether the stored bytes are sent as they are, or as they would be in protobuf.
    pub(crate) fn sends_stored(&self, entry: &Entry) -> bool {
        self.form.view == View::Object && entry.bytes.starts_with(self.head.as_bytes())
    }

    /// The bare media type, as the original says it whatever the view.
    pub(crate) fn content_type(&self) -> &'static str {
        self.form.format.media()
    }

    /// What writes the resource's objects in protobuf, where that is asked for.
    pub(crate) fn codec(&self) -> Option<Codec> {
        match self.form {
            Form {
                view: View::Object,
                format: Format::Protobuf,
            } => Codec::of(&self.resource.api_version(), &self.resource.kind),
            _ => None,
        }
    }

    /// The object's JSON in the asked version.
    pub(crate) fn object(&self, entry: &Entry) -> Bytes {
        if entry.bytes.starts_with(self.head.as_bytes()) {
            return entry.bytes.clone();
        }
        to_bytes(&self.converted(entry))
    }

    fn converted(&self, entry: &Entry) -> Value {
        convert::to_version(&self.resource, entry.decode())
    }

    /// One object as the whole answer, in JSON.
    pub(crate) fn single(&self, entry: &Entry) -> Bytes {
        match self.form.view {
            View::Object => self.object(entry),
            View::Metadata => to_bytes(&partial(&entry.decode())),
            View::Table => to_bytes(&self.table(
                std::slice::from_ref(entry),
                json!({
                    "resourceVersion": entry.revision.to_string()
                }),
                true,
            )),
        }
    }

    /// A Table of these objects.
    pub(crate) fn table<E: AsRef<Entry>>(&self, entries: &[E], metadata: Value, head: bool) -> Value {
        let now = jiff::Timestamp::now().as_second();
        let rows: Vec<Value> = entries
            .iter()
            .map(|entry| self.row(entry.as_ref(), now))
            .collect();
        let columns: Vec<Value> = if head {
            columns::of(&self.resource)
                .iter()
                .map(|column| {
                    json!({
                        "name": column.name, "type": column.kind, "format": column.format,
                        "description": column.description, "priority": column.priority,
                    })
                })
                .collect()
        } else {
            Vec::new()
        };
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": columns, "rows": rows,
        })
    }

    fn row(&self, entry: &Entry, now_seconds: i64) -> Value {
        let object = self.converted(entry);
        let cells = columns::cells(&self.resource, &object, now_seconds);
        let mut row = json!({ "cells": cells });
        match self.include {
            Include::None => {}
            Include::Metadata => row["object"] = partial(&object),
            Include::Object => row["object"] = object,
        }
        row
    }
}

impl AsRef<Entry> for Entry {
    fn as_ref(&self) -> &Entry {
        self
    }
}

/// An object's metadata as a `PartialObjectMetadata`.
pub(crate) fn partial(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

pub(crate) fn to_bytes(document: &Value) -> Bytes {
    // A Value has string keys and finite numbers: writing it to memory cannot fail.
    serde_json::to_vec(document).unwrap_or_default().into()
}
