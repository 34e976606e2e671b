//! Where objects stand in the store: `/registry/KIND/NAMESPACE/NAME` or `/registry/KIND/NAME`.

use capstan_kinds::resource::Resource;

/// Everything of this API server stands below it.
pub(crate) const ROOT: &str = "/registry/";

/// The store's key of an object.
pub(crate) fn of(resource: &Resource, namespace: &str, name: &str) -> String {
    format!(
        "{ROOT}{}/{}",
        resource.storage_prefix(),
        within(resource, namespace, name)
    )
}

/// The key within its kind's cache.
pub(crate) fn within(resource: &Resource, namespace: &str, name: &str) -> String {
    if resource.namespaced {
        format!("{namespace}/{name}")
    } else {
        name.to_owned()
    }
}

/// The prefix within a kind's cache of a namespace's objects; empty for all.
pub(crate) fn below(resource: &Resource, namespace: &str) -> String {
    if resource.namespaced && !namespace.is_empty() {
        format!("{namespace}/")
    } else {
        String::new()
    }
}

/// Splits a store key into kind and key within the kind.
pub(crate) fn split(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?.split_once('/')
}
