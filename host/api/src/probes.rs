//! Paths about the server itself: version, metrics, the token issuer's keys; component statuses; and why pods are
//! where they are, which another part knows.

use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::call::Call;
use crate::metrics;
use crate::present::Presenter;
use crate::server::Server;
use capstan_kinds::status::Status;

/// The Kubernetes version whose API is served.
const GIT_VERSION: &str = "v1.36.0+capstan";
/// Prometheus' text form.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

pub(crate) async fn answer(server: &Server, path: &str) -> Answer {
    Ok(match path {
        "/version" => answer::json(200, &version()),
        "/metrics" => answer::with_type(200, METRICS, metrics::page(server).into()),
        "/openid/v1/jwks" => answer::json(200, &server.tokens.key_set()),
        _ => answer::json(200, &issuer(&server.tokens.issuer)),
    })
}

/// Why a pod is where it is, as the scheduler remembers it.
pub(crate) fn explain(server: &Server, path: &str) -> Answer {
    let parts: Vec<&str> = path.split('/').collect();
    let decision = match (&server.explanations, parts.as_slice()) {
        (Some(explain), ["", "explain", "namespaces", namespace, "pods", name]) => explain(namespace, name),
        _ => None,
    };
    let decision = decision.ok_or_else(Status::not_found_path)?;
    Ok(answer::json(200, &decision))
}

pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
        "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
    })
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn issuer(issuer: &str) -> Value {
    json!({
        "issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"),
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// GET and LIST of the deprecated component statuses: the store alone can be asked from here.
pub(crate) async fn components(server: &Server, call: &Call) -> Answer {
    let problem = server
        .registry
        .store
        .status()
        .await
        .err()
        .map(|error| error.to_string());
    let component = json!({
        "kind": "ComponentStatus", "apiVersion": "v1", "metadata": { "name": "etcd-0" },
        "conditions": [{
            "type": "Healthy", "status": if problem.is_none() { "True" } else { "False" },
            "message": problem.unwrap_or_else(|| "ok".into()),
        }],
    });
    let bytes = crate::present::to_bytes(&component);
    let stored = crate::registry::canonical(component).unwrap_or_default();
    let Some(entry) = crate::registry::Entry::read(Some(&call.resource), &stored, 0) else {
        return Err(Status::internal("a component status lost its form").into());
    };
    let presenter: Presenter = call.presenter()?;
    if call.name().is_empty() {
        if presenter.form.view == crate::negotiate::View::Table {
            return Ok(answer::json(200, &presenter.table(&[entry], json!({}), true)));
        }
        let items: Vec<Value> = serde_json::from_slice(&bytes).into_iter().collect();
        let list =
            json!({ "kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": items });
        return Ok(answer::json(200, &list));
    }
    if call.name() != "etcd-0" {
        return Err(Status::not_found(&call.resource, call.name()).into());
    }
    Ok(answer::bytes(
        200,
        presenter.form,
        presenter.content_type(),
        presenter.single(&entry),
    ))
}
