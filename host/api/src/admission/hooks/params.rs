//! Parameters of policies: the objects that a binding points to.

use std::sync::Arc;

use capstan_kinds::admission::{Binding, ParamKind};
use serde_json::Value;

use super::attempt::Attempt;

/// Parameters, each with its place for who wants to tell them apart; one none where the policy is evaluated
/// without. An error is a wrong configuration, in the original's words.
pub(super) fn collect(
    attempt: &Attempt<'_>,
    kind: Option<&ParamKind>,
    binding: &Binding,
) -> Result<Vec<Option<Arc<Value>>>, String> {
    let (Some(kind), Some(wanted)) = (kind, &binding.params) else {
        return Ok(vec![None]);
    };
    let registry = &attempt.server.registry;
    let (_, all) = registry.table.all();
    let resource = all
        .iter()
        .find(|one| one.is_stored() && one.kind == kind.kind && one.api_version() == kind.api_version)
        .ok_or_else(|| format!("paramKind kind `{}` not known", kind.shown()))?;
    let below = if resource.namespaced {
        let namespace = match (&*wanted.namespace, attempt.request.namespace.as_str()) {
            ("", "") => {
                return Err(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                        .into(),
                );
            }
            ("", own) => own,
            (named, _) => named,
        };
        format!("{namespace}/")
    } else if !wanted.namespace.is_empty() {
        return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
    } else {
        String::new()
    };
    let cache = registry.cache(resource);
    let decode = |object: Value| {
        let object = capstan_kinds::convert::to_version(resource, object);
        Some(Arc::new(object))
    };
    let mut found: Vec<Option<Arc<Value>>> = Vec::new();
    if !wanted.name.is_empty() {
        let entry = cache.get(&format!("{below}{}", wanted.name));
        found.extend(entry.map(|entry| decode(entry.decode())));
    } else if let Some(selector) = &wanted.selector {
        let (_, objects) = cache.list(&below);
        let chosen = objects
            .iter()
            .filter(|(_, entry)| selector.matches(|key| entry.index.label(key)));
        found.extend(chosen.map(|(_, entry)| decode(entry.decode())));
    } else {
        return Err("one of name or selector must be provided".into());
    }
    if found.is_empty() && wanted.must_exist {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}

/// Whether the kind of a policy's parameters is served.
pub(super) fn is_known(attempt: &Attempt<'_>, kind: Option<&ParamKind>) -> Result<(), String> {
    let Some(kind) = kind else { return Ok(()) };
    let (_, all) = attempt.server.registry.table.all();
    let served = |kind: &ParamKind| {
        all.iter()
            .any(|one| one.kind == kind.kind && one.api_version() == kind.api_version)
    };
    if served(kind) {
        return Ok(());
    }
    Err(format!(
        "failed to find resource referenced by paramKind: '{}'",
        kind.shown()
    ))
}
