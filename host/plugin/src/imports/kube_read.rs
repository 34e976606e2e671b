//! `capstan:plugin/kube-read`: objects of the cluster, by granted resources and namespaces.
//!
//! Each call is one bounded GET or LIST of the cluster's API, checked against the grant first, with a wall
//! bound of its own; the guest's deadline does not run meanwhile.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bindings::plugin::capstan::plugin::kube_read::{Host, ReadError, Resource};
use crate::services::Api;
use crate::state::State;

/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Objects of one answer.
const OBJECTS_MAX: usize = 500;
/// Wall time of one read.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

impl Host for State {
    fn get(
        &mut self,
        resource: Resource,
        namespace: String,
        name: String,
    ) -> Result<Option<String>, ReadError> {
        self.may_read(&resource, &namespace)?;
        let path = format!(
            "{}/{}",
            collection(&resource, &namespace)?,
            segment("name", &name)?
        );
        let Some(text) = self.fetch(path)? else {
            return Ok(None);
        };
        if text.len() > ANSWER_BYTES_MAX {
            return Err(ReadError::TooLarge(format!(
                "the object has {} bytes",
                text.len()
            )));
        }
        Ok(Some(text))
    }

    fn list(
        &mut self,
        resource: Resource,
        namespace: String,
        selector: String,
    ) -> Result<Vec<String>, ReadError> {
        self.may_read(&resource, &namespace)?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &(OBJECTS_MAX + 1).to_string());
        if !selector.is_empty() {
            query.append_pair("labelSelector", &selector);
        }
        let path = format!("{}?{}", collection(&resource, &namespace)?, query.finish());
        let Some(text) = self.fetch(path)? else {
            return Ok(Vec::new());
        };
        items(&text)
    }
}

impl State {
    fn may_read(&self, resource: &Resource, namespace: &str) -> Result<(), ReadError> {
        if self
            .context
            .grants
            .covers_read(&resource.group, &resource.plural, namespace)
        {
            return Ok(());
        }
        let place = if namespace.is_empty() {
            "all namespaces".to_owned()
        } else {
            format!("namespace {namespace}")
        };
        let Resource { group, plural, .. } = resource;
        Err(ReadError::Denied(format!(
            "kube-read does not cover {plural} (group {group:?}) in {place}"
        )))
    }

    /// The body of a GET; none when there is no such object.
    fn fetch(&mut self, path: String) -> Result<Option<String>, ReadError> {
        let api = self.context.services.api();
        let Api { client, runtime } = api.ok_or_else(|| ReadError::Unavailable("no cluster yet".into()))?;
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| ReadError::Denied(format!("not a valid path: {error}")))?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let started = Instant::now();
        let task = runtime.spawn(async move {
            // Nobody listens any more once the wall bound is over.
            let _ = sender.send(client.request_text(request).await);
        });
        let answer = receiver.recv_timeout(READ_TIMEOUT);
        self.budget.add_waited(started.elapsed());
        match answer {
            Ok(Ok(text)) => Ok(Some(text)),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
            Ok(Err(error)) => Err(ReadError::Unavailable(error.to_string())),
            Err(_) => {
                task.abort();
                Err(ReadError::Unavailable(format!(
                    "no answer in {} s",
                    READ_TIMEOUT.as_secs()
                )))
            }
        }
    }
}

fn collection(resource: &Resource, namespace: &str) -> Result<String, ReadError> {
    let version = segment("version", &resource.version)?;
    let plural = segment("plural", &resource.plural)?;
    let root = match resource.group.as_str() {
        "" => format!("/api/{version}"),
        group => format!("/apis/{}/{version}", segment("group", group)?),
    };
    Ok(match namespace {
        "" => format!("{root}/{plural}"),
        namespace => format!("{root}/namespaces/{}/{plural}", segment("namespace", namespace)?),
    })
}

/// A path segment that cannot lead elsewhere.
fn segment<'a>(what: &str, text: &'a str) -> Result<&'a str, ReadError> {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if text.is_empty() || text.starts_with('.') || !text.chars().all(is_safe) {
        return Err(ReadError::Denied(format!("{what} {text:?} is not valid")));
    }
    Ok(text)
}

fn items(text: &str) -> Result<Vec<String>, ReadError> {
    let mut list: Value =
        serde_json::from_str(text).map_err(|error| ReadError::Unavailable(format!("not a list: {error}")))?;
    let items = list["items"].take();
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.len() > OBJECTS_MAX {
        return Err(ReadError::TooLarge(format!(
            "more than {OBJECTS_MAX} objects; narrow the selector"
        )));
    }
    let texts: Vec<String> = items.iter().map(Value::to_string).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    if bytes > ANSWER_BYTES_MAX {
        return Err(ReadError::TooLarge(format!(
            "{bytes} bytes are more than {ANSWER_BYTES_MAX}; narrow the selector"
        )));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_within_the_resource() {
        let resource = |group: &str, plural: &str| Resource {
            group: group.into(),
            version: "v1".into(),
            plural: plural.into(),
        };
        assert_eq!(
            collection(&resource("", "pods"), "a").expect("valid"),
            "/api/v1/namespaces/a/pods"
        );
        assert_eq!(
            collection(&resource("apps", "deployments"), "").expect("valid"),
            "/apis/apps/v1/deployments"
        );
        assert!(collection(&resource("", "pods/../secrets"), "").is_err());
        assert!(collection(&resource("", "pods"), "..").is_err());
    }

    #[test]
    fn lists_are_bounded_by_count() {
        let list =
            |count: usize| serde_json::json!({"items": vec![serde_json::json!({}); count]}).to_string();
        assert_eq!(items(&list(3)).map(|items| items.len()).ok(), Some(3));
        assert!(matches!(
            items(&list(OBJECTS_MAX + 1)),
            Err(ReadError::TooLarge(_))
        ));
    }
}
