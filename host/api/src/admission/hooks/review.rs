//! AdmissionReview: what a webhook is sent, and what it answers. Pure.

use base64::Engine;
use capstan_kinds::admission::Webhook;
use capstan_kinds::status::{Details, Status, StatusCause};
use serde_json::{Value, json};

use super::attempt::Seen;

/// Warnings of one answer that are shown, and bytes of each.
const WARNINGS_MAX: usize = 64;

/// What a webhook said.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// None where it allows the request.
    pub refusal: Option<Status>,
    /// A JSON patch, empty where there is none.
    pub patch: Vec<Value>,
    pub warnings: Vec<String>,
    pub annotations: Vec<(String, String)>,
}

/// The review, and its uid.
pub(super) fn ask(webhook: &Webhook, seen: &Seen) -> Result<(String, Value), String> {
    let version = webhook
        .review_version
        .ok_or("webhook does not accept known AdmissionReview versions (v1, v1beta1)")?;
    let uid = uuid::Uuid::new_v4().to_string();
    let mut request = seen.request.clone();
    request["uid"] = json!(uid);
    request["object"] = seen.object.as_deref().cloned().unwrap_or_default();
    request["oldObject"] = seen.old.as_deref().cloned().unwrap_or_default();
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": request,
    });
    Ok((uid, review))
}

/// Reads what came back; an error says what is wrong with it.
pub(super) fn read(webhook: &Webhook, uid: &str, mutating: bool, review: &Value) -> Result<Answer, String> {
    let response = &review["response"];
    if !response.is_object() {
        return Err("webhook response was absent".into());
    }
    let patch = response["patch"].as_str().unwrap_or_default();
    let kind = response["patchType"].as_str();
    if webhook.review_version == Some("v1") {
        let own = response["uid"].as_str().unwrap_or_default();
        if own != uid {
            return Err(format!("expected response.uid={uid:?}, got {own:?}"));
        }
        let text = |field: &str| review[field].as_str().unwrap_or_default();
        if (text("apiVersion"), text("kind")) != ("admission.k8s.io/v1", "AdmissionReview") {
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, Kind={}",
                slashed(text("apiVersion")),
                text("kind")
            ));
        }
        patches(mutating, patch, kind)?;
    }
    if mutating && !patch.is_empty() && kind.is_some_and(|kind| kind != "JSONPatch") {
        return Err(format!("unsupported patch type {:?}", kind.unwrap_or_default()));
    }
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    let named = |(key, value): (&String, &Value)| {
        let value = value.as_str().unwrap_or_default().to_owned();
        (format!("{}/{key}", webhook.name), value)
    };
    let mut warnings = texts(&response["warnings"]);
    warnings.truncate(WARNINGS_MAX);
    let allowed = response["allowed"] == true;
    Ok(Answer {
        refusal: (!allowed).then(|| refusal(webhook, &response["status"])),
        patch: if allowed && mutating {
            decode(patch)?
        } else {
            Vec::new()
        },
        warnings,
        annotations: annotations.map(named).collect(),
    })
}

fn slashed(api_version: &str) -> String {
    match api_version.contains('/') {
        true => api_version.to_owned(),
        false => format!("/{api_version}"),
    }
}

fn patches(mutating: bool, patch: &str, kind: Option<&str>) -> Result<(), String> {
    Err(match (mutating, patch.is_empty(), kind) {
        (true, false, None) => "webhook returned response.patch but not response.patchType".to_owned(),
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch".to_owned(),
        (true, _, Some("")) => "webhook returned invalid response.patchType of \"\"".to_owned(),
        (false, false, _) => "validating webhook may not return response.patch".to_owned(),
        (false, _, Some(_)) => "validating webhook may not return response.patchType".to_owned(),
        _ => return Ok(()),
    })
}

fn decode(patch: &str) -> Result<Vec<Value>, String> {
    if patch.is_empty() {
        return Ok(Vec::new());
    }
    let undecodable = |why: String| format!("received undecodable patch in webhook response: {why}");
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(patch)
        .map_err(|error| undecodable(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| undecodable(error.to_string()))
}

/// The webhook's own status, made a failure that names the webhook.
fn refusal(webhook: &Webhook, status: &Value) -> Status {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let denied = format!("admission webhook {:?} denied the request", webhook.name);
    let (message, reason) = (text(&status["message"]), text(&status["reason"]));
    let message = match (message.is_empty(), reason.is_empty()) {
        (false, _) => format!("{denied}: {message}"),
        (true, false) => format!("{denied}: {reason}"),
        (true, true) => format!("{denied} without explanation"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
    let mut refusal = Status::failure(code, &reason, message);
    let details = &status["details"];
    if details.is_object() {
        let causes = details["causes"].as_array().into_iter().flatten();
        refusal.details = Some(Details {
            name: text(&details["name"]),
            group: text(&details["group"]),
            kind: text(&details["kind"]),
            uid: text(&details["uid"]),
            causes: causes
                .map(|cause| StatusCause {
                    reason: text(&cause["reason"]),
                    message: text(&cause["message"]),
                    field: text(&cause["field"]),
                })
                .collect(),
            retry_after_seconds: details["retryAfterSeconds"].as_u64().unwrap_or(0) as u32,
        });
    }
    refusal
}
