//! Just enough of the Kubernetes API for a kubelet: objects by path, list and watch with field selectors,
//! patches, deletion.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[derive(Default)]
struct State {
    /// By collection path without namespace, then namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    revision: u64,
    /// How many status patches each object had.
    patches: BTreeMap<String, usize>,
}

/// The server; clones share its state.
#[derive(Clone)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<(String, String, Value)>,
}

struct Target {
    collection: String,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

fn target(path: &str) -> Target {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (prefix, mut rest) = if parts[0] == "api" {
        parts.split_at(2)
    } else {
        parts.split_at(3)
    };
    let mut namespace = String::new();
    if rest.len() > 2 && rest[0] == "namespaces" {
        namespace = rest[1].to_owned();
        rest = &rest[2..];
    }
    Target {
        collection: format!("{}/{}", prefix.join("/"), rest[0]),
        namespace,
        name: rest.get(1).map(|name| (*name).to_owned()),
        subresource: rest.get(2).map(|name| (*name).to_owned()),
    }
}

fn selected(object: &Value, selector: &str) -> bool {
    selector.split(',').filter(|term| !term.is_empty()).all(|term| {
        let (path, value) = term.split_once('=').unwrap();
        let found = path.split('.').try_fold(object, |at, key| at.get(key));
        found.and_then(Value::as_str).unwrap_or_default() == value
    })
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
            events: broadcast::channel(4096).0,
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        capstan_client::over(tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        }))
    }

    /// Creates or replaces, as another client would.
    pub(crate) fn put(&self, collection: &str, mut object: Value) {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let key = (collection.to_owned(), text("namespace"), text("name"));
        let mut state = self.state.lock().unwrap();
        let known = state.objects.contains_key(&key);
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        state.objects.insert(key, object.clone());
        let kind = if known { "MODIFIED" } else { "ADDED" };
        let _ = self.events.send((collection.to_owned(), kind.to_owned(), object));
    }

    pub(crate) fn get(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (collection.to_owned(), namespace.to_owned(), name.to_owned());
        self.state.lock().unwrap().objects.get(&key).cloned()
    }

    pub(crate) fn list(&self, collection: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state
            .objects
            .iter()
            .filter(|((known, ..), _)| known == collection)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Reasons of the events recorded about a pod or node.
    pub(crate) fn event_reasons(&self, name: &str) -> Vec<String> {
        let about = |event: &Value| event["involvedObject"]["name"] == name;
        let mut events: Vec<Value> = self.list("api/v1/events").into_iter().filter(about).collect();
        events.sort_by_key(|event| {
            event["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        });
        events
            .iter()
            .map(|event| event["reason"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    pub(crate) fn status_patches(&self, name: &str) -> usize {
        self.state.lock().unwrap().patches.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn remove(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (collection.to_owned(), namespace.to_owned(), name.to_owned());
        let mut state = self.state.lock().unwrap();
        let mut gone = state.objects.remove(&key)?;
        state.revision += 1;
        gone["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let _ = self
            .events
            .send((collection.to_owned(), "DELETED".to_owned(), gone.clone()));
        Some(gone)
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let target = target(head.uri.path());
        let query: BTreeMap<String, String> =
            form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let selector = query.get("fieldSelector").cloned().unwrap_or_default();
        match (&head.method, &target.name) {
            (&Method::GET, None) if query.get("watch").is_some_and(|value| value == "true") => self.watch(
                target,
                selector,
                query
                    .get("resourceVersion")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0),
            ),
            (&Method::GET, None) => {
                let state = self.state.lock().unwrap();
                let items: Vec<&Value> = state
                    .objects
                    .iter()
                    .filter(|((collection, namespace, _), object)| {
                        *collection == target.collection
                            && (target.namespace.is_empty() || *namespace == target.namespace)
                            && selected(object, &selector)
                    })
                    .map(|(_, object)| object)
                    .collect();
                let revision = state.revision.to_string();
                send(
                    200,
                    &json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": revision }, "items": items }),
                )
            }
            (&Method::GET, Some(name)) => match self.get(&target.collection, &target.namespace, name) {
                Some(object) => send(200, &object),
                None => missing(),
            },
            (&Method::POST, None) => {
                let mut object: Value = serde_json::from_slice(&body).unwrap();
                if !target.namespace.is_empty() {
                    object["metadata"]["namespace"] = json!(target.namespace);
                }
                self.put(&target.collection, object.clone());
                send(201, &object)
            }
            (&Method::PATCH, Some(name)) => self.patch(&head, &target, name, &body),
            (&Method::DELETE, Some(name)) => match self.remove(&target.collection, &target.namespace, name) {
                Some(object) => send(200, &object),
                None => missing(),
            },
            _ => missing(),
        }
    }

    fn patch(&self, head: &http::request::Parts, target: &Target, name: &str, body: &[u8]) -> Answer {
        let Some(mut object) = self.get(&target.collection, &target.namespace, name) else {
            return missing();
        };
        let patch: Value = serde_json::from_slice(body).unwrap();
        let media = head.headers[http::header::CONTENT_TYPE].to_str().unwrap();
        if media.contains("strategic") {
            let kind = if target.collection.ends_with("nodes") {
                "Node"
            } else {
                "Pod"
            };
            let schema = capstan_kinds::schema::of("v1", kind);
            capstan_kinds::patch::strategic(schema, &mut object, &patch).unwrap();
        } else {
            capstan_kinds::patch::merge(&mut object, &patch);
        }
        if target.subresource.as_deref() == Some("status") {
            *self
                .state
                .lock()
                .unwrap()
                .patches
                .entry(name.to_owned())
                .or_default() += 1;
        }
        self.put(&target.collection, object);
        send(
            200,
            &self.get(&target.collection, &target.namespace, name).unwrap(),
        )
    }

    fn watch(&self, target: Target, selector: String, from: u64) -> Answer {
        let events = self.events.subscribe();
        let version = |object: &Value| {
            object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or("0")
                .parse::<u64>()
                .unwrap()
        };
        // What came between the list and this watch.
        let missed: Vec<Value> = self
            .list(&target.collection)
            .into_iter()
            .filter(|object| version(object) > from && selected(object, &selector))
            .map(|object| json!({ "type": "ADDED", "object": object }))
            .collect();
        let stream = futures::stream::unfold(
            (events, missed, target, selector),
            |(mut events, mut missed, target, selector)| async move {
                loop {
                    let event = if missed.is_empty() {
                        let (collection, kind, object) = events.recv().await.ok()?;
                        let home = object["metadata"]["namespace"].as_str().unwrap_or_default();
                        let ours = target.namespace.is_empty() || home == target.namespace;
                        if collection != target.collection || !ours || !selected(&object, &selector) {
                            continue;
                        }
                        json!({ "type": kind, "object": object })
                    } else {
                        missed.remove(0)
                    };
                    let line = Bytes::from(format!("{event}\n"));
                    return Some((
                        Ok::<_, Infallible>(Frame::data(line)),
                        (events, missed, target, selector),
                    ));
                }
            },
        );
        Response::new(BodyExt::boxed_unsync(StreamBody::new(stream)))
    }
}

fn send(code: u16, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn missing() -> Answer {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found", "metadata": {} });
    send(404, &status)
}
