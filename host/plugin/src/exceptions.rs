//! PolicyException objects: requests that named policies let alone, until a time.
//!
//! Compiled once, when an object changes; a request asks by its plugin's name. One that cannot be read, has no valid
//! end or does not compile excepts nothing. Time comes from the request, so that a recorded call decides the same
//! again. Asked by the admission bridge.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_kinds::admission::Matched;
use capstan_kinds::policy_exception::{Excepted, PolicyException};
use capstan_kinds::selector::LabelSelector;
use capstan_points::admission::Review;
use serde_json::Value;

use crate::bridge::admission_conditions::Conditions;
use crate::bridge::selector;
use crate::error::LoadError;

/// Exceptions that count; more are left out with a warning.
const EXCEPTIONS_MAX: usize = 1_024;

/// All exceptions, by the plugin that they concern.
#[derive(Debug, Default)]
pub(crate) struct Exceptions(BTreeMap<String, Vec<Arc<Exception>>>);

#[derive(Debug)]
struct Exception {
    name: String,
    expires_ms: i64,
    requests: Excepted,
    objects: LabelSelector,
    conditions: Conditions,
}

impl Exceptions {
    pub(crate) fn of(objects: &[PolicyException]) -> Self {
        let mut all: BTreeMap<String, Vec<Arc<Exception>>> = BTreeMap::new();
        for (index, object) in objects.iter().enumerate() {
            let name = &object.metadata.name;
            match Exception::parse(object) {
                _ if index >= EXCEPTIONS_MAX => {
                    tracing::warn!(exception = name, "beyond {EXCEPTIONS_MAX}; it excepts nothing");
                }
                Ok(exception) => {
                    let exception = Arc::new(exception);
                    for plugin in &object.spec.plugins {
                        all.entry(plugin.clone())
                            .or_default()
                            .push(Arc::clone(&exception));
                    }
                }
                Err(error) => tracing::warn!(exception = name, %error, "it excepts nothing"),
            }
        }
        Self(all)
    }

    /// The name of an exception that keeps this request from the plugin.
    pub(crate) async fn of_request(&self, plugin: &str, review: &Arc<Review>) -> Option<String> {
        for exception in self.0.get(plugin)? {
            if exception.covers(review)
                && exception.conditions.hold(review, &Arc::default()).await == Matched::Yes
            {
                return Some(exception.name.clone());
            }
        }
        None
    }
}

impl Exception {
    fn parse(object: &PolicyException) -> Result<Self, LoadError> {
        let spec = &object.spec;
        let expires: jiff::Timestamp = spec.expires.parse().map_err(|_| {
            LoadError::spec(
                "spec.expires",
                &spec.expires,
                "a time such as 2030-01-31T00:00:00Z",
            )
        })?;
        let selected = spec.requests.object_selector.as_ref();
        Ok(Self {
            name: object.metadata.name.clone(),
            expires_ms: expires.as_millisecond(),
            objects: selector("spec.match.objectSelector", selected)?,
            conditions: Conditions::compile("spec.match.conditions", &spec.requests.conditions, false)?,
            requests: spec.requests.clone(),
        })
    }

    fn covers(&self, review: &Review) -> bool {
        let any = |list: &[String], text: &str| {
            list.is_empty()
                || list
                    .iter()
                    .any(|pattern| is_like(pattern.as_bytes(), text.as_bytes()))
        };
        let resource = match review.group.as_str() {
            "" => review.resource.clone(),
            group => format!("{}.{group}", review.resource),
        };
        let labelled = |object: &Arc<Value>| {
            let label = |key: &str| object.get("metadata")?.get("labels")?.get(key)?.as_str();
            self.objects.matches(label)
        };
        i64::try_from(review.now_ms).is_ok_and(|now_ms| now_ms < self.expires_ms)
            && any(&self.requests.namespaces, &review.namespace)
            && any(&self.requests.resources, &resource)
            && any(&self.requests.names, &review.name)
            && (self.requests.users.is_empty() || self.requests.users.contains(&review.user))
            && (self.objects.is_empty() || review.object.iter().chain(&review.old).any(labelled))
    }
}

/// Whether a name fits a pattern; `*` stands for any text.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skip| is_like(rest, &text[skip..])),
        [first, rest @ ..] => text.first() == Some(first) && is_like(rest, &text[1..]),
    }
}
