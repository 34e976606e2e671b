//! Service account tokens for projected volumes, by the API's TokenRequest.
//!
//! A token that cannot be had is a warning and not a failure: a pod that never calls the API runs as well
//! without. A token in use is renewed at four fifths of its life; until then the one on disk stays.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection, Volume};
use kube::Api;
use kube::api::PostParams;

use super::payload::Tokens;
use crate::pod::spec;

/// Life of a token where the volume names none, in seconds.
const LIFE_SECONDS_DEFAULT: i64 = 3600;
/// A token that failed is asked for again after this.
const RETRY_SECONDS: i64 = 60;

/// The tokens of one volume.
#[derive(Debug, Default)]
pub(crate) struct Obtained {
    pub(crate) by_path: Tokens,
    pub(crate) refresh_at: Option<Timestamp>,
    pub(crate) warnings: Vec<String>,
}

/// Gets all tokens that a volume shows.
pub(crate) async fn of_volume(client: &kube::Client, pod: &Pod, volume: &Volume, folder: &Path) -> Obtained {
    let mut obtained = Obtained::default();
    let sources = volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten());
    for source in sources.filter_map(|source| source.service_account_token.as_ref()) {
        let now = Timestamp::now();
        let (token, life_seconds) = match request(client, pod, source).await {
            Ok((token, expires)) => (Some(token), expires.duration_since(now).as_secs() * 4 / 5),
            Err(message) => {
                obtained.warnings.push(format!(
                    "no token for service account \"{}\", volume \"{}\" goes without: {message}",
                    account(pod),
                    volume.name
                ));
                let before = folder
                    .join("kubernetes.io~projected")
                    .join(&volume.name)
                    .join(&source.path);
                (tokio::fs::read_to_string(before).await.ok(), RETRY_SECONDS)
            }
        };
        if let Some(token) = token {
            obtained.by_path.insert(source.path.clone(), token);
        }
        let due = now
            .saturating_add(SignedDuration::from_secs(life_seconds.max(RETRY_SECONDS)))
            .ok();
        obtained.refresh_at = obtained.refresh_at.into_iter().chain(due).min();
    }
    obtained
}

fn account(pod: &Pod) -> &str {
    spec::spec(pod)
        .service_account_name
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or("default")
}

async fn request(
    client: &kube::Client,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
) -> Result<(String, Timestamp), String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), spec::namespace(pod));
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(
                source
                    .audience
                    .iter()
                    .filter(|audience| !audience.is_empty())
                    .cloned()
                    .collect(),
            ),
            expiration_seconds: Some(source.expiration_seconds.unwrap_or(LIFE_SECONDS_DEFAULT)),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..Default::default()
    };
    let given = accounts
        .create_token_request(account(pod), &PostParams::default(), &wanted)
        .await;
    let status = given
        .map_err(|error| error.to_string())?
        .status
        .ok_or("the API server sent no token")?;
    let token = status
        .token
        .filter(|token| !token.is_empty())
        .ok_or("the API server sent no token")?;
    let expires = status.expiration_timestamp.map(|time| time.0);
    let fallback = || {
        Timestamp::now()
            .saturating_add(SignedDuration::from_secs(LIFE_SECONDS_DEFAULT))
            .ok()
    };
    Ok((
        token,
        expires
            .or_else(fallback)
            .ok_or("the token's end is out of range")?,
    ))
}
