//! Image references as Kubernetes users write them, and their one canonical form.
//!
//! `hello:1` is `docker.io/library/hello:1`; without a tag or digest it is `:latest`. Pure.

use oci_spec::distribution::Reference;

use crate::{Error, Result};

/// Understands a reference as a pod's `image` field has it.
pub(crate) fn parse(text: &str) -> Result<Reference> {
    text.trim().parse().map_err(|error| {
        let hint = match text.contains("://") || text.starts_with('/') {
            true => "an image in a file is put into the store by `capstan image load FILE --name NAME:TAG`",
            false => "a reference looks like registry/name:tag",
        };
        Error::image(
            "InvalidImageName",
            format!("couldn't parse image name \"{text}\": {error}; {hint}"),
        )
    })
}

/// `registry/repository:tag`, or with `@digest` where it is pinned.
pub(crate) fn canonical(reference: &Reference) -> String {
    let name = repository(reference);
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("{name}@{digest}"),
        (None, tag) => format!("{name}:{}", tag.unwrap_or("latest")),
    }
}

/// `registry/repository`.
pub(crate) fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// Registries on this machine speak HTTP, as container tools take for granted.
pub(crate) fn is_local(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_one_form() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let cases = [
            ("hello", "docker.io/library/hello:latest".to_owned()),
            ("hello:1", "docker.io/library/hello:1".to_owned()),
            ("me/hello:1", "docker.io/me/hello:1".to_owned()),
            ("capstan.dev/hello:1", "capstan.dev/hello:1".to_owned()),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest".to_owned()),
            (
                &format!("hello:1@{digest}"),
                format!("docker.io/library/hello@{digest}"),
            ),
        ];
        for (text, form) in cases {
            assert_eq!(canonical(&parse(text).unwrap()), form);
        }
        assert!(
            parse("file:///x.wasm")
                .unwrap_err()
                .to_string()
                .contains("capstan image load")
        );
        for text in ["", "UPPER", "a b", "http://x/y", "x:"] {
            let error = parse(text).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Image {
                        reason: "InvalidImageName",
                        ..
                    }
                ),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn local_registries() {
        for (registry, local) in [
            ("localhost:5000", true),
            ("127.0.0.2", true),
            ("[::1]:5000", true),
            ("ghcr.io", false),
        ] {
            assert_eq!(is_local(registry), local, "{registry}");
        }
    }
}
