//! Which requests a webhook or a policy is about: rules, selectors, names, and other versions of what was
//! asked for.
//! Invariants: as in the original, selectors are asked first; an exclusion wins; an equivalent resource counts
//! only where no rule names the requested one.

use std::sync::Arc;

use serde_json::Value;

use super::request::Request;
use crate::resource::Resource;
use crate::selector::LabelSelector;

/// One of `rules` or `resourceRules`.
#[derive(Debug, Clone)]
pub struct Rule {
    groups: Box<[Box<str>]>,
    versions: Box<[Box<str>]>,
    operations: Box<[Box<str>]>,
    /// Resource and subresource.
    resources: Box<[(Box<str>, Box<str>)]>,
    scope: Scope,
    /// Empty for all.
    names: Box<[Box<str>]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    Namespaced,
    Cluster,
}

fn words(value: &Value) -> Box<[Box<str>]> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(Into::into).collect()
}

impl Rule {
    /// Reads a `RuleWithOperations`, named or not.
    pub fn read(rule: &Value) -> Self {
        let split = |text: &str| match text.split_once('/') {
            Some((resource, subresource)) => (resource.into(), subresource.into()),
            None => (text.into(), "".into()),
        };
        Self {
            groups: words(&rule["apiGroups"]),
            versions: words(&rule["apiVersions"]),
            operations: words(&rule["operations"]),
            resources: words(&rule["resources"]).iter().map(|text| split(text)).collect(),
            scope: match rule["scope"].as_str() {
                Some("Namespaced") => Scope::Namespaced,
                Some("Cluster") => Scope::Cluster,
                _ => Scope::All,
            },
            names: words(&rule["resourceNames"]),
        }
    }

    pub(super) fn all(rules: &Value) -> Box<[Rule]> {
        rules.as_array().into_iter().flatten().map(Rule::read).collect()
    }

    /// Whether it is about the request as one of `resource`.
    fn covers(&self, request: &Request, resource: &Resource) -> bool {
        let has = |list: &[Box<str>], wanted: &str| list.iter().any(|one| &**one == "*" || **one == *wanted);
        let in_namespace = !request.namespace.is_empty() && !resource.is("", "Namespace");
        let scope = match self.scope {
            Scope::All => true,
            Scope::Namespaced => in_namespace,
            Scope::Cluster => !in_namespace,
        };
        let named = |(plural, subresource): &(Box<str>, Box<str>)| {
            (&**plural == "*" || **plural == *resource.plural)
                && (&**subresource == "*" || **subresource == *request.subresource)
        };
        scope
            && has(&self.operations, request.operation)
            && has(&self.groups, &resource.group)
            && has(&self.versions, &resource.version)
            && self.resources.iter().any(named)
            && (self.names.is_empty() || self.names.iter().any(|name| **name == *request.name))
    }

    /// As which resource the request is meant by the rules; none where it is not.
    pub(super) fn find<'r>(
        rules: &[Rule],
        equivalent: bool,
        request: &'r Request,
    ) -> Option<&'r Arc<Resource>> {
        if rules.iter().any(|rule| rule.covers(request, &request.resource)) {
            return Some(&request.resource);
        }
        if !equivalent {
            return None;
        }
        let others = |rule: &Rule| request.equivalent.iter().find(|one| rule.covers(request, one));
        rules.iter().find_map(others)
    }
}

/// `namespaceSelector` and `objectSelector`.
#[derive(Debug, Clone)]
pub(super) struct Selectors {
    namespace: LabelSelector,
    object: LabelSelector,
}

impl Selectors {
    pub(super) fn read(spec: &Value) -> Self {
        let selector = |field: &str| match &spec[field] {
            Value::Null => LabelSelector::everything(),
            selector => LabelSelector::from_value(selector).unwrap_or_else(|_| LabelSelector::nothing()),
        };
        Self {
            namespace: selector("namespaceSelector"),
            object: selector("objectSelector"),
        }
    }

    /// `namespace` holds the labels of the request's namespace, or of the namespace that is written.
    pub(super) fn matches(
        &self,
        request: &Request,
        namespace: &[(String, String)],
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> bool {
        let of_namespace = |key: &str| {
            let label = namespace.iter().find(|(name, _)| name == key);
            label.map(|(_, value)| value.as_str())
        };
        let nowhere = request.namespace.is_empty() && request.resource.plural != "namespaces";
        if !nowhere && !self.namespace.is_empty() && !self.namespace.matches(of_namespace) {
            return false;
        }
        self.object.is_empty()
            || [object, old]
                .into_iter()
                .flatten()
                .any(|one| self.object.matches_object(one))
    }
}

/// `matchConstraints` of a policy or `matchResources` of a binding.
#[derive(Debug, Clone)]
pub struct MatchResources {
    selectors: Selectors,
    rules: Box<[Rule]>,
    excluded: Box<[Rule]>,
    equivalent: bool,
}

impl MatchResources {
    /// Reads its text.
    pub fn read(text: &Value) -> Self {
        Self {
            selectors: Selectors::read(text),
            rules: Rule::all(&text["resourceRules"]),
            excluded: Rule::all(&text["excludeResourceRules"]),
            equivalent: text["matchPolicy"] == "Equivalent",
        }
    }

    /// As which resource the request is meant; none where it is not.
    pub fn find<'r>(
        &self,
        request: &'r Request,
        namespace: &[(String, String)],
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Option<&'r Arc<Resource>> {
        if !self.selectors.matches(request, namespace, object, old) {
            return None;
        }
        if Rule::find(&self.excluded, self.equivalent, request).is_some() {
            return None;
        }
        if self.rules.is_empty() {
            return Some(&request.resource);
        }
        Rule::find(&self.rules, self.equivalent, request)
    }
}
