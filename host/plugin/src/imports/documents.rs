//! `capstan:admission/documents`: the objects of a request, read by JSON Pointer on the host's side.

use std::sync::Arc;

use serde_json::Value;
use wasmtime::component::Resource;

use crate::bindings::admission::capstan::admission::documents::{Host, HostDocument};
use crate::state::State;

/// An object as it stands in the request; never copied.
#[derive(Debug, Clone)]
#[allow(unreachable_pub)] // the generated bindings export it again
pub struct Document(pub(crate) Arc<Value>);

impl State {
    /// The value at `path` through `read`; none where the path leads nowhere or to another type.
    fn at<R>(
        &self,
        document: &Resource<Document>,
        path: &str,
        read: impl FnOnce(&Value) -> Option<R>,
    ) -> wasmtime::Result<Option<R>> {
        Ok(self.documents.get(document)?.0.pointer(path).and_then(read))
    }
}

impl Host for State {}

impl HostDocument for State {
    fn exists(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<bool> {
        Ok(self.at(&document, &path, |_| Some(()))?.is_some())
    }

    fn text(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<String>> {
        self.at(&document, &path, |value| value.as_str().map(str::to_owned))
    }

    fn integer(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<i64>> {
        self.at(&document, &path, Value::as_i64)
    }

    fn number(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<f64>> {
        self.at(&document, &path, Value::as_f64)
    }

    fn boolean(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<bool>> {
        self.at(&document, &path, Value::as_bool)
    }

    fn length(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<u32>> {
        self.at(&document, &path, |value| match value {
            Value::Array(items) => u32::try_from(items.len()).ok(),
            Value::Object(members) => u32::try_from(members.len()).ok(),
            _ => None,
        })
    }

    fn keys(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<Vec<String>>> {
        self.at(&document, &path, |value| {
            let mut keys: Vec<String> = value.as_object()?.keys().cloned().collect();
            keys.sort_unstable();
            Some(keys)
        })
    }

    fn json(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<String>> {
        self.at(&document, &path, |value| serde_json::to_string(value).ok())
    }

    fn drop(&mut self, document: Resource<Document>) -> wasmtime::Result<()> {
        self.documents.delete(document)?;
        Ok(())
    }
}
