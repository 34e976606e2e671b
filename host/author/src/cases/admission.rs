//! A request to an admission policy: mutated and validated as the admission chain would.

use std::sync::Arc;

use capstan_points::admission::{Denial, Operation, Patch, Policy, Review, Verdict};
use capstan_points::{Fault, FaultKind};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Form};
use crate::context::plural_of;
use crate::rig::Rig;

/// A request, by its objects.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Question {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`; by default what the objects tell.
    operation: Option<Operation>,
    object: Option<Value>,
    old: Option<Value>,
    subresource: String,
    /// Plural; by default of the object's kind.
    resource: Option<String>,
    namespace_labels: std::collections::BTreeMap<String, String>,
    user: Option<String>,
    groups: Vec<String>,
    dry_run: bool,
    now: Option<Value>,
}

impl Question {
    /// The creation of an object.
    pub(crate) fn creation(object: Value) -> Self {
        Self {
            object: Some(object),
            ..Self::default()
        }
    }

    pub(crate) fn prepare<'a>(&'a self, rig: &'a Rig) -> Result<Ask<'a>, String> {
        let review = self.review()?;
        let seat = rig.host.admission_seats().borrow().first().cloned();
        let policy = seat.ok_or("no admission policy is loaded")?.policy;
        Ok(Box::new(move |form| {
            if !policy.covers(&review) {
                return Ok(json!({"verdict": "not asked"}));
            }
            rig.runtime.block_on(ask(&*policy, &review, form))
        }))
    }

    fn review(&self) -> Result<Arc<Review>, String> {
        let subject = self.object.as_ref().or(self.old.as_ref());
        let subject = subject.ok_or("a request has an object, or an old one")?;
        let text = |at: &Value| at.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&subject["apiVersion"]), text(&subject["kind"]));
        if api_version.is_empty() || kind.is_empty() {
            return Err("the object has no apiVersion or no kind".into());
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let operation = self.operation.unwrap_or(match (&self.object, &self.old) {
            (Some(_), Some(_)) => Operation::Update,
            (None, Some(_)) => Operation::Delete,
            _ => Operation::Create,
        });
        let cluster_scoped = capstan_kinds::resource::find_kind(&api_version, &kind)
            .is_some_and(|resource| !resource.namespaced);
        let namespace = match subject["metadata"]["namespace"].as_str() {
            Some(namespace) => namespace.to_owned(),
            None if cluster_scoped => String::new(),
            None => "default".to_owned(),
        };
        let shared = |object: &Option<Value>| object.clone().map(Arc::new);
        Ok(Arc::new(Review {
            uid: "00000000-0000-0000-0000-000000000000".into(),
            operation,
            group: group.to_owned(),
            version: version.to_owned(),
            resource: self
                .resource
                .clone()
                .unwrap_or_else(|| plural_of(&api_version, &kind)),
            subresource: self.subresource.clone(),
            kind,
            namespace,
            namespace_labels: self.namespace_labels.clone().into_iter().collect(),
            name: text(&subject["metadata"]["name"]),
            user: self.user.clone().unwrap_or_else(|| "author".into()),
            groups: self.groups.clone(),
            dry_run: self.dry_run,
            now_ms: super::time(self.now.as_ref())?,
            object: shared(&self.object),
            old: shared(&self.old),
        }))
    }
}

async fn ask(policy: &dyn Policy, review: &Arc<Review>, form: Form) -> Result<Value, Fault> {
    let mut review = Arc::clone(review);
    let mut answer = json!({});
    if policy.mutates() {
        let patches: Vec<Value> = policy
            .mutate(Arc::clone(&review))
            .await?
            .iter()
            .map(patch)
            .collect();
        let patched = patched(&review, &patches)?;
        if form == Form::Shown {
            answer["object"] = patched.clone();
            answer["patches"] = Value::Array(patches);
        }
        if policy.validates() && review.object.is_some() {
            review = Arc::new(Review {
                object: Some(Arc::new(patched)),
                ..(*review).clone()
            });
        }
    }
    let verdict = match policy.validates() {
        true => policy.validate(review).await?,
        false => Verdict::Allow(Vec::new()),
    };
    match verdict {
        _ if form == Form::Silent => return Ok(Value::Null),
        Verdict::Allow(warnings) => {
            answer["verdict"] = json!("allow");
            answer["warnings"] = json!(warnings);
        }
        // Cases ask the component, whose binding has no mode.
        Verdict::Deny(Denial { code, message, field })
        | Verdict::Warn(Denial { code, message, field })
        | Verdict::Audit(Denial { code, message, field }) => {
            answer["verdict"] = json!("deny");
            answer["code"] = json!(code);
            answer["message"] = json!(message);
            if let Some(field) = field {
                answer["field"] = json!(field);
            }
        }
    }
    Ok(answer)
}

fn patched(review: &Review, patches: &[Value]) -> Result<Value, Fault> {
    let mut object = review.object.as_deref().cloned().unwrap_or_default();
    if !patches.is_empty() {
        capstan_kinds::patch::json(&mut object, &Value::Array(patches.to_vec())).map_err(|error| {
            Fault::new(
                FaultKind::Garbage,
                format!("its patches do not fit the object: {error}"),
            )
        })?;
    }
    Ok(object)
}

fn patch(patch: &Patch) -> Value {
    match patch {
        Patch::Add { path, value } => json!({"op": "add", "path": path, "value": value}),
        Patch::Replace { path, value } => json!({"op": "replace", "path": path, "value": value}),
        Patch::Remove { path } => json!({"op": "remove", "path": path}),
    }
}
