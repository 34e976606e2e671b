//! Images: when to pull, with which credentials, and what failures are called. The decisions are pure.

use capstan_registry::Login;
use capstan_runtime::AuthConfig;
use k8s_openapi::api::core::v1::{Container, Secret};

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

/// The first credentials among the pull secrets that fit the image.
pub(crate) fn credentials<'a>(
    image: &str,
    secrets: impl IntoIterator<Item = &'a Secret>,
) -> Option<AuthConfig> {
    secrets.into_iter().find_map(|secret| of_secret(image, secret))
}

fn of_secret(image: &str, secret: &Secret) -> Option<AuthConfig> {
    let data = secret.data.as_ref()?;
    let config = data.get(".dockerconfigjson").or_else(|| data.get(".dockercfg"))?;
    let Login { username, password } = Login::find(&config.0, image)?;
    Some(AuthConfig { username, password })
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
