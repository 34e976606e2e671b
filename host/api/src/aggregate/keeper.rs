//! The loop over APIService objects: checks each extension server by its discovery document and keeps the
//! object's Available condition.
//!
//! Level-triggered: each pass looks at every object as the cache has it, and asks those servers whose object
//! changed or whose last answer is old. Each API server asks for itself; writes are conditional.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use capstan_kinds::resource::{Resource, find};
use futures::FutureExt;
use http::Request;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::reach::{self, ReachError};
use super::{Remote, local, proxy};
use crate::access::UserInfo;
use crate::body::Body;
use crate::registry::{Entry, canonical, keys};
use crate::server::Server;

/// Pause between passes; a change of an object ends it.
const PASS_EVERY: Duration = Duration::from_millis(500);
/// How long an answer counts: of a server that answered, and of one that did not.
const GOOD_FOR: Duration = Duration::from_secs(30);
const BAD_FOR: Duration = Duration::from_secs(1);
/// Time that a server has to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Servers asked at once, and objects looked at.
const ASKED_MAX: usize = 16;
const SERVICES_MAX: usize = 256;
/// Bytes of a discovery document.
const DISCOVERY_BYTES_MAX: usize = 4 << 20;

/// What was found out of one object.
struct Seen {
    spec: Value,
    asked_at: Instant,
    remote: Remote,
}

/// Looks after APIService objects for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let Some(kind) = find("apiregistration.k8s.io", "v1", "apiservices") else {
        return;
    };
    let cache = server.registry.cache(&kind);
    let mut known: HashMap<Arc<str>, Seen> = HashMap::new();
    loop {
        let (_, objects, mut cursor) = cache.list_and_cursor("");
        known.retain(|name, _| objects.iter().any(|(key, _)| key == name));
        let mut looks = Vec::new();
        for some in objects
            .iter()
            .take(SERVICES_MAX)
            .collect::<Vec<_>>()
            .chunks(ASKED_MAX)
        {
            let mut asked = Vec::new();
            for (name, entry) in some.iter().copied() {
                let look = look(&server, &kind, entry, known.get(name));
                asked.push(look.map(|look| (name.clone(), look)));
            }
            looks.extend(futures::future::join_all(asked).await);
        }
        for (name, seen) in looks {
            match seen {
                Look::Same => {}
                Look::Asked(seen) => drop(known.insert(name, *seen)),
                Look::Local => drop(known.remove(&name)),
            }
        }
        let mut remotes: Vec<Arc<Remote>> =
            known.values().map(|seen| Arc::new(seen.remote.clone())).collect();
        remotes.sort_by(|a, b| {
            let place = |one: &Remote| {
                (
                    -one.priority.0,
                    one.group.clone(),
                    -one.priority.1,
                    one.version.clone(),
                )
            };
            place(a).cmp(&place(b))
        });
        server.aggregator.set(remotes);
        tokio::select! {
            () = cursor.changed() => {}
            () = tokio::time::sleep(PASS_EVERY), if !known.is_empty() => {}
        }
    }
}

enum Look {
    Same,
    Asked(Box<Seen>),
    /// Served here, or not served at all.
    Local,
}

async fn look(server: &Arc<Server>, kind: &Resource, entry: &Entry, before: Option<&Seen>) -> Look {
    let object = entry.decode();
    let spec = &object["spec"];
    let Some(mut remote) = remote(spec) else {
        say(server, kind, entry, object.clone(), local::available()).await;
        return Look::Local;
    };
    if crate::discovery::versions(&server.registry.table.all().1, &remote.group)
        .contains(&remote.version.as_str())
    {
        return Look::Local;
    }
    if let Some(before) = before.filter(|before| before.spec == *spec) {
        let age = before.asked_at.elapsed();
        let counts = if before.remote.is_available {
            GOOD_FOR
        } else {
            BAD_FOR
        };
        if age < counts {
            return Look::Same;
        }
        remote.resources = before.remote.resources.clone();
    }
    let asked_at = Instant::now();
    let condition = match ask(server, &remote).await {
        Ok(resources) => {
            remote.is_available = true;
            remote.resources = Some(resources);
            json!({ "type": "Available", "status": "True", "reason": "Passed", "message": "all checks passed" })
        }
        Err(error) => {
            let message = match &error {
                ReachError::Authorities(_) | ReachError::Io(_) => format!(
                    "failing or missing response from https://{}.{}.svc:{}/apis/{}/{}: {error}",
                    remote.service, remote.namespace, remote.port, remote.group, remote.version
                ),
                error => error.to_string(),
            };
            json!({ "type": "Available", "status": "False", "reason": error.reason(), "message": message })
        }
    };
    say(server, kind, entry, object.clone(), condition).await;
    Look::Asked(Box::new(Seen {
        spec: spec.clone(),
        asked_at,
        remote,
    }))
}

/// What an APIService names; none where it has no service.
fn remote(spec: &Value) -> Option<Remote> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let service = spec.get("service").filter(|service| service.is_object())?;
    Some(Remote {
        group: text(&spec["group"]),
        version: text(&spec["version"]),
        priority: (
            spec["groupPriorityMinimum"].as_i64().unwrap_or(0),
            spec["versionPriority"].as_i64().unwrap_or(0),
        ),
        namespace: text(&service["namespace"]),
        service: text(&service["name"]),
        port: u16::try_from(service["port"].as_u64().unwrap_or(443)).unwrap_or(443),
        ca: reach::ca(spec),
        insecure: spec["insecureSkipTLSVerify"] == true,
        is_available: false,
        resources: None,
    })
}

/// Asks for the server's discovery document.
async fn ask(server: &Server, remote: &Remote) -> Result<Value, ReachError> {
    let path = format!("/apis/{}/{}", remote.group, remote.version);
    let mut request = Request::get(&path)
        .header("accept", "application/json")
        .header("host", format!("{}.{}.svc", remote.service, remote.namespace))
        .body(Body::empty())
        .map_err(std::io::Error::other)?;
    let ourselves = UserInfo::new("system:kube-aggregator", &["system:masters"]);
    proxy::identify(request.headers_mut(), &ourselves);
    let answered = async {
        let response = reach::send(server, remote, request).await?;
        let code = response.status();
        if !code.is_success() {
            return Err(std::io::Error::other(format!("bad status: {}", code.as_u16())).into());
        }
        let body = response.into_body().collect(DISCOVERY_BYTES_MAX).await;
        let body = body.map_err(std::io::Error::other)?.unwrap_or_default();
        Ok(serde_json::from_slice(&body).unwrap_or_else(|_| json!({ "resources": [] })))
    };
    tokio::time::timeout(ANSWER_MAX, answered)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::other("context deadline exceeded").into()))
}

/// Writes the condition where it says something new.
async fn say(server: &Server, kind: &Resource, entry: &Entry, mut object: Value, mut condition: Value) {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let same = |one: &Value| {
        ["status", "reason", "message"]
            .iter()
            .all(|field| one[*field] == condition[*field])
    };
    let before = conditions.iter().find(|one| one["type"] == "Available");
    if before.is_some_and(same) {
        return;
    }
    let turned = before.filter(|before| before["status"] == condition["status"]);
    condition["lastTransitionTime"] = match turned {
        Some(before) => before["lastTransitionTime"].clone(),
        None => json!(crate::time::now()),
    };
    let mut all: Vec<Value> = conditions
        .into_iter()
        .filter(|one| one["type"] != "Available")
        .collect();
    all.push(condition);
    object["status"] = json!({ "conditions": all });
    let key = keys::of(kind, "", &entry.index.name);
    if let Some(stored) = canonical(object)
        && let Err(error) = server.registry.put(&key, stored, entry.revision, false).await
    {
        tracing::debug!(%error, name = %entry.index.name, "an APIService's condition is not written");
    }
}
