//! What is told of one request while it is answered.
//!
//! Begun before authorization, so that refusals are told too; each stage is one event with all that is known
//! by then. The handlers add annotations and the request's object; nothing is parsed unless the level asks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use capstan_kinds::default;
use capstan_kinds::resource::Resource;
use http::Response;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Auditor;
use super::event::{Event, ObjectReference, User, micros};
use super::policy::{Judgement, Level, Stage};
use crate::access::UserInfo;
use crate::body::Body;
use crate::negotiate::{YAML, split};
use crate::protobuf::{self, PROTOBUF};

/// Annotations of one event, and bytes of each.
const ANNOTATIONS_MAX: usize = 64;
const ANNOTATION_BYTES_MAX: usize = 10 << 10;

/// See the module.
pub(crate) struct Trail {
    auditor: Arc<Auditor>,
    judgement: Judgement,
    event: Mutex<Event>,
}

impl Trail {
    pub(super) fn new(auditor: Arc<Auditor>, judgement: Judgement, event: Event) -> Self {
        Self {
            auditor,
            judgement,
            event: Mutex::new(event),
        }
    }

    fn event(&self) -> std::sync::MutexGuard<'_, Event> {
        self.event.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an annotation; the first value of a key stays.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        let mut event = self.event();
        let room = event.annotations.len() < ANNOTATIONS_MAX && value.len() <= ANNOTATION_BYTES_MAX;
        if room && !event.annotations.contains_key(key) {
            event.annotations.insert(key.to_owned(), value.to_owned());
        }
    }

    /// The request's author acts as another one.
    pub(crate) fn impersonates(&self, original: &UserInfo, other: &UserInfo) {
        let mut event = self.event();
        event.user = User::from(original);
        event.impersonated_user = Some(User::from(other));
    }

    /// Adds what the request brought with it.
    pub(crate) fn request(&self, resource: &Resource, verb: &str, media: &str, body: &Bytes) {
        if body.is_empty() {
            return;
        }
        let wanted = self.judgement.level >= Level::Request;
        let names = matches!(verb, "create" | "update");
        if !wanted && !names {
            return;
        }
        let Some(mut object) = parse(media, body) else {
            return;
        };
        let mut event = self.event();
        if let (true, Some(reference)) = (names, event.object_ref.as_mut()) {
            reference.learn(&object);
        }
        if !wanted {
            return;
        }
        if self.judgement.omit_managed_fields {
            drop_managed_fields(&mut object);
        }
        if names && let Some(document) = object.as_object_mut() {
            document.entry("kind").or_insert_with(|| json!(resource.kind));
            document
                .entry("apiVersion")
                .or_insert_with(|| json!(resource.api_version()));
        }
        event.request_object = Some(Arc::new(object));
    }

    /// Whether the request's object is told at all.
    pub(crate) fn tells_objects(&self) -> bool {
        self.judgement.level >= Level::Request
    }

    /// Tells of the object that the request means, with its defaults, in place of what was sent.
    pub(crate) fn decoded(&self, resource: &Resource, mut object: Value) {
        default::apply(resource, &mut object);
        if self.judgement.omit_managed_fields {
            drop_managed_fields(&mut object);
        }
        self.event().request_object = Some(Arc::new(object));
    }

    /// Adds the answer, as it is before it is compressed.
    pub(crate) fn response(&self, response: &Response<Body>, verb: &str) {
        let code = response.status().as_u16();
        let wanted = self.judgement.level >= Level::RequestResponse;
        let a_status = code >= 400 || verb.starts_with("delete");
        let media = response.headers().get(http::header::CONTENT_TYPE);
        let media = media.and_then(|media| media.to_str().ok()).unwrap_or_default();
        let mut object = Some(())
            .filter(|()| wanted || a_status)
            .and_then(|()| response.body().ready())
            .and_then(|body| parse(split(media).0, &body));
        let mut event = self.event();
        let mut status = Map::new();
        status.insert("metadata".into(), json!({}));
        if let Some(Value::Object(said)) = object.as_ref().filter(|object| object["kind"] == "Status") {
            for member in ["status", "message", "reason", "details"] {
                if let Some(value) = said.get(member) {
                    status.insert(member.into(), value.clone());
                }
            }
        }
        status.insert("code".into(), json!(code));
        event.response_status = Some(Value::Object(status));
        if wanted {
            if let Some(object) = object.as_mut().filter(|_| self.judgement.omit_managed_fields) {
                drop_managed_fields(object);
            }
            event.response_object = object.map(Arc::new);
        }
    }

    /// Says why nobody was recognized.
    pub(crate) fn unauthenticated(&self, message: String) {
        self.event().response_status = Some(json!({ "metadata": {}, "message": message, "code": 401 }));
    }

    /// Tells what is known now.
    pub(crate) fn tell(&self, stage: Stage) {
        if self.judgement.omit_stages.contains(&stage) {
            return;
        }
        let mut event = self.event();
        event.stage = stage;
        event.stage_timestamp = match stage {
            Stage::RequestReceived => event.request_received_timestamp.clone(),
            _ => micros(Timestamp::now()),
        };
        self.auditor.told.fetch_add(1, Ordering::Relaxed);
        self.auditor.send(&event);
    }

    /// Tells of the end when the body of a long answer is gone.
    pub(crate) fn end_with(self: Arc<Self>, response: Response<Body>) -> Response<Body> {
        let end = End(self);
        response.map(|body| body.hold(end))
    }

    pub(super) fn place(event: &mut Event, reference: ObjectReference) {
        event.object_ref = Some(reference);
    }
}

/// Told when a long answer's body is dropped.
struct End(Arc<Trail>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.tell(Stage::ResponseComplete);
    }
}

fn parse(media: &str, body: &[u8]) -> Option<Value> {
    match media {
        PROTOBUF => protobuf::decode(body).ok(),
        YAML | crate::write::APPLY_PATCH => serde_norway::from_slice(body).ok(),
        _ => serde_json::from_slice(body).ok(),
    }
}

/// Of an object, of a list's items, of a table's rows.
fn drop_managed_fields(object: &mut Value) {
    let forget = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    forget(object);
    for item in object
        .get_mut("items")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        forget(item);
    }
    for row in object
        .get_mut("rows")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(object) = row.get_mut("object") {
            forget(object);
        }
    }
}
