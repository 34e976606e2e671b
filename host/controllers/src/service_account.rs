//! Gives every namespace its `default` ServiceAccount and the `kube-root-ca.crt` ConfigMap.
//!
//! Keyed by namespace. Not here: tokens, which the API server issues on request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::error::{Error, Tolerate};
use crate::informers::Informers;
use crate::work::{Key, Reconcile, keys_of, wakes};

const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";
const DEFAULT: &str = "default";

pub(crate) struct ServiceAccounts {
    accounts: Client,
    publisher: Client,
    informers: Informers,
    root_ca_pem: Arc<str>,
}

#[derive(Debug, PartialEq)]
enum Change {
    CreateServiceAccount,
    CreateRootCa,
    CorrectRootCa,
}

/// What a namespace lacks.
fn plan(
    namespace: &Namespace,
    account: Option<&ServiceAccount>,
    root_ca: Option<&ConfigMap>,
    root_ca_pem: &str,
) -> Vec<Change> {
    if crate::namespace::is_terminating(namespace) {
        return Vec::new();
    }
    let mut changes = Vec::new();
    if account.is_none() {
        changes.push(Change::CreateServiceAccount);
    }
    match root_ca {
        _ if root_ca_pem.is_empty() => {}
        None => changes.push(Change::CreateRootCa),
        Some(map) => {
            let found = map.data.as_ref().and_then(|data| data.get(ROOT_CA_KEY));
            if found.map(String::as_str) != Some(root_ca_pem) {
                changes.push(Change::CorrectRootCa);
            }
        }
    }
    changes
}

impl ServiceAccounts {
    /// `accounts` makes the accounts, `publisher` the ConfigMaps.
    pub(crate) fn new(accounts: Client, publisher: Client, informers: &Informers, root_ca_pem: &str) -> Self {
        Self {
            accounts,
            publisher,
            informers: informers.clone(),
            root_ca_pem: root_ca_pem.into(),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let all = || keys_of(&self.informers.namespaces);
        let by_namespace =
            |namespace: Option<&String>| vec![Key::new("", namespace.cloned().unwrap_or_default())];
        vec![
            wakes(
                &self.informers.namespaces,
                |namespace| vec![Key::of(namespace)],
                all(),
            ),
            wakes(
                &self.informers.service_accounts,
                move |account: &ServiceAccount| match account.metadata.name.as_deref() {
                    Some(DEFAULT) => by_namespace(account.metadata.namespace.as_ref()),
                    _ => Vec::new(),
                },
                Vec::new,
            ),
            wakes(
                &self.informers.config_maps,
                move |map: &ConfigMap| by_namespace(map.metadata.namespace.as_ref()),
                Vec::new,
            ),
        ]
    }

    fn root_ca(&self) -> ConfigMap {
        let about = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                     guaranteed across distributions of Kubernetes clusters.";
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(ROOT_CA.to_owned()),
                annotations: Some([("kubernetes.io/description".to_owned(), about.to_owned())].into()),
                ..Default::default()
            },
            data: Some(BTreeMap::from([(
                ROOT_CA_KEY.to_owned(),
                self.root_ca_pem.to_string(),
            )])),
            ..Default::default()
        }
    }

    async fn act(&self, namespace: &str, change: Change) -> Result<(), Error> {
        let maps: Api<ConfigMap> = Api::namespaced(self.publisher.clone(), namespace);
        match change {
            Change::CreateServiceAccount => {
                let accounts: Api<ServiceAccount> = Api::namespaced(self.accounts.clone(), namespace);
                let account = ServiceAccount {
                    metadata: ObjectMeta {
                        name: Some(DEFAULT.to_owned()),
                        ..Default::default()
                    },
                    ..Default::default()
                };
                accounts
                    .create(&PostParams::default(), &account)
                    .await
                    .or_exists()?;
            }
            Change::CreateRootCa => {
                maps.create(&PostParams::default(), &self.root_ca())
                    .await
                    .or_exists()?;
            }
            Change::CorrectRootCa => {
                let Some(known) = self.informers.config_maps.get(Some(namespace), ROOT_CA) else {
                    return Ok(());
                };
                let mut map = known.as_ref().clone();
                map.data = self.root_ca().data;
                maps.replace(ROOT_CA, &PostParams::default(), &map)
                    .await
                    .or_gone()?;
            }
        }
        Ok(())
    }
}

impl Reconcile for ServiceAccounts {
    type Key = Key;
    const NAME: &'static str = "service-account";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(namespace) = self.informers.namespaces.get(None, &key.name) else {
            return Ok(None);
        };
        let account = self.informers.service_accounts.get(Some(&key.name), DEFAULT);
        let root_ca = self.informers.config_maps.get(Some(&key.name), ROOT_CA);
        for change in plan(
            &namespace,
            account.as_deref(),
            root_ca.as_deref(),
            &self.root_ca_pem,
        ) {
            self.act(&key.name, change).await?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_namespace_gets_what_it_lacks() {
        let active: Namespace = from_value(json!({"metadata": {"name": "a"}})).unwrap();
        let going: Namespace =
            from_value(json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}}))
                .unwrap();
        let account = ServiceAccount::default();
        let map = |pem: &str| ConfigMap {
            data: Some([(ROOT_CA_KEY.to_owned(), pem.to_owned())].into()),
            ..Default::default()
        };
        use Change::*;
        assert_eq!(
            plan(&active, None, None, "pem"),
            [CreateServiceAccount, CreateRootCa]
        );
        assert_eq!(
            plan(&active, Some(&account), Some(&map("old")), "pem"),
            [CorrectRootCa]
        );
        assert_eq!(plan(&active, Some(&account), Some(&map("pem")), "pem"), []);
        assert_eq!(plan(&active, Some(&account), None, ""), []);
        assert_eq!(plan(&going, None, None, "pem"), []);
    }
}
