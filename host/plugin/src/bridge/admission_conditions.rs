//! `matchConditions` and the conditions of exceptions: CEL over a request, judged at load and held within a budget.
//!
//! What an expression sees is the request as the policy sees it: `request` without uid, options and the user's extra
//! fields, and of the namespace its name and labels. Evaluated in the caller's task while it is cheap, aside of it
//! beyond that.

use std::sync::Arc;

use capstan_kinds::admission::{Conditions as Compiled, Environment, Input, Matched};
use capstan_kinds::cel;
use capstan_kinds::plugin::MatchCondition;
use capstan_points::admission::{Operation, Review};
use serde_json::{Map, Value, json};

use crate::error::LoadError;

/// Conditions of one list.
const CONDITIONS_MAX: usize = 64;
/// Units that are evaluated in the caller's task, about a millisecond.
const PATIENCE: u64 = 20_000;

/// Conditions that must all hold.
#[derive(Debug, Clone)]
pub(crate) struct Conditions(Arc<Compiled>);

impl Conditions {
    /// Compiles them; `fails` says whether one that cannot be evaluated is a fault, or does not hold.
    pub(crate) fn compile(field: &str, list: &[MatchCondition], fails: bool) -> Result<Self, LoadError> {
        if list.len() > CONDITIONS_MAX {
            let wanted = format!("at most {CONDITIONS_MAX} conditions");
            return Err(LoadError::spec(field, list.len().to_string(), wanted));
        }
        let environment = Environment {
            authorizer: false,
            ..Environment::plain(true)
        };
        for (index, one) in list.iter().enumerate() {
            if let Err(why) = environment.compile(&one.expression, &["bool"]) {
                let field = format!("{field}[{index}].expression");
                let wanted = format!("a CEL expression that gives a bool ({why})");
                return Err(LoadError::spec(field, &one.expression, wanted));
            }
        }
        let document = list.iter().map(|one| json!({ "expression": one.expression }));
        let compiled = Compiled::read(&Value::Array(document.collect()), fails, &environment);
        Ok(Self(Arc::new(compiled)))
    }

    /// Whether all hold for this request; `params` is the plugin's configuration.
    pub(crate) async fn hold(&self, review: &Arc<Review>, params: &Arc<Value>) -> Matched {
        if self.0.is_empty() {
            return Matched::Yes;
        }
        if let Some(matched) = cel::within(PATIENCE, || evaluate(&self.0, review, params)) {
            return matched;
        }
        let (compiled, review, params) = (Arc::clone(&self.0), Arc::clone(review), Arc::clone(params));
        let aside = tokio::task::spawn_blocking(move || evaluate(&compiled, &review, &params));
        aside
            .await
            .unwrap_or_else(|_| Matched::Failed("the plugin host is closing".into()))
    }
}

fn evaluate(conditions: &Compiled, review: &Review, params: &Value) -> Matched {
    let (request, namespace) = (request(review), namespace(review));
    conditions.hold(&Input {
        object: review.object.as_deref(),
        old: review.old.as_deref(),
        request: &request,
        params: Some(params),
        namespace: namespace.as_ref(),
        access: None,
    })
}

/// An AdmissionRequest, as far as a policy knows it.
fn request(review: &Review) -> Value {
    let kind = json!({ "group": review.group, "version": review.version, "kind": review.kind });
    let resource = json!({ "group": review.group, "version": review.version, "resource": review.resource });
    let operation = match review.operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    };
    json!({
        "kind": kind, "resource": resource, "subResource": review.subresource,
        "requestKind": kind, "requestResource": resource, "requestSubResource": review.subresource,
        "name": review.name, "namespace": review.namespace, "operation": operation,
        "userInfo": { "username": review.user, "groups": review.groups }, "dryRun": review.dry_run,
    })
}

fn namespace(review: &Review) -> Option<Value> {
    if review.namespace.is_empty() {
        return None;
    }
    let labels: Map<String, Value> = review
        .namespace_labels
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    Some(json!({ "metadata": { "name": review.namespace, "labels": labels } }))
}
