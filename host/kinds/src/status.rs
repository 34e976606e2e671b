//! `metav1.Status` documents: the body of every error that a client sees.
//! Invariants: code, reason and message are the original's for the same situation, so that clients that
//! match on them (kubectl, client-go's `IsNotFound`) behave. The API server and admission build them.
//! Left out: which HTTP headers go with them.

use serde_json::{Map, Value, json};

use crate::resource::Resource;
use crate::validate::FieldError;

/// One reason among several, about one field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusCause {
    /// Machine-readable reason, such as `FieldValueInvalid`.
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// The field, such as `spec.replicas`.
    pub field: String,
}

/// What the status is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// Group of the resource.
    pub group: String,
    /// Plural of the resource, or the kind for validation errors.
    pub kind: String,
    /// Uid of the object.
    pub uid: String,
    /// The single reasons.
    pub causes: Vec<StatusCause>,
    /// When to try again.
    pub retry_after_seconds: u32,
}

/// An outcome of a request, mostly a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// HTTP code.
    pub code: u16,
    /// Machine-readable reason, such as `NotFound`; empty where there is none.
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// What it is about.
    pub details: Option<Details>,
    /// Continue token of the failed list, in its metadata (expired lists only).
    pub continue_token: Option<String>,
}

impl Status {
    /// Any failure.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_string(),
            message: message.into(),
            details: None,
            continue_token: None,
        }
    }

    /// The outcome of a request that has no other body.
    pub fn success() -> Self {
        Self::failure(200, "", "")
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details = Some(Details {
            name: name.to_string(),
            group: resource.group.clone(),
            kind: resource.plural.clone(),
            ..Details::default()
        });
        self
    }

    /// Adds causes.
    pub fn with_causes(mut self, causes: Vec<StatusCause>) -> Self {
        self.details
            .get_or_insert_with(Details::default)
            .causes
            .extend(causes);
        self
    }

    /// Says when to try again.
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details
            .get_or_insert_with(Details::default)
            .retry_after_seconds = seconds;
        self
    }

    /// 404: no such object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        Self::failure(
            404,
            "NotFound",
            format!("{} \"{name}\" not found", resource.qualified_plural()),
        )
        .about(resource, name)
    }

    /// 404: no such path.
    pub fn not_found_path() -> Self {
        Self::failure(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .with_details(Details::default())
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        Self::failure(
            409,
            "AlreadyExists",
            format!("{} \"{name}\" already exists", resource.qualified_plural()),
        )
        .about(resource, name)
    }

    /// 409: the request does not fit the object's state; `why` such as `OBJECT_MODIFIED`.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            resource.qualified_plural()
        );
        Self::failure(409, "Conflict", message).about(resource, name)
    }

    /// 422: the object breaks rules of its kind.
    pub fn invalid(resource: &Resource, name: &str, errors: Vec<FieldError>) -> Self {
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for text in errors.iter().map(FieldError::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = if texts.len() == 1 {
            texts.concat()
        } else {
            format!("[{}]", texts.join(", "))
        };
        let kind = if resource.group.is_empty() {
            resource.kind.clone()
        } else {
            format!("{}.{}", resource.kind, resource.group)
        };
        let mut status = Self::failure(422, "Invalid", format!("{kind} \"{name}\" is invalid: {list}"));
        let causes = errors
            .into_iter()
            .map(|error| StatusCause {
                reason: error.reason.as_str().to_string(),
                message: error.message,
                field: error.field,
            })
            .collect();
        status.details = Some(Details {
            name: name.to_string(),
            group: resource.group.clone(),
            kind: resource.kind.clone(),
            causes,
            ..Details::default()
        });
        status
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 401: nobody known.
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 403: known and not allowed; `why` such as `User "x" cannot list resource ...`.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let plural = resource.qualified_plural();
        let message = if name.is_empty() {
            format!("{plural} is forbidden: {why}")
        } else {
            format!("{plural} \"{name}\" is forbidden: {why}")
        };
        Self::failure(403, "Forbidden", message).about(resource, name)
    }

    /// 403 for a path that is no resource.
    pub fn forbidden_path(why: &str) -> Self {
        Self::failure(403, "Forbidden", format!("forbidden: {why}")).with_details(Details::default())
    }

    /// 405: the verb is not served here. As in the original, a custom kind says more.
    pub fn method_not_allowed(resource: &Resource, verb: &str) -> Self {
        if verb.is_empty() || resource.custom.is_none() {
            let message = "the server does not allow this method on the requested resource";
            return Self::failure(405, "MethodNotAllowed", message).with_details(Details::default());
        }
        let plural = resource.qualified_plural();
        let message = format!("{verb} is not supported on resources of kind \"{plural}\"");
        Self::failure(405, "MethodNotAllowed", message).about(resource, "")
    }

    /// 406: no acceptable form of the answer; `served` are the media types there are.
    pub fn not_acceptable(served: &[&str]) -> Self {
        let message = format!(
            "only the following media types are accepted: {}",
            served.join(", ")
        );
        Self::failure(406, "NotAcceptable", message)
    }

    /// 415: the body's media type is not read here.
    pub fn unsupported_media_type(read: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            read.join(", ")
        );
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// 410: the revision is gone for good.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, "Gone", message)
    }

    /// 410 as watches and lists give it: start anew.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 429: come back later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::failure(429, "TooManyRequests", message).with_retry_after(retry_after_seconds)
    }

    /// 504: the outcome is not known in time.
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let message = format!("Timeout: {}", message.into());
        Self::failure(504, "Timeout", message).with_retry_after(retry_after_seconds)
    }

    /// 413: the body is too large.
    pub fn too_large(bytes_max: usize) -> Self {
        Self::failure(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {bytes_max}"),
        )
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// 500: our fault.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        let message = error.to_string();
        let cause = StatusCause {
            message: message.clone(),
            ..StatusCause::default()
        };
        Self::failure(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
        .with_causes(vec![cause])
    }

    /// Sets what it is about.
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(details);
        self
    }

    /// The document.
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".to_string(), json!(token));
        }
        let mut document = Map::new();
        document.insert("kind".to_string(), json!("Status"));
        document.insert("apiVersion".to_string(), json!("v1"));
        document.insert("metadata".to_string(), Value::Object(metadata));
        document.insert(
            "status".to_string(),
            json!(if self.code < 400 { "Success" } else { "Failure" }),
        );
        put(&mut document, "message", &self.message);
        put(&mut document, "reason", &self.reason);
        if let Some(details) = &self.details {
            document.insert("details".to_string(), details.to_value());
        }
        if self.code >= 400 {
            document.insert("code".to_string(), json!(self.code));
        }
        Value::Object(document)
    }
}

/// Why an update that raced with another is refused.
pub const OBJECT_MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl Details {
    fn to_value(&self) -> Value {
        let mut document = Map::new();
        put(&mut document, "name", &self.name);
        put(&mut document, "group", &self.group);
        put(&mut document, "kind", &self.kind);
        put(&mut document, "uid", &self.uid);
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|cause| {
                let mut one = Map::new();
                put(&mut one, "reason", &cause.reason);
                put(&mut one, "message", &cause.message);
                put(&mut one, "field", &cause.field);
                Value::Object(one)
            });
            document.insert("causes".to_string(), causes.collect());
        }
        if self.retry_after_seconds > 0 {
            document.insert("retryAfterSeconds".to_string(), json!(self.retry_after_seconds));
        }
        Value::Object(document)
    }
}

fn put(document: &mut Map<String, Value>, field: &str, text: &str) {
    if !text.is_empty() {
        document.insert(field.to_string(), json!(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::find;
    use crate::validate::Cause;

    #[test]
    fn documents_are_the_originals() {
        let deployments = find("apps", "v1", "deployments").unwrap();
        assert_eq!(
            Status::not_found(&deployments, "web").to_value(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404,
                "message": "deployments.apps \"web\" not found",
                "details": {"name": "web", "group": "apps", "kind": "deployments"}
            })
        );
        let pods = find("", "v1", "pods").unwrap();
        let missing = FieldError::new("spec.containers", Cause::Required, "Required value");
        assert_eq!(
            Status::invalid(&pods, "x", vec![missing.clone()]).to_value(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Invalid", "code": 422,
                "message": "Pod \"x\" is invalid: spec.containers: Required value",
                "details": {"name": "x", "kind": "Pod", "causes": [
                    {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"}
                ]}
            })
        );
        let other = FieldError::new("spec.replicas", Cause::Required, "Required value");
        let two = Status::invalid(&deployments, "x", vec![missing.clone(), other, missing]);
        assert_eq!(
            two.message,
            "Deployment.apps \"x\" is invalid: [spec.containers: Required value, spec.replicas: Required value]"
        );
        assert_eq!(two.details.map(|details| details.causes.len()), Some(3));
    }
}
