//! The objects of a kind by namespace and name, by the uid of their controller, and by what the kind adds. Pure.
//!
//! Invariant: an object is in every index under what it says now, and under nothing else. Called by the
//! informer alone. Not here: where objects come from.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kube::Resource;

/// What a kind is also looked up by, such as the node of a pod.
pub(crate) type Index<K> = fn(&K) -> Option<String>;

/// Cluster-scoped objects are in the empty namespace.
#[derive(Debug)]
pub(crate) struct Objects<K> {
    by_namespace: BTreeMap<String, HashMap<String, Arc<K>>>,
    by_controller: Keys,
    /// By namespace, those that nobody controls.
    uncontrolled: Keys,
    index: Option<Index<K>>,
    by_index: Keys,
}

type Key = (String, String);
type Keys = HashMap<String, HashSet<Key>>;

fn link(keys: &mut Keys, under: String, key: &Key) {
    keys.entry(under).or_default().insert(key.clone());
}

fn unlink(keys: &mut Keys, under: &str, key: &Key) {
    if let Some(of_one) = keys.get_mut(under) {
        of_one.remove(key);
        if of_one.is_empty() {
            keys.remove(under);
        }
    }
}

fn controller<K: Resource>(object: &K) -> Option<&str> {
    let mut owners = object.meta().owner_references.iter().flatten();
    let controller = owners.find(|owner| owner.controller == Some(true))?;
    Some(&controller.uid)
}

fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

impl<K: Resource> Objects<K> {
    pub(crate) fn new(index: Option<Index<K>>) -> Self {
        Self {
            by_namespace: BTreeMap::new(),
            by_controller: HashMap::new(),
            uncontrolled: HashMap::new(),
            index,
            by_index: HashMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, object: Arc<K>) {
        let key = key(object.as_ref());
        self.forget(&key);
        match controller(object.as_ref()) {
            Some(uid) => link(&mut self.by_controller, uid.to_owned(), &key),
            None => link(&mut self.uncontrolled, key.0.clone(), &key),
        }
        if let Some(under) = self.index.and_then(|index| index(&object)) {
            link(&mut self.by_index, under, &key);
        }
        self.by_namespace.entry(key.0).or_default().insert(key.1, object);
    }

    pub(crate) fn remove(&mut self, object: &K) {
        let key = key(object);
        self.forget(&key);
        if let Some(names) = self.by_namespace.get_mut(&key.0) {
            names.remove(&key.1);
            if names.is_empty() {
                self.by_namespace.remove(&key.0);
            }
        }
    }

    /// Takes what is there under `key` out of the indexes.
    fn forget(&mut self, key: &Key) {
        let Some(before) = self.get(&key.0, &key.1) else {
            return;
        };
        match controller(before.as_ref()) {
            Some(uid) => unlink(&mut self.by_controller, uid, key),
            None => unlink(&mut self.uncontrolled, &key.0, key),
        }
        if let Some(under) = self.index.and_then(|index| index(&before)) {
            unlink(&mut self.by_index, &under, key);
        }
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.by_namespace.get(namespace)?.get(name).map(Arc::clone)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.by_namespace.values().flat_map(HashMap::values)
    }

    pub(crate) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.by_namespace
            .get(namespace)
            .into_iter()
            .flat_map(HashMap::values)
    }

    pub(crate) fn of_controller(&self, uid: &str) -> impl Iterator<Item = &Arc<K>> {
        self.under(self.by_controller.get(uid))
    }

    pub(crate) fn uncontrolled(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.under(self.uncontrolled.get(namespace))
    }

    pub(crate) fn indexed(&self, under: &str) -> impl Iterator<Item = &Arc<K>> {
        self.under(self.by_index.get(under))
    }

    fn under<'a>(&'a self, keys: Option<&'a HashSet<Key>>) -> impl Iterator<Item = &'a Arc<K>> {
        let keys = keys.into_iter().flatten();
        keys.filter_map(|(namespace, name)| self.by_namespace.get(namespace)?.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{from_value, json};

    #[test]
    fn the_indexes_follow() {
        let pod = |namespace: &str, name: &str, owner: &str, controller: bool| -> Arc<Pod> {
            let owner =
                json!({"apiVersion": "v1", "kind": "X", "name": "x", "uid": owner, "controller": controller});
            let meta = json!({"namespace": namespace, "name": name, "ownerReferences": [owner]});
            Arc::new(
                from_value(json!({ "metadata": meta, "spec": {"nodeName": name, "containers": []} }))
                    .unwrap(),
            )
        };
        let node: Index<Pod> = |pod| pod.spec.as_ref()?.node_name.clone();
        let mut pods = Objects::new(Some(node));
        for (namespace, name, owner) in [("a", "1", "u"), ("a", "2", "u"), ("b", "1", "v")] {
            pods.insert(pod(namespace, name, owner, true));
        }
        let counts = |pods: &Objects<Pod>| {
            [
                pods.of_controller("u").count(),
                pods.of_controller("v").count(),
                pods.of_namespace("a").count(),
                pods.uncontrolled("a").count(),
                pods.indexed("1").count(),
                pods.all().count(),
            ]
        };
        assert_eq!(counts(&pods), [2, 1, 2, 0, 2, 3]);
        pods.insert(pod("a", "1", "v", false));
        assert_eq!(counts(&pods), [1, 1, 2, 1, 2, 3]);
        for (namespace, name) in [("a", "1"), ("a", "2"), ("b", "1"), ("b", "9")] {
            pods.remove(&pod(namespace, name, "whatever it says", true));
        }
        assert_eq!(counts(&pods), [0; 6]);
        assert!(pods.by_controller.is_empty() && pods.by_namespace.is_empty() && pods.by_index.is_empty());
    }
}
