//! TokenRequest: a JSON Web Token for a service account, for a time, perhaps bound to a pod, a secret or a node.

use capstan_kinds::resource::{Resource, find};
use capstan_kinds::status::Status;
use capstan_kinds::validate::FieldError;
use serde_json::{Value, json};

use crate::access::Claims;
use crate::admission;
use crate::answer::{self, Answer};
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;
use crate::{time, write};

/// Seconds that a token lives at least, by default, and at most.
const LIFE_SECONDS_MIN: i64 = 600;
const LIFE_SECONDS: i64 = 3600;
const LIFE_SECONDS_MAX: i64 = 1 << 32;
/// The life that kubelets ask for on behalf of pods that asked for none: such a token lives on for
/// [`EXTENDED_SECONDS`], for programs that never read it again.
const LIFE_SECONDS_EXTENDED: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

pub(super) async fn issue(server: &Server, call: &mut Call) -> Answer {
    let mut document = match call.body.is_empty() {
        true => json!({ "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1" }),
        false => write::decode(crate::negotiate::content_type(&call.headers), &call.body)?.object,
    };
    in_place(call, &document)?;
    server.registry.newest().await?;
    let Some(account) = server
        .registry
        .cached(&call.resource, call.namespace(), call.name())
    else {
        return Err(Status::not_found(&call.resource, call.name()).into());
    };
    let uid = &*account.index.uid;
    let asked = document["metadata"]["uid"].as_str().unwrap_or_default();
    if !asked.is_empty() && asked != uid {
        let why = format!(
            "the UID in the token request ({asked}) does not match the UID of the service account ({uid})"
        );
        return Err(Status::conflict(&request_kind("TokenRequest"), call.name(), &why).into());
    }
    let life = document["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(LIFE_SECONDS);
    check_life(life)?;
    let audiences = match strings(&document["spec"]["audiences"]) {
        none if none.is_empty() => vec![server.tokens.issuer.clone()],
        some => some,
    };
    document["spec"]["audiences"] = json!(audiences);
    document["spec"]["expirationSeconds"] = json!(life);
    document["metadata"] = json!({
        "name": call.name(), "namespace": call.namespace(), "uid": uid, "creationTimestamp": time::now(),
    });
    admission::token_request(server, call, &document)?;
    let mut about = json!({
        "namespace": call.namespace(),
        "serviceaccount": { "name": call.name(), "uid": uid },
    });
    bind(server, call, &document["spec"]["boundObjectRef"], &mut about)?;
    let now = jiff::Timestamp::now().as_second();
    let mut expires = now.saturating_add(life);
    let ours = audiences == [server.tokens.issuer.clone()];
    if about["pod"].is_object() && life == LIFE_SECONDS_EXTENDED && ours {
        about["warnafter"] = json!(expires);
        expires = now + EXTENDED_SECONDS;
    }
    let claims = Claims {
        aud: audiences,
        exp: expires,
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
    document["status"] = json!({ "token": token, "expirationTimestamp": time::at(life) });
    Ok(answer::json(201, &document))
}

/// The kind as errors name it.
fn request_kind(plural: &str) -> Resource {
    Resource {
        group: "authentication.k8s.io".into(),
        kind: "TokenRequest".into(),
        plural: plural.into(),
        ..Resource::default()
    }
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

/// Whether the request says the account of its URL, where it says one.
fn in_place(call: &Call, document: &Value) -> Result<(), Refusal> {
    let metadata = &document["metadata"];
    for (field, is) in [("name", call.name()), ("namespace", call.namespace())] {
        let said = metadata[field].as_str().unwrap_or_default();
        if !said.is_empty() && said != is {
            let why = format!("must match the service account {field} if specified");
            let error = FieldError::invalid_text(format!("metadata.{field}"), said, &why);
            return Err(Status::invalid(&request_kind("tokenrequests"), call.name(), vec![error]).into());
        }
    }
    Ok(())
}

fn check_life(life: i64) -> Result<(), Refusal> {
    let why = if life < LIFE_SECONDS_MIN {
        "may not specify a duration less than 10 minutes"
    } else if life > LIFE_SECONDS_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let error = FieldError::invalid("spec.expirationSeconds", &json!(life), why);
    Err(Status::invalid(&request_kind("tokenrequests"), "", vec![error]).into())
}

/// Adds the object that the token is bound to, and the node of a pod, to what it says.
fn bind(server: &Server, call: &Call, bound: &Value, about: &mut Value) -> Result<(), Refusal> {
    if !bound.is_object() {
        return Ok(());
    }
    let text = |field: &str| bound[field].as_str().unwrap_or_default();
    let (field, plural, namespace) = match (text("apiVersion"), text("kind")) {
        ("v1" | "", "Pod") => ("pod", "pods", call.namespace()),
        ("v1" | "", "Secret") => ("secret", "secrets", call.namespace()),
        ("v1" | "", "Node") => ("node", "nodes", ""),
        (version, kind) => {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let message = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(message).into());
        }
    };
    let kind = find("", "v1", plural).ok_or_else(|| Status::internal("a kind is not in the table"))?;
    let Some(entry) = server.registry.cached(&kind, namespace, text("name")) else {
        return Err(Status::not_found(&kind, text("name")).into());
    };
    let uid = &*entry.index.uid;
    about[field] = json!({ "name": text("name"), "uid": uid });
    if field == "pod" {
        let pod = entry.decode();
        if pod["spec"]["serviceAccountName"] != call.name() {
            let message = format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                call.name()
            );
            return Err(Status::bad_request(message).into());
        }
        if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
            let nodes = find("", "v1", "nodes").and_then(|nodes| server.registry.cached(&nodes, "", node));
            about["node"] = json!({ "name": node });
            if let Some(known) = nodes {
                about["node"]["uid"] = json!(known.index.uid);
            }
        }
    }
    let asked = text("uid");
    if !asked.is_empty() && asked != uid {
        let why = format!(
            "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        let kind = Resource {
            group: String::new(),
            plural: text("kind").to_owned(),
            ..Resource::default()
        };
        return Err(Status::conflict(&kind, text("name"), &why).into());
    }
    Ok(())
}
