//! Empties and finalizes namespaces that are being deleted.
//!
//! Invariants: the `kubernetes` finalizer goes only when a list of every listable namespaced resource came
//! back empty; while something is left, the conditions say what. Woken by the namespace and by its pods.
//! Not here: refusing creation in such a namespace, which is the API server's.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

use crate::catalog::{Catalog, Entry};
use crate::error::{Error, Tolerate, is};
use crate::informers::Informers;
use crate::work::{Key, Reconcile, keys_of, wakes};

const FINALIZER: &str = "kubernetes";

/// Resources of a namespace that are emptied at a time.
const RESOURCES_AT_A_TIME: usize = 8;

/// How soon to look again at what has finalizers of its own and does not wake us.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Whether the namespace is being deleted.
pub(crate) fn is_terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

pub(crate) struct Namespaces {
    client: Client,
    informers: Informers,
    catalog: Catalog,
}

/// What was found in a namespace after everything in it was asked to go.
#[derive(Debug, Default, Clone, PartialEq)]
struct Remains {
    /// How many objects, by `plural.group`.
    objects: BTreeMap<String, usize>,
    /// How many objects wait for each finalizer.
    finalizers: BTreeMap<String, usize>,
    failures: Vec<String>,
}

#[derive(Debug, PartialEq)]
enum Change {
    Finalize,
    Conditions(Vec<NamespaceCondition>),
}

fn plan(namespace: &Namespace, remains: &Remains, now: Time) -> Vec<Change> {
    let mut changes = Vec::new();
    let wanted = conditions(remains, now);
    let before = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let merged = merge_conditions(&before, wanted);
    let empty = remains.objects.is_empty() && remains.failures.is_empty();
    if merged != before && !empty {
        changes.push(Change::Conditions(merged));
    }
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    if empty && finalizers.is_some_and(|finalizers| finalizers.iter().any(|name| name == FINALIZER)) {
        changes.push(Change::Finalize);
    }
    changes
}

fn conditions(remains: &Remains, now: Time) -> Vec<NamespaceCondition> {
    let condition = |type_: &str, bad: Option<(&str, String)>, good: (&str, &str)| NamespaceCondition {
        type_: type_.to_owned(),
        status: if bad.is_some() { "True" } else { "False" }.to_owned(),
        reason: Some(bad.as_ref().map_or(good.0, |(reason, _)| reason).to_owned()),
        message: Some(bad.map_or_else(|| good.1.to_owned(), |(_, message)| message)),
        last_transition_time: Some(now.clone()),
    };
    let count = |what: &BTreeMap<String, usize>, words: &str| {
        let all: Vec<_> = what
            .iter()
            .map(|(name, count)| format!("{name} has {count} {words}"))
            .collect();
        all.join(", ")
    };
    let failure = (!remains.failures.is_empty()).then(|| {
        let message = format!(
            "Failed to delete all resource types, {} remaining: {}",
            remains.failures.len(),
            remains.failures.join(", ")
        );
        ("ContentDeletionFailed", message)
    });
    let content = (!remains.objects.is_empty()).then(|| {
        let counts = count(&remains.objects, "resource instances");
        (
            "SomeResourcesRemain",
            format!("Some resources are remaining: {counts}"),
        )
    });
    let finalizers = (!remains.finalizers.is_empty()).then(|| {
        let all: Vec<_> = remains
            .finalizers
            .iter()
            .map(|(name, count)| format!("{name} in {count} resource instances"))
            .collect();
        let message = format!(
            "Some content in the namespace has finalizers remaining: {}",
            all.join(", ")
        );
        ("SomeFinalizersRemain", message)
    });
    vec![
        condition(
            "NamespaceDeletionContentFailure",
            failure,
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        condition(
            "NamespaceContentRemaining",
            content,
            ("ContentRemoved", "All content successfully removed"),
        ),
        condition(
            "NamespaceFinalizersRemaining",
            finalizers,
            (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ),
    ]
}

/// Keeps the transition time of conditions whose status stays, and conditions that are not ours.
fn merge_conditions(
    before: &[NamespaceCondition],
    wanted: Vec<NamespaceCondition>,
) -> Vec<NamespaceCondition> {
    let mut merged = before.to_vec();
    for mut condition in wanted {
        match merged
            .iter_mut()
            .find(|existing| existing.type_ == condition.type_)
        {
            Some(existing) => {
                if existing.status == condition.status {
                    condition.last_transition_time = existing.last_transition_time.clone();
                }
                *existing = condition;
            }
            None => merged.push(condition),
        }
    }
    merged
}

impl Namespaces {
    pub(crate) fn new(client: Client, informers: &Informers, catalog: Catalog) -> Self {
        Self {
            client,
            informers: informers.clone(),
            catalog,
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let namespaces = self.informers.namespaces.clone();
        let of_pod = move |pod: &Pod| {
            let name = pod.metadata.namespace.clone().unwrap_or_default();
            let terminating = namespaces
                .get(None, &name)
                .is_some_and(|namespace| is_terminating(&namespace));
            if terminating {
                vec![Key::new("", name)]
            } else {
                Vec::new()
            }
        };
        vec![
            wakes(
                &self.informers.namespaces,
                |namespace| {
                    if is_terminating(namespace) {
                        vec![Key::of(namespace)]
                    } else {
                        Vec::new()
                    }
                },
                keys_of(&self.informers.namespaces),
            ),
            wakes(&self.informers.pods, of_pod, Vec::new),
        ]
    }

    async fn empty(&self, namespace: &str, entries: &[Entry]) -> Remains {
        let mut each: Vec<Entry> = entries.to_vec();
        each.retain(|entry| entry.namespaced && entry.deletable);
        let mut remains = Remains::default();
        let mut results = futures::stream::iter(each)
            .map(|entry| async move {
                let left = self.empty_of(namespace, &entry).await;
                (entry, left)
            })
            .buffer_unordered(RESOURCES_AT_A_TIME);
        while let Some((entry, result)) = results.next().await {
            let name = match entry.resource.group.as_str() {
                "" => format!("{}.", entry.resource.plural),
                group => format!("{}.{group}", entry.resource.plural),
            };
            match result {
                Ok(left) if left.is_empty() => {}
                Ok(left) => {
                    remains.objects.insert(name, left.len());
                    for finalizer in left
                        .iter()
                        .flat_map(|object| object.metadata.finalizers.iter().flatten())
                    {
                        *remains.finalizers.entry(finalizer.clone()).or_insert(0) += 1;
                    }
                }
                Err(error) => remains.failures.push(format!("{name}: {error}")),
            }
        }
        remains.failures.sort();
        remains
    }

    /// Asks all objects of one resource to go; answers with those that are still there.
    async fn empty_of(
        &self,
        namespace: &str,
        entry: &Entry,
    ) -> Result<Vec<PartialObjectMeta<DynamicObject>>, kube::Error> {
        let metadata: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(self.client.clone(), namespace, &entry.resource);
        let objects: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &entry.resource);
        let found = match metadata.list(&ListParams::default()).await {
            Ok(found) => found.items,
            Err(error) if is(&error, 404) || is(&error, 405) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let going = |object: &PartialObjectMeta<DynamicObject>| object.metadata.deletion_timestamp.is_some();
        if found.iter().all(going) {
            return Ok(found);
        }
        let background = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..Default::default()
        };
        if entry.deletes_collection {
            objects
                .delete_collection(&background, &ListParams::default())
                .await?;
        } else {
            for object in found.iter().filter(|object| !going(object)) {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                objects.delete(name, &background).await.or_gone()?;
            }
        }
        Ok(metadata.list(&ListParams::default()).await?.items)
    }

    async fn act(&self, namespace: &Namespace, change: Change) -> Result<(), Error> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let mut changed = namespace.clone();
        match change {
            Change::Finalize => {
                if let Some(finalizers) = changed.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
                    finalizers.retain(|name| name != FINALIZER);
                }
                namespaces
                    .replace_subresource("finalize", name, &PostParams::default(), &changed)
                    .await
                    .or_gone()?;
            }
            Change::Conditions(conditions) => {
                let status = changed.status.get_or_insert_with(NamespaceStatus::default);
                status.conditions = Some(conditions);
                namespaces
                    .replace_status(name, &PostParams::default(), &changed)
                    .await
                    .or_gone()?;
            }
        }
        Ok(())
    }
}

impl Reconcile for Namespaces {
    type Key = Key;
    const NAME: &'static str = "namespace";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(seen) = self.informers.namespaces.get(None, &key.name) else {
            return Ok(None);
        };
        if !is_terminating(&seen) {
            return Ok(None);
        }
        let Some(entries) = self.catalog.borrow().clone() else {
            return Ok(Some(LOOK_AGAIN));
        };
        let remains = self.empty(&key.name, &entries).await;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let Some(fresh) = namespaces.get_opt(&key.name).await? else {
            return Ok(None);
        };
        if fresh.metadata.uid != seen.metadata.uid {
            return Ok(None);
        }
        for change in plan(&fresh, &remains, Time(jiff::Timestamp::now())) {
            self.act(&fresh, change).await?;
        }
        let empty = remains.objects.is_empty() && remains.failures.is_empty();
        Ok((!empty).then_some(LOOK_AGAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn finalized_only_when_empty() {
        let namespace: Namespace = from_value(json!({
            "metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes"]},
        }))
        .unwrap();
        let now = Time(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(
            plan(&namespace, &Remains::default(), now.clone()),
            [Change::Finalize]
        );

        let remains = Remains {
            objects: [("pods.".to_owned(), 2)].into(),
            finalizers: [("example.com/hold".to_owned(), 1)].into(),
            failures: Vec::new(),
        };
        let changes = plan(&namespace, &remains, now);
        let [Change::Conditions(conditions)] = &changes[..] else {
            panic!("{changes:?}")
        };
        let said: Vec<_> = conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.message.as_deref().unwrap()))
            .collect();
        assert_eq!(said[0].1, "False");
        assert_eq!(
            said[1],
            (
                "NamespaceContentRemaining",
                "True",
                "Some resources are remaining: pods. has 2 resource instances"
            )
        );
        assert_eq!(
            said[2].2,
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
        );

        let mut again = namespace.clone();
        again.status = Some(NamespaceStatus {
            conditions: Some(conditions.clone()),
            ..Default::default()
        });
        let later = Time(jiff::Timestamp::from_second(9).unwrap());
        assert_eq!(plan(&again, &remains, later), [], "nothing new is not written");
    }
}
