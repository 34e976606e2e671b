//! The parts of an image's name.

/// A name as container runtimes read it.
pub(crate) struct Image<'a> {
    /// With registry: `docker.io/library/nginx`.
    repository: String,
    tag: Option<&'a str>,
    pub(crate) digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    pub(crate) fn parse(name: &'a str) -> Self {
        let (name, digest) = name
            .split_once('@')
            .map_or((name, None), |(name, digest)| (name, Some(digest)));
        // A colon before the last slash is a registry's port.
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (name, None),
        };
        let repository = match path.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => path.to_owned(),
            Some(_) => format!("docker.io/{path}"),
            None => format!("docker.io/library/{path}"),
        };
        Self {
            repository,
            tag,
            digest,
        }
    }

    pub(crate) fn registry(&self) -> &str {
        self.repository.split('/').next().unwrap_or_default()
    }

    /// Whether it is in a registry, or in a folder of one.
    pub(crate) fn is_from(&self, registry: &str) -> bool {
        let rest = self.repository.strip_prefix(registry.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The tag; `latest` where neither tag nor digest is given.
    pub(crate) fn effective_tag(&self) -> Option<&'a str> {
        self.tag.or(if self.digest.is_none() {
            Some("latest")
        } else {
            None
        })
    }
}
