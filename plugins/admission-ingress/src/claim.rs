//! Which hosts an ingress claims, and who has them already.

use serde::Deserialize;

/// An ingress, as far as its class and hosts go.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Ingress {
    pub metadata: Metadata,
    pub spec: Spec,
}

/// Who it is.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Metadata {
    pub namespace: String,
    pub name: String,
}

/// What it routes.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Spec {
    pub ingress_class_name: Option<String>,
    pub default_backend: Option<Backend>,
    pub rules: Option<Vec<Rule>>,
}

/// That there is one is all that counts.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
pub struct Backend {}

/// A host and its paths.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Rule {
    pub host: String,
    pub http: Option<Paths>,
}

/// Paths of a host.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Paths {
    pub paths: Option<Vec<Path>>,
}

/// One path.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Path {
    pub path: String,
}

/// Within what a host is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Within {
    /// A host belongs to a namespace, whose ingresses may share it.
    Namespace,
    /// A host belongs to one ingress.
    Ingress,
    /// A path of a host belongs to one ingress.
    Path,
}

/// A host, or a path of one, that an ingress wants for itself.
#[derive(Debug, PartialEq)]
pub(crate) struct Claim {
    pub(crate) rule: usize,
    host: String,
    path: Option<String>,
}

impl Claim {
    pub(crate) fn same(&self, other: &Self) -> bool {
        (&self.host, &self.path) == (&other.host, &other.path)
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) => write!(f, "path {path:?} of host {:?}", self.host),
            None => write!(f, "host {:?}", self.host),
        }
    }
}

/// What the ingress claims. Hosts are the same in any case of letters.
pub(crate) fn of(ingress: &Ingress, within: Within) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    for (rule, Rule { host, http }) in ingress.spec.rules.iter().flatten().enumerate() {
        if host.is_empty() {
            continue;
        }
        let claim = |path| Claim {
            rule,
            host: host.to_ascii_lowercase(),
            path,
        };
        if within == Within::Path {
            let paths = http.iter().flat_map(|http| http.paths.iter().flatten());
            claims.extend(paths.map(|path| claim(Some(path.path.trim_end_matches('/').to_owned() + "/"))));
        } else {
            claims.push(claim(None));
        }
    }
    claims
}

/// The first claim that another ingress has, and which.
pub(crate) fn taken<'a>(
    claims: &'a [Claim],
    others: &'a [Ingress],
    within: Within,
    (namespace, name): (&str, &str),
) -> Option<(&'a Claim, &'a Ingress)> {
    let stranger = |other: &&Ingress| {
        let same_namespace = other.metadata.namespace == namespace;
        !same_namespace || (within != Within::Namespace && other.metadata.name != name)
    };
    others.iter().filter(stranger).find_map(|other| {
        let theirs = of(other, within);
        let claim = claims
            .iter()
            .find(|claim| theirs.iter().any(|held| held.same(claim)))?;
        Some((claim, other))
    })
}
