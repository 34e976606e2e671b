//! Which pending pods wait for which node to be freed: `status.nominatedNodeName`, as known here.
//!
//! A nomination is a promise, not an assignment: pods of lower priority are judged as if the nominated pod ran
//! there, others take no notice. Owned by the scheduler's thread.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::view::Key;

struct Nominated {
    node: String,
    pod: Arc<Pod>,
}

#[derive(Default)]
pub(crate) struct Nominations {
    pods: HashMap<Key, Nominated>,
}

pub(crate) fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

impl Nominations {
    pub(crate) fn set(&mut self, key: &str, node: &str, pod: Arc<Pod>) {
        let node = node.to_owned();
        self.pods.insert(key.to_owned(), Nominated { node, pod });
    }

    /// The pod waits no more. Returns the node that it waited for.
    pub(crate) fn remove(&mut self, key: &str) -> Option<String> {
        self.pods.remove(key).map(|nominated| nominated.node)
    }

    /// The node that the pod waits for.
    pub(crate) fn of(&self, key: &str) -> Option<&str> {
        self.pods.get(key).map(|nominated| nominated.node.as_str())
    }

    /// Pods that others of `priority` must leave room for, with their nodes; the pod itself is not among them.
    pub(crate) fn ahead_of(&self, key: &str, least: i32) -> impl Iterator<Item = (&str, &Arc<Pod>)> {
        let others = self.pods.iter().filter(move |(other, _)| *other != key);
        others
            .filter(move |(_, nominated)| priority(&nominated.pod) >= least)
            .map(|(_, nominated)| (nominated.node.as_str(), &nominated.pod))
    }

    /// Pods that wait for the node and must yield to one of `priority`.
    pub(crate) fn yielding(&self, node: &str, to: i32) -> Vec<(Key, Arc<Pod>)> {
        let here = self
            .pods
            .iter()
            .filter(|(_, one)| one.node == node && priority(&one.pod) < to);
        here.map(|(key, one)| (key.clone(), Arc::clone(&one.pod)))
            .collect()
    }

    pub(crate) fn clear(&mut self) {
        self.pods.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    fn pod(priority: i32) -> Arc<Pod> {
        let spec = PodSpec {
            priority: Some(priority),
            ..Default::default()
        };
        Arc::new(Pod {
            spec: Some(spec),
            ..Default::default()
        })
    }

    #[test]
    fn a_promise_binds_pods_of_the_same_or_lower_priority_only() {
        let mut nominations = Nominations::default();
        nominations.set("high", "a", pod(10));
        nominations.set("low", "a", pod(1));
        assert_eq!(nominations.ahead_of("me", 5).count(), 1);
        assert_eq!(nominations.ahead_of("me", 1).count(), 2);
        assert_eq!(nominations.ahead_of("low", 1).count(), 1, "not for itself");
        assert_eq!(nominations.ahead_of("me", 11).count(), 0);
        let yielding: Vec<Key> = nominations
            .yielding("a", 10)
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(yielding, ["low"]);
        assert_eq!(nominations.remove("low").as_deref(), Some("a"));
        assert_eq!(nominations.of("low"), None);
    }
}
