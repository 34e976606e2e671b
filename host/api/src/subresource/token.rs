//! TokenRequest: a JSON Web Token for a service account, for a time, perhaps bound to a pod.

use capstan_kinds::resource::find;
use capstan_kinds::status::Status;
use serde_json::{Value, json};

use crate::access::Claims;
use crate::answer::{self, Answer};
use crate::call::Call;
use crate::server::Server;
use crate::{time, write};

/// Seconds that a token lives at least, by default, and at most.
const LIFE_SECONDS_MIN: i64 = 600;
const LIFE_SECONDS: i64 = 3600;
const LIFE_SECONDS_MAX: i64 = 1 << 32;

pub(super) async fn issue(server: &Server, call: &mut Call) -> Answer {
    let mut document = match call.body.is_empty() {
        true => json!({ "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1" }),
        false => write::decode(crate::negotiate::content_type(&call.headers), &call.body)?.object,
    };
    server.registry.newest().await?;
    let Some(account) = server
        .registry
        .cached(&call.resource, call.namespace(), call.name())
    else {
        return Err(Status::not_found(&call.resource, call.name()).into());
    };
    let life = document["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(LIFE_SECONDS);
    if !(LIFE_SECONDS_MIN..=LIFE_SECONDS_MAX).contains(&life) {
        let message = format!(
            "TokenRequest.authentication.k8s.io \"{}\" is invalid: spec.expirationSeconds: Invalid value: {life}: \
             must be from {LIFE_SECONDS_MIN} to {LIFE_SECONDS_MAX}",
            call.name()
        );
        return Err(Status::failure(422, "Invalid", message).into());
    }
    let audiences: Vec<String> = document["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect();
    let audiences = if audiences.is_empty() {
        vec![server.tokens.issuer.clone()]
    } else {
        audiences
    };
    let mut about = json!({
        "namespace": call.namespace(),
        "serviceaccount": { "name": call.name(), "uid": account.index.uid },
    });
    let bound = &document["spec"]["boundObjectRef"];
    if bound["kind"] == "Pod" {
        about["pod"] = pod(server, call, bound)?;
    }
    let now = jiff::Timestamp::now().as_second();
    let claims = Claims {
        aud: audiences.clone(),
        exp: now.saturating_add(life),
        iat: now,
        iss: server.tokens.issuer.clone(),
        jti: uuid::Uuid::new_v4().to_string(),
        kubernetes: about,
        nbf: now,
        sub: format!("system:serviceaccount:{}:{}", call.namespace(), call.name()),
    };
    let token = server
        .tokens
        .sign(&claims)
        .ok_or_else(|| Status::internal("the token could not be signed"))?;
    document["spec"]["audiences"] = json!(audiences);
    document["spec"]["expirationSeconds"] = json!(life);
    document["metadata"] = json!({
        "name": call.name(), "namespace": call.namespace(), "creationTimestamp": time::now(),
    });
    document["status"] = json!({ "token": token, "expirationTimestamp": time::at(life) });
    Ok(answer::json(201, &document))
}

fn pod(server: &Server, call: &Call, bound: &Value) -> Result<Value, crate::refusal::Refusal> {
    let pods = find("", "v1", "pods").ok_or_else(|| Status::internal("no pods in the table"))?;
    let name = bound["name"].as_str().unwrap_or_default();
    let Some(pod) = server.registry.cached(&pods, call.namespace(), name) else {
        return Err(Status::not_found(&pods, name).into());
    };
    let uid = bound["uid"].as_str().unwrap_or(&pod.index.uid);
    if uid != &*pod.index.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record ({})",
            pod.index.uid
        );
        return Err(Status::conflict(&pods, name, &why).into());
    }
    Ok(json!({ "name": name, "uid": uid }))
}
