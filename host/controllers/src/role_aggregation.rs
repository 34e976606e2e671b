//! Keeps aggregated ClusterRoles up to date with the roles that they select.
//!
//! Keyed by role. Not here: which rules follow, which `capstan_kinds::aggregation` says.

use std::time::Duration;

use futures::stream::BoxStream;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::error::{Error, Tolerate};
use crate::informers::Informers;
use crate::work::{Key, Reconcile, wakes};

pub(crate) struct RoleAggregation {
    client: Client,
    informers: Informers,
}

impl RoleAggregation {
    pub(crate) fn new(client: Client, informers: &Informers) -> Self {
        Self {
            client,
            informers: informers.clone(),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let roles = self.informers.cluster_roles.clone();
        let aggregated = move || -> Vec<Key> {
            let all = roles.filter(|role| role.aggregation_rule.is_some());
            all.iter().map(|role| Key::of(role.as_ref())).collect()
        };
        let of_change = aggregated.clone();
        vec![wakes(
            &self.informers.cluster_roles,
            move |_| of_change(),
            aggregated,
        )]
    }
}

/// The rules that the role should have, where it has others.
fn plan(role: &ClusterRole, all: &[Value]) -> Option<Vec<Value>> {
    let document = serde_json::to_value(role).ok()?;
    let wanted = capstan_kinds::aggregation::rules(&document, all)?;
    let has = document["rules"].as_array().map_or(&[][..], Vec::as_slice);
    (has != wanted.as_slice()).then_some(wanted)
}

impl Reconcile for RoleAggregation {
    type Key = Key;
    const NAME: &'static str = "clusterrole-aggregation";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(role) = self.informers.cluster_roles.get(None, &key.name) else {
            return Ok(None);
        };
        let all: Vec<Value> = self
            .informers
            .cluster_roles
            .list()
            .iter()
            .filter_map(|role| serde_json::to_value(role.as_ref()).ok())
            .collect();
        let Some(rules) = plan(&role, &all) else {
            return Ok(None);
        };
        let patch = json!({ "metadata": { "resourceVersion": role.resource_version() }, "rules": rules });
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        roles
            .patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .or_gone()?;
        Ok(None)
    }
}
