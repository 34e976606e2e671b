//! The cluster that a case gives: objects that `kube-read` finds, answered as the API server would.
//!
//! Only what that capability asks: one object by name, or a list by namespace and label selector.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use capstan_kinds::selector::LabelSelector;
use futures::future::{Ready, ready};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use kube::client::Body;
use serde_json::{Value, json};

type Objects = Arc<Mutex<Vec<Value>>>;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Context {
    objects: Objects,
}

impl Context {
    /// Replaces all objects.
    pub(crate) fn set(&self, objects: Vec<Value>) {
        *self.objects.lock().unwrap_or_else(PoisonError::into_inner) = objects;
    }

    /// A client of it.
    pub(crate) fn client(&self) -> kube::Client {
        let context = self.clone();
        let answer = move |request: Request<Body>| -> Ready<Result<_, Infallible>> {
            let uri = request.uri();
            let found = context.get(uri.path(), uri.query().unwrap_or_default());
            let (status, body) = match found {
                Some(object) => (StatusCode::OK, object),
                None => (StatusCode::NOT_FOUND, not_found(uri.path())),
            };
            let mut response = Response::new(Full::from(body.to_string().into_bytes()));
            *response.status_mut() = status;
            ready(Ok(response))
        };
        kube::Client::new(tower::service_fn(answer), "default")
    }

    fn get(&self, path: &str, query: &str) -> Option<Value> {
        let wanted = Wanted::parse(path)?;
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = objects.iter().filter(|object| wanted.covers(object));
        if wanted.name.is_some() {
            return found.next().cloned();
        }
        let selector = form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == "labelSelector")
            .map_or(Ok(LabelSelector::everything()), |(_, text)| {
                LabelSelector::parse(&text)
            })
            .ok()?;
        let items: Vec<&Value> = found.filter(|object| selector.matches_object(object)).collect();
        Some(json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}))
    }
}

fn not_found(path: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
           "message": format!("the case has no object {path}")})
}

/// What a path asks for.
struct Wanted<'a> {
    group: &'a str,
    version: &'a str,
    plural: &'a str,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, plural, name) = match rest {
            ["namespaces", namespace, plural] => (Some(*namespace), *plural, None),
            ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name)),
            [plural] => (None, *plural, None),
            [plural, name] => (None, *plural, Some(*name)),
            _ => return None,
        };
        Some(Self {
            group,
            version,
            plural,
            namespace,
            name,
        })
    }

    fn covers(&self, object: &Value) -> bool {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        let metadata = &object["metadata"];
        let wanted = if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        };
        let is = |text: Option<&str>, at: &Value| text.is_none_or(|text| at.as_str() == Some(text));
        let namespace = &metadata["namespace"];
        let in_namespace =
            self.namespace == Some("default") && namespace.is_null() || is(self.namespace, namespace);
        api_version == wanted
            && plural_of(api_version, kind) == self.plural
            && in_namespace
            && is(self.name, &metadata["name"])
    }
}

/// The plural of a kind: by the table, else as most custom kinds have it.
pub(crate) fn plural_of(api_version: &str, kind: &str) -> String {
    capstan_kinds::resource::find_kind(api_version, kind).map_or_else(
        || format!("{}s", kind.to_lowercase()),
        |resource| resource.plural.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_by_name_and_lists_by_namespace_and_labels() {
        let context = Context::default();
        context.set(vec![
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "a", "name": "x", "labels": {"l": "1"}}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "b", "name": "y"}}),
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i"}}),
        ]);
        let count = |path: &str, query: &str| {
            context
                .get(path, query)
                .map(|list| list["items"].as_array().map_or(0, Vec::len))
        };
        for (path, query, wanted) in [
            ("/api/v1/configmaps", "", Some(2)),
            ("/api/v1/configmaps", "labelSelector=l%3D1", Some(1)),
            ("/api/v1/namespaces/b/configmaps", "limit=501", Some(1)),
            (
                "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
                "",
                Some(1),
            ),
            ("/api/v1/namespaces/b/configmaps/x", "", None),
        ] {
            assert_eq!(count(path, query), wanted, "{path}?{query}");
        }
        let found = context
            .get("/api/v1/namespaces/b/configmaps/y", "")
            .expect("it is there");
        assert_eq!(found["metadata"]["name"], "y");
    }
}
