//! The loop over Plugin objects against an API that is a map: level-triggered loads, status, deletion.

#[path = "../../../tests/fixtures/bad-plugins/wrap.rs"]
mod wrap;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use capstan_plugin::{Host, Options};
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;

type Answer = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Plugins by name, their watchers, and one ConfigMap.
struct Api {
    plugins: Mutex<BTreeMap<String, Value>>,
    events: broadcast::Sender<String>,
    rules: Mutex<String>,
}

impl Api {
    fn put(&self, name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut plugins = self.plugins.lock().expect("not poisoned");
        let object = plugins.entry(name.to_owned()).or_insert_with(|| {
            json!({"apiVersion": "plugins.capstan.dev/v1", "kind": "Plugin",
                "metadata": {"name": name, "generation": 0, "resourceVersion": "0"}})
        });
        change(object);
        let version: u64 = object["metadata"]["resourceVersion"]
            .as_str()
            .map_or(0, |v| v.parse().unwrap_or(0));
        object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        let _ = self
            .events
            .send(json!({"type": "MODIFIED", "object": object}).to_string());
        object.clone()
    }

    fn apply(&self, name: &str, spec: Value) {
        self.put(name, |object| {
            object["spec"] = spec;
            object["metadata"]["generation"] =
                json!(object["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        });
    }

    fn delete(&self, name: &str) {
        let object = self
            .plugins
            .lock()
            .expect("not poisoned")
            .remove(name)
            .expect("it was there");
        let _ = self
            .events
            .send(json!({"type": "DELETED", "object": object}).to_string());
    }

    fn status(&self, name: &str) -> Value {
        self.plugins.lock().expect("not poisoned")[name]["status"].clone()
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let (path, query) = (
            head.uri.path().to_owned(),
            head.uri.query().unwrap_or_default().to_owned(),
        );
        let body = body.collect().await.expect("a body").to_bytes();
        if path == "/api/v1/namespaces/kube-system/configmaps/rules" {
            let rules = self.rules.lock().expect("not poisoned").clone();
            return whole(json!({"data": {"rules.json": rules}}));
        }
        if head.method == http::Method::PUT {
            let name = path.split('/').nth(5).expect("a name").to_owned();
            let status = serde_json::from_slice::<Value>(&body).expect("JSON")["status"].clone();
            return whole(self.put(&name, |object| object["status"] = status));
        }
        if !query.contains("watch=true") {
            let items: Vec<Value> = self
                .plugins
                .lock()
                .expect("not poisoned")
                .values()
                .cloned()
                .collect();
            return whole(
                json!({"apiVersion": "plugins.capstan.dev/v1", "kind": "PluginList",
                "metadata": {"resourceVersion": "1"}, "items": items}),
            );
        }
        let stream = futures::stream::unfold(self.events.subscribe(), |mut events| async {
            let line = events.recv().await.ok()? + "\n";
            Some((Ok(http_body::Frame::data(Bytes::from(line))), events))
        });
        Response::new(http_body_util::StreamBody::new(stream).boxed_unsync())
    }
}

fn whole(document: Value) -> Response<Answer> {
    Response::new(http_body_util::Full::new(Bytes::from(document.to_string())).boxed_unsync())
}

async fn until(what: &str, check: impl Fn() -> bool) {
    let reached = tokio::time::timeout(Duration::from_secs(30), async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    reached.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn condition(status: &Value, type_name: &str) -> String {
    let conditions = status["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == type_name);
    found.map_or_else(String::new, |c| {
        format!("{} {}", c["status"], c["reason"]).replace('"', "")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_become_seats_and_their_status_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundled = ["steady", "steadier", "wants-clock"].map(|n| (n.to_owned(), Cow::Owned(wrap::fixture(n))));
    let options = Options {
        cache_dir: folder.path().join("cache"),
        bundled: bundled.into(),
        name: "node-1".into(),
        ..Default::default()
    };
    let host = Host::open(options).expect("the host opens");
    let api = Arc::new(Api {
        plugins: Mutex::default(),
        events: broadcast::channel(256).0,
        rules: Mutex::new("{\"weight\": 1}".into()),
    });
    api.apply("p", json!({"source": {"bundled": "steady"}}));
    let server = Arc::clone(&api);
    let service = tower::service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
    });
    let client = kube::Client::new(service, "default");
    let task = tokio::spawn(capstan_plugin::run(Arc::clone(&host), client));

    until("ready", || {
        condition(&api.status("p"), "Ready") == "True Succeeded"
    })
    .await;
    let status = api.status("p");
    assert_eq!(
        (&status["revision"], &status["observedGeneration"]),
        (&json!("fixture 1.0.0"), &json!(1))
    );
    assert_eq!(
        (&status["hosts"][0]["name"], &status["worlds"]),
        (&json!("node-1"), &json!(["scheduler"]))
    );
    assert_eq!(host.scheduler_seats().borrow().len(), 1);
    let first = host.scheduler_seats().borrow()[0].revision;

    // A bad revision leaves the old one serving and says so.
    api.apply("p", json!({"source": {"bundled": "wants-clock"}}));
    until("refused", || {
        condition(&api.status("p"), "Verified") == "False ImportNotGranted"
    })
    .await;
    assert!(
        api.status("p")["lastError"]
            .as_str()
            .is_some_and(|e| e.contains("add {name: clock}"))
    );
    assert_eq!(host.scheduler_seats().borrow()[0].revision, first);

    // A good one swaps; its configuration comes from a ConfigMap, as text.
    let from = json!({"configMap": {"namespace": "kube-system", "name": "rules", "key": "rules.json"}});
    api.apply(
        "p",
        json!({"source": {"bundled": "steadier"}, "configFrom": from}),
    );
    until("swapped", || {
        condition(&api.status("p"), "Ready") == "True Succeeded"
    })
    .await;
    assert!(host.scheduler_seats().borrow()[0].revision > first);

    // The ConfigMap is read again by and by.
    *api.rules.lock().expect("not poisoned") = "{\"weight\": 0}".into();
    until("read again", || {
        condition(&api.status("p"), "Configured") == "False ConfigInvalid"
    })
    .await;

    // A manifest that cannot be read is told so, and hurts nobody else.
    api.apply("q", json!({"source": 7}));
    until("told", || {
        condition(&api.status("q"), "Ready") == "False InvalidSpec"
    })
    .await;

    api.delete("p");
    until("unseated", || host.scheduler_seats().borrow().is_empty()).await;
    task.abort();
}
