//! The table of built-in kinds: every generally available kind of Kubernetes v1.36 and the `Plugin` kind.
//! Invariants: one row a group, version and plural; versions of one kind share a storage prefix.
//! Parsed once from `data/resources.tsv`. Custom resources get a row from `Resource::custom`, made by the
//! API server from their definition (`custom::rows`), and are not in this table.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

const TABLE: &str = include_str!("../data/resources.tsv");

/// One served kind in one version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: String,
    /// Version within the group, such as `v1`.
    pub version: String,
    /// Lower-case plural: the path segment.
    pub plural: String,
    /// Lower-case singular.
    pub singular: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Kind of a list of it, such as `DeploymentList`.
    pub list_kind: String,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Verbs, sorted, as discovery shows them.
    pub verbs: Vec<String>,
    /// Short names, such as `deploy`.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
    /// Subresources, sorted by name.
    pub subresources: Vec<Subresource>,
    /// Key segment shared by all versions of the kind; see `Resource::storage_prefix`.
    pub storage: String,
    /// What its definition says, for a custom kind.
    pub custom: Option<Arc<crate::custom::Version>>,
}

/// A subresource of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subresource {
    /// Path segment, such as `status`.
    pub name: String,
    /// Verbs, sorted.
    pub verbs: Vec<String>,
    /// Group, version and kind of its body where they differ from the parent's.
    pub group_version_kind: Option<(String, String, String)>,
}

impl Resource {
    /// A row for a custom resource: derives singular, list kind and storage prefix where they are empty.
    pub fn custom(mut self) -> Self {
        if self.singular.is_empty() {
            self.singular = self.kind.to_lowercase();
        }
        if self.list_kind.is_empty() {
            self.list_kind = format!("{}List", self.kind);
        }
        if self.storage.is_empty() {
            self.storage = storage_of(&self.group, &self.plural);
        }
        self
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`, or `pods` for the core group: the name used in error messages.
    pub fn qualified_plural(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources
            .iter()
            .find(|subresource| subresource.name == name)
    }

    /// Whether status is written through its own subresource.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether objects are kept: false for reviews, bindings and component statuses.
    pub fn is_stored(&self) -> bool {
        self.verbs.iter().any(|verb| verb == "watch")
    }

    /// Whether strategic merge patches are taken: by the original's kinds, not by those that came after.
    /// kubectl then calculates merge patches, which need no schema of free-form fields.
    pub fn merges_strategically(&self) -> bool {
        self.group != crate::plugin::GROUP && self.custom.is_none()
    }

    /// Key segment shared by the versions of one kind: `deployments.apps`, `events`,
    /// `horizontalpodautoscalers.autoscaling`.
    pub fn storage_prefix(&self) -> &str {
        &self.storage
    }

    /// Whether this row is the given kind of the given group, in any version.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.kind == kind && self.group == group
    }
}

struct Table {
    rows: Vec<Arc<Resource>>,
    by_plural: HashMap<&'static str, Vec<usize>>,
    by_kind: HashMap<&'static str, Vec<usize>>,
}

static ROWS: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table {
        rows: Vec::new(),
        by_plural: HashMap::new(),
        by_kind: HashMap::new(),
    };
    for line in TABLE.lines().skip(1) {
        let columns: Vec<&'static str> = line.split('\t').collect();
        let index = table.rows.len();
        table.by_plural.entry(columns[2]).or_default().push(index);
        table.by_kind.entry(columns[3]).or_default().push(index);
        table.rows.push(Arc::new(row(&columns)));
    }
    table
});

/// Every built-in kind in the order of discovery.
pub fn all() -> &'static [Arc<Resource>] {
    &ROWS.rows
}

/// The kind served at a group, version and plural.
pub fn find(group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
    ROWS.by_plural
        .get(plural)?
        .iter()
        .map(|index| &ROWS.rows[*index])
        .find(|row| row.group == group && row.version == version)
        .cloned()
}

/// The kind with an object's `apiVersion` and `kind`.
pub fn find_kind(api_version: &str, kind: &str) -> Option<Arc<Resource>> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    ROWS.by_kind
        .get(kind)?
        .iter()
        .map(|index| &ROWS.rows[*index])
        .find(|row| row.group == group && row.version == version)
        .cloned()
}

fn row(columns: &[&str]) -> Resource {
    let column = |index: usize| columns.get(index).copied().unwrap_or_default();
    let (group, version) = (column(0), column(1));
    let mut subresources: Vec<Subresource> = column(7)
        .split(';')
        .fold(Vec::<String>::new(), |mut parts, part| {
            // A body kind is separated by `;` too, inside the brackets: join it back.
            match parts.last_mut() {
                Some(open) if open.contains('[') && !open.contains(']') => {
                    open.push(';');
                    open.push_str(part);
                }
                _ => parts.push(part.to_string()),
            }
            parts
        })
        .iter()
        .filter_map(|text| subresource(text, version))
        .collect();
    subresources.sort_by(|a, b| a.name.cmp(&b.name));
    Resource {
        group: group.to_string(),
        version: version.to_string(),
        plural: column(2).to_string(),
        singular: column(3).to_lowercase(),
        kind: column(3).to_string(),
        list_kind: format!("{}List", column(3)),
        namespaced: column(4) == "true",
        verbs: words(column(5)),
        short_names: words(column(6)),
        categories: words(column(8)),
        subresources,
        storage: storage_of(group, column(2)),
        custom: None,
    }
}

/// Events are one kind served in two groups.
fn storage_of(group: &str, plural: &str) -> String {
    if group.is_empty() || (group == "events.k8s.io" && plural == "events") {
        plural.to_string()
    } else {
        format!("{plural}.{group}")
    }
}

/// Reads `name[verb,verb;group/version Kind]`.
fn subresource(text: &str, parent_version: &str) -> Option<Subresource> {
    let (name, rest) = text.split_once('[')?;
    let rest = rest.strip_suffix(']')?;
    let (verbs, body) = rest.split_once(';').unwrap_or((rest, ""));
    let group_version_kind = match body.split_once(' ') {
        Some((api_version, kind)) => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            Some((group.to_string(), version.to_string(), kind.to_string()))
        }
        None => option_kind(name).map(|kind| (String::new(), parent_version.to_string(), kind.to_string())),
    };
    Some(Subresource {
        name: name.to_string(),
        verbs: words(verbs),
        group_version_kind,
    })
}

/// Connect subresources are described by the kind of their options.
fn option_kind(name: &str) -> Option<&'static str> {
    Some(match name {
        "binding" => "Binding",
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        "portforward" => "PodPortForwardOptions",
        _ => return None,
    })
}

fn words(text: &str) -> Vec<String> {
    text.split(',')
        .filter(|word| !word.is_empty())
        .map(str::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_carry_what_discovery_needs() {
        let deployment = find("apps", "v1", "deployments").unwrap();
        assert_eq!(deployment.api_version(), "apps/v1");
        assert_eq!(deployment.short_names, ["deploy"]);
        assert_eq!(deployment.categories, ["all"]);
        assert_eq!(
            deployment.subresource("scale").unwrap().group_version_kind,
            Some(("autoscaling".into(), "v1".into(), "Scale".into()))
        );
        assert!(deployment.has_status() && deployment.is_stored());
        assert_eq!(find_kind("v1", "Pod").unwrap().subresources.len(), 10);
        assert_eq!(find_kind("v1", "Endpoints").unwrap().singular, "endpoints");
        assert_eq!(
            find_kind("plugins.capstan.dev/v1", "Plugin").unwrap().short_names,
            ["plg"]
        );
    }

    #[test]
    fn versions_of_one_kind_share_storage() {
        let prefixes = |plural| -> Vec<&str> {
            all()
                .iter()
                .filter(|row| row.plural == plural)
                .map(|row| row.storage_prefix())
                .collect()
        };
        assert_eq!(prefixes("events"), ["events", "events"]);
        assert_eq!(
            prefixes("horizontalpodautoscalers"),
            ["horizontalpodautoscalers.autoscaling"; 2]
        );
        assert_eq!(prefixes("pods"), ["pods"]);
    }

    #[test]
    fn reviews_are_not_stored() {
        let kept: Vec<&str> = all()
            .iter()
            .filter(|row| !row.is_stored())
            .map(|row| row.kind.as_str())
            .collect();
        assert_eq!(
            kept,
            [
                "Binding",
                "ComponentStatus",
                "SelfSubjectReview",
                "TokenReview",
                "LocalSubjectAccessReview",
                "SelfSubjectAccessReview",
                "SelfSubjectRulesReview",
                "SubjectAccessReview"
            ]
        );
    }
}
