//! Who one is at a registry: from the file that `docker login` writes, which is also what a pull Secret holds.

use base64::Engine;
use serde_json::Value;

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// The entry that fits an image best, of a `config.json` (`{"auths": …}`), or of the older `.dockercfg`, which
    /// is what stands in `auths` alone.
    pub fn find(config: &[u8], image: &str) -> Option<Self> {
        let config: Value = serde_json::from_slice(config).ok()?;
        let servers = config.get("auths").unwrap_or(&config).as_object()?;
        let fitting = servers.iter().filter(|(server, _)| fits(server, image));
        let (_, entry) = fitting.max_by_key(|(server, _)| server.len())?;
        let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        if let (Some(username), Some(password)) = (text("username"), text("password")) {
            return Some(Self { username, password });
        }
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(text("auth")?.trim())
            .ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (username, password) = decoded.split_once(':')?;
        Some(Self {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }
}

/// The registry that an image comes from.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
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
