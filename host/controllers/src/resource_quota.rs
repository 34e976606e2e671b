//! Recalculates what quotas say is used: when they are new or changed, and when something is gone or has ended.
//!
//! What is made is charged by the API server, in the same moment; here counts only what follows without a
//! request. Invariants: a recalculation starts from a fresh read of the quota and is written only if nobody
//! wrote it meanwhile, so that a charge is never lost to an older count. Keyed by quota. Not here: what an
//! object uses, which `capstan_kinds::quota` says.

use std::collections::BTreeMap;
use std::time::Duration;

use capstan_kinds::pod_resources::{Amounts, add, amounts};
use capstan_kinds::quantity::{Format, Quantity};
use capstan_kinds::quota::Counted;
use futures::stream::{self, BoxStream, StreamExt};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::catalog::{Catalog, Entry};
use crate::error::{Error, Tolerate};
use crate::informers::Informers;
use crate::work::{Key, Reconcile, wakes};

/// How often everything is counted anew whatever happened, as in the original.
const RESYNC: Duration = Duration::from_secs(300);
/// When it is counted again after a count was written: what was made between the two was charged to nobody, as the
/// API server charges what the status says.
const RECOUNT: Duration = Duration::from_secs(1);
/// Objects of one page of a list.
const PAGE: u32 = 500;

pub(crate) struct ResourceQuotas {
    client: Client,
    informers: Informers,
    catalog: Catalog,
    /// Namespaces out of which something went.
    gone: broadcast::Sender<String>,
}

/// Whether a quota's status is not about its spec.
fn is_behind(quota: &ResourceQuota) -> bool {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let status = quota.status.as_ref();
    let seen = status.and_then(|status| status.hard.as_ref());
    let used = status.and_then(|status| status.used.as_ref());
    let counted = hard
        .into_iter()
        .flatten()
        .all(|(name, _)| used.is_some_and(|used| used.contains_key(name)));
    hard != seen || !counted
}

impl ResourceQuotas {
    pub(crate) fn new(
        client: Client,
        informers: &Informers,
        catalog: Catalog,
        gone: broadcast::Sender<String>,
    ) -> Self {
        Self {
            client,
            informers: informers.clone(),
            catalog,
            gone,
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let quotas = self.informers.resource_quotas.clone();
        let of = move |namespace: &str| -> Vec<Key> {
            let own = quotas.list_in(namespace);
            own.iter().map(|quota| Key::of(quota.as_ref())).collect()
        };
        let every = {
            let quotas = self.informers.resource_quotas.clone();
            move || -> Vec<Key> {
                quotas
                    .list()
                    .iter()
                    .map(|quota| Key::of(quota.as_ref()))
                    .collect()
            }
        };
        let of_pod = {
            let of = of.clone();
            move |pod: &Pod| match crate::pod::is_finished(pod) {
                true => of(&pod.namespace().unwrap_or_default()),
                false => Vec::new(),
            }
        };
        let of_quota = |quota: &ResourceQuota| match is_behind(quota) {
            true => vec![Key::of(quota)],
            false => Vec::new(),
        };
        let lagged = every.clone();
        let gone = stream::unfold(self.gone.subscribe(), |mut gone| async move {
            match gone.recv().await {
                Ok(namespace) => Some((Some(namespace), gone)),
                Err(RecvError::Lagged(_)) => Some((None, gone)),
                Err(RecvError::Closed) => None,
            }
        });
        let gone = gone.flat_map(move |namespace| {
            stream::iter(match namespace {
                Some(namespace) => of(&namespace),
                None => lagged(),
            })
        });
        vec![
            wakes(&self.informers.resource_quotas, of_quota, every),
            wakes(&self.informers.pods, of_pod, Vec::new),
            gone.boxed(),
        ]
    }

    /// What the objects of a kind use of the quota.
    async fn used(
        &self,
        entry: &Entry,
        counted: Counted<'_>,
        quota: &Value,
        namespace: &str,
    ) -> Result<Amounts, Error> {
        let mut used = Amounts::new();
        if let Counted::Number { .. } = counted {
            let number = self.number(entry, namespace).await?;
            let each = counted.usage(&Value::Null, 0);
            used.extend(each.into_keys().map(|name| (name, whole(number))));
            return Ok(used);
        }
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &entry.resource);
        let now = jiff::Timestamp::now().as_second();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = api.list(&params).await?;
            for object in page.items {
                let document = serde_json::to_value(&object).unwrap_or_default();
                if counted.in_scope(quota, &document) {
                    add(&mut used, &counted.usage(&document, now));
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(used),
            }
        }
    }

    /// How many objects there are, by the first page of their list.
    async fn number(&self, entry: &Entry, namespace: &str) -> Result<i64, Error> {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(self.client.clone(), namespace, &entry.resource);
        let page = api.list_metadata(&ListParams::default().limit(1)).await?;
        let listed = i64::try_from(page.items.len()).unwrap_or(i64::MAX);
        Ok(page
            .metadata
            .remaining_item_count
            .unwrap_or(0)
            .saturating_add(listed))
    }

    async fn recalculate(&self, quota: &mut ResourceQuota) -> Result<bool, Error> {
        let hard = quota
            .spec
            .as_ref()
            .and_then(|spec| spec.hard.clone())
            .unwrap_or_default();
        let document = serde_json::to_value(&*quota).unwrap_or_default();
        let namespace = quota.namespace().unwrap_or_default();
        let entries = self.catalog.borrow().clone();
        let mut used: BTreeMap<String, Quantity> = BTreeMap::new();
        let scoped = document["spec"]["scopes"].is_array() || document["spec"]["scopeSelector"].is_object();
        for entry in entries
            .iter()
            .flat_map(|all| all.iter())
            .filter(|entry| entry.namespaced)
        {
            let resource = &entry.resource;
            let Some(counted) = Counted::of(&resource.group, &resource.plural) else {
                continue;
            };
            let names: Vec<&String> = hard.keys().filter(|name| counted.has(name)).collect();
            if names.is_empty() {
                continue;
            }
            let number = matches!(counted, Counted::Number { .. });
            let found = match number && scoped {
                // No scope is about these kinds.
                true => Amounts::new(),
                false => self.used(entry, counted, &document, &namespace).await?,
            };
            for name in names {
                used.insert(name.clone(), found.get(name).copied().unwrap_or(whole(0)));
            }
        }
        let status = json!({
            "hard": hard,
            "used": used.iter().map(|(name, amount)| (name.clone(), amount.to_string())).collect::<BTreeMap<_, _>>(),
        });
        let same = amounts(&document["status"]["used"]) == used && !is_behind(quota);
        if same {
            return Ok(false);
        }
        quota.status = serde_json::from_value(status).ok();
        Ok(true)
    }
}

fn whole(number: i64) -> Quantity {
    Quantity::from_value(number, Format::DecimalSi)
}

impl Reconcile for ResourceQuotas {
    type Key = Key;
    const NAME: &'static str = "resourcequota";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let quotas: Api<ResourceQuota> = Api::namespaced(self.client.clone(), &key.namespace);
        // A live read, by the one verb that the controller's role has for all kinds.
        let this = ListParams::default().fields(&format!("metadata.name={}", key.name));
        let Some(mut quota) = quotas.list(&this).await?.items.pop() else {
            return Ok(None);
        };
        if quota.metadata.deletion_timestamp.is_none() && self.recalculate(&mut quota).await? {
            quotas
                .replace_status(&key.name, &PostParams::default(), &quota)
                .await
                .or_gone()?;
            return Ok(Some(RECOUNT));
        }
        Ok(Some(RESYNC))
    }
}
