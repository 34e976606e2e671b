//! One request as webhooks and policies see it.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use capstan_kinds::admission::{Input, Request};
use capstan_kinds::cel::{Access, Answer, Question, Subject as Who};
use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use capstan_kinds::{default, validate};
use capstan_points::admission::Operation;
use serde_json::{Map, Value, json};

use crate::access::{Attributes, UserInfo};
use crate::admission::Subject;
use crate::call::Call;
use crate::conversion;
use crate::refusal::Refusal;
use crate::server::Server;

/// A request whose object is of another kind than the resource that it is sent to, such as a Scale or the
/// options of an exec.
#[derive(Debug, Clone)]
pub(crate) struct Other {
    pub operation: Operation,
    pub subresource: String,
    /// Group, version and kind.
    pub kind: (String, String, String),
}

/// See the module.
pub(in crate::admission) struct Attempt<'s> {
    pub(super) server: &'s Server,
    user: Arc<UserInfo>,
    pub(super) request: Request,
    pub(in crate::admission) object: Option<Arc<Value>>,
    pub(super) old: Option<Arc<Value>>,
    /// Of the request's namespace, or of the one that is written.
    pub(super) labels: Vec<(String, String)>,
    /// Decoded when the first expression is evaluated.
    namespace: OnceLock<Option<Value>>,
}

/// A request and its objects in one version.
pub(super) struct Seen {
    pub object: Option<Arc<Value>>,
    pub old: Option<Arc<Value>>,
    /// AdmissionRequest without objects and uid.
    pub request: Value,
}

impl<'s> Attempt<'s> {
    pub(in crate::admission) fn new(
        server: &'s Server,
        call: &Call,
        subject: &Subject,
        object: Option<Arc<Value>>,
    ) -> Self {
        let request = request(server, call, subject, object.as_deref());
        Self::of(server, call, request, object, subject.old.clone())
    }

    /// Of an object of another kind.
    pub(in crate::admission) fn other(
        server: &'s Server,
        call: &Call,
        other: &Other,
        object: Option<Arc<Value>>,
        old: Option<Arc<Value>>,
        dry_run: bool,
    ) -> Self {
        let subject = Subject {
            operation: other.operation,
            subresource: "",
            old: None,
            dry_run,
        };
        let mut request = request(server, call, &subject, None);
        request.subresource = other.subresource.clone();
        request.kind = Some(other.kind.clone());
        Self::of(server, call, request, object, old)
    }

    fn of(
        server: &'s Server,
        call: &Call,
        request: Request,
        object: Option<Arc<Value>>,
        old: Option<Arc<Value>>,
    ) -> Self {
        let mut labels = Vec::new();
        if request.is_namespace() {
            let written = object.as_deref().or(old.as_deref());
            let own = written.and_then(|written| written["metadata"]["labels"].as_object());
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            labels.extend(
                own.into_iter()
                    .flatten()
                    .map(|(key, value)| (key.clone(), text(value))),
            );
        } else if !request.namespace.is_empty() {
            labels = server.namespace_labels(&request.namespace);
        }
        Self {
            server,
            user: call.user.clone(),
            request,
            object,
            old,
            labels,
            namespace: OnceLock::new(),
        }
    }

    /// `namespaceObject`: none for a namespace itself and for what stands in none.
    fn namespace(&self) -> Option<&Value> {
        let decode = || {
            if self.request.namespace.is_empty() || self.request.resource.is("", "Namespace") {
                return None;
            }
            let mut namespace = self.server.namespace(&self.request.namespace)?.decode();
            if let Some(metadata) = namespace["metadata"].as_object_mut() {
                metadata.remove("managedFields");
                metadata.remove("ownerReferences");
            }
            Some(namespace)
        };
        self.namespace.get_or_init(decode).as_ref()
    }

    /// A document in the version of a resource that stands for the same objects.
    pub(super) async fn versioned(
        &self,
        resource: &Arc<Resource>,
        document: Option<&Arc<Value>>,
    ) -> Result<Option<Arc<Value>>, Refusal> {
        let Some(document) = document else { return Ok(None) };
        if Arc::ptr_eq(resource, &self.request.resource) || self.request.kind.is_some() {
            return Ok(Some(document.clone()));
        }
        let own = (**document).clone();
        let converted = conversion::to_version(&self.server.registry, resource, own).await?;
        Ok(Some(Arc::new(converted)))
    }

    /// Takes a changed object of the version of `resource`, with its defaults. Says whether it is another one.
    pub(super) async fn take(
        &mut self,
        resource: &Arc<Resource>,
        mut object: Value,
    ) -> Result<bool, Refusal> {
        if self.request.kind.is_none() {
            fits(resource, &object)?;
            default::apply(resource, &mut object);
        }
        if !Arc::ptr_eq(resource, &self.request.resource) && self.request.kind.is_none() {
            object = conversion::to_version(&self.server.registry, &self.request.resource, object).await?;
        }
        let changed = self.object.as_deref() != Some(&object);
        self.object = Some(Arc::new(object));
        Ok(changed)
    }

    /// The request and its objects as one of `resource`.
    pub(super) async fn seen_as(&self, resource: &Arc<Resource>) -> Result<Seen, Refusal> {
        Ok(Seen {
            object: self.versioned(resource, self.object.as_ref()).await?,
            old: self.versioned(resource, self.old.as_ref()).await?,
            request: self.request.to_value(resource),
        })
    }

    /// What expressions see.
    pub(super) fn input<'a>(&'a self, seen: &'a Seen, params: Option<&'a Value>) -> Input<'a> {
        let request = &self.request;
        let whole = Question {
            group: request.resource.group.clone(),
            resource: request.resource.plural.clone(),
            subresource: request.subresource.clone(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            ..Question::default()
        };
        Input {
            object: seen.object.as_deref(),
            old: seen.old.as_deref(),
            request: &seen.request,
            params,
            namespace: self.namespace(),
            access: Some(Access::new(whole, |question| self.answer(question))),
        }
    }

    fn answer(&self, question: &Question) -> Answer {
        let user = match &question.subject {
            Who::Requester => Cow::Borrowed(&*self.user),
            Who::ServiceAccount(namespace, name) => {
                Cow::Owned(UserInfo::service_account(namespace, name, "").authenticated())
            }
        };
        let mut attributes = Attributes {
            verb: question.verb.clone(),
            group: question.group.clone(),
            resource: question.resource.clone(),
            subresource: question.subresource.clone(),
            namespace: question.namespace.clone(),
            name: question.name.clone(),
            ..Attributes::default()
        };
        attributes.path = question.path.clone();
        Answer {
            allowed: self.server.authorize(&user, &attributes).is_ok(),
            ..Answer::default()
        }
    }

    /// A refusal with status Forbidden, as every plugin of the original words it.
    pub(super) fn forbidden(&self, why: &str) -> Status {
        let text = |field: &str| {
            let object = self.object.as_deref()?;
            object["metadata"][field]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let name = match self.request.name.as_str() {
            "" => text("name")
                .or_else(|| text("generateName"))
                .unwrap_or_else(|| "Unknown".to_owned()),
            name => name.to_owned(),
        };
        Status::forbidden(&self.request.resource, &name, why)
    }
}

fn request(server: &Server, call: &Call, subject: &Subject, object: Option<&Value>) -> Request {
    let resource = call.resource.clone();
    let document = object.or(subject.old.as_deref());
    let own = document.and_then(|document| document["metadata"]["name"].as_str());
    let name = own
        .filter(|name| !name.is_empty())
        .unwrap_or(call.name())
        .to_owned();
    let namespace = match resource.is("", "Namespace") {
        true => name.clone(),
        false => call.namespace().to_owned(),
    };
    Request {
        equivalent: server.registry.table.equivalent(&resource),
        kind: None,
        subresource: subject.subresource.to_owned(),
        operation: match subject.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        },
        namespace,
        name,
        user: user(&call.user),
        dry_run: subject.dry_run,
        options: options(call, subject),
        resource,
    }
}

/// What hooks make must still be what it was, with values of the right types.
fn fits(resource: &Resource, object: &Value) -> Result<(), Refusal> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version != resource.api_version() || kind != resource.kind || !object["metadata"].is_object() {
        return Err(Status::internal(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}",
            resource.kind
        ))
        .into());
    }
    validate::types(resource, object).map_err(|why| Status::internal(why).into())
}

fn user(user: &UserInfo) -> Value {
    let mut document = Map::new();
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            document.insert(field.to_owned(), json!(text));
        }
    }
    if !user.groups.is_empty() {
        document.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        let extra: Map<String, Value> = user
            .extra
            .iter()
            .map(|(key, all)| (key.clone(), json!(all)))
            .collect();
        document.insert("extra".to_owned(), Value::Object(extra));
    }
    Value::Object(document)
}

fn options(call: &Call, subject: &Subject) -> Value {
    let kind = match subject.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => return delete_options(call, subject),
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
    if subject.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    for field in ["fieldManager", "fieldValidation"] {
        if let Some(text) = call.query.get(field) {
            options[field] = json!(text);
        }
    }
    options
}

fn delete_options(call: &Call, subject: &Subject) -> Value {
    let sent = crate::write::decode(crate::negotiate::content_type(&call.headers), &call.body);
    let sent = sent.map(|decoded| decoded.object).unwrap_or_default();
    let mut options = match sent {
        Value::Object(fields) if sent_options(&fields) => Value::Object(fields),
        _ => json!({}),
    };
    options["kind"] = json!("DeleteOptions");
    options["apiVersion"] = json!("meta.k8s.io/v1");
    if subject.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    if let Some(seconds) = call.query.number("gracePeriodSeconds") {
        options["gracePeriodSeconds"] = json!(seconds);
    }
    if let Some(policy) = call.query.get("propagationPolicy") {
        options["propagationPolicy"] = json!(policy);
    }
    options
}

/// An eviction's body is no DeleteOptions.
fn sent_options(fields: &Map<String, Value>) -> bool {
    !fields.contains_key("metadata")
}
