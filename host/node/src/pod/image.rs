//! Images: when to pull, with which credentials, and what failures are called. The decisions are pure.

use base64::Engine;
use capstan_runtime::AuthConfig;
use k8s_openapi::api::core::v1::{Container, Secret};
use serde_json::Value;

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// The container's policy; the API's default where it names none.
pub(crate) fn pull_policy(container: &Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        Some("Never") => PullPolicy::Never,
        _ if is_latest(container.image.as_deref().unwrap_or_default()) => PullPolicy::Always,
        _ => PullPolicy::IfNotPresent,
    }
}

fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// The registry that an image comes from.
pub(crate) fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// The first credentials among the pull secrets that fit the image.
pub(crate) fn credentials<'a>(
    image: &str,
    secrets: impl IntoIterator<Item = &'a Secret>,
) -> Option<AuthConfig> {
    secrets.into_iter().find_map(|secret| of_secret(image, secret))
}

fn of_secret(image: &str, secret: &Secret) -> Option<AuthConfig> {
    let data = secret.data.as_ref()?;
    let servers = match data.get(".dockerconfigjson") {
        Some(config) => serde_json::from_slice::<Value>(&config.0)
            .ok()?
            .get("auths")?
            .clone(),
        None => serde_json::from_slice(&data.get(".dockercfg")?.0).ok()?,
    };
    let matching = servers
        .as_object()?
        .iter()
        .filter(|(server, _)| fits(server, image));
    let (_, entry) = matching.max_by_key(|(server, _)| server.len())?;
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(AuthConfig { username, password });
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(text("auth")?.trim())
        .ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(AuthConfig {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

/// Whether an entry like `https://registry.example/v1/` or `registry.example/team` is for this image.
fn fits(server: &str, image: &str) -> bool {
    let server = server
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let (host, path) = server.split_once('/').unwrap_or((server, ""));
    let host = if host == "index.docker.io" {
        "docker.io"
    } else {
        host
    };
    if host != registry(image) {
        return false;
    }
    let path = path
        .trim_start_matches("v1")
        .trim_start_matches("v2")
        .trim_matches('/');
    let repository = image
        .strip_prefix(host)
        .map_or(image, |rest| rest.trim_start_matches('/'));
    path.is_empty()
        || repository == path
        || repository
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with(['/', ':', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", PullPolicy::Always),
            ("nginx:latest", PullPolicy::Always),
            ("localhost:5000/nginx", PullPolicy::Always),
            ("nginx:1.2", PullPolicy::IfNotPresent),
            ("nginx@sha256:aa", PullPolicy::IfNotPresent),
        ] {
            let container = Container {
                image: Some(image.into()),
                ..Default::default()
            };
            assert_eq!(pull_policy(&container), policy, "{image}");
        }
    }

    #[test]
    fn credentials_fit_registry_and_path() {
        let config = json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": "aHViOnB3" },
            "reg.example": { "username": "all", "password": "1" },
            "reg.example/team": { "username": "team", "password": "2" },
        }})
        .to_string();
        let secret = Secret {
            data: Some(
                [(
                    ".dockerconfigjson".to_owned(),
                    k8s_openapi::ByteString(config.into_bytes()),
                )]
                .into(),
            ),
            ..Default::default()
        };
        let user = |image| credentials(image, [&secret]).map(|auth| auth.username);
        assert_eq!(user("nginx:1").as_deref(), Some("hub"));
        assert_eq!(user("reg.example/x:1").as_deref(), Some("all"));
        assert_eq!(user("reg.example/team/x:1").as_deref(), Some("team"));
        assert_eq!(user("reg.example/teammate:1").as_deref(), Some("all"));
        assert_eq!(user("other.example/x"), None);
    }
}
