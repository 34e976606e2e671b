//! Secrets that are tokens: gives those of type `kubernetes.io/service-account-token` their account's token, and
//! clears away bootstrap tokens that have expired, and tokens whose account is gone.
//!
//! A token is had from the API server and bound to its Secret, so that it ends with it. Keyed by Secret. Not
//! here: what tokens are good for.

use std::time::Duration;

use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use crate::error::{Error, Tolerate, is};
use crate::informers::Informers;
use crate::work::{Key, Reconcile, keys_of, wakes};

/// The types of Secret that are watched.
pub(crate) const ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
pub(crate) const BOOTSTRAP_TOKEN: &str = "bootstrap.kubernetes.io/token";

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The longest life that the API server gives: such a token is meant to stay.
const LIFE_SECONDS: i64 = 1 << 32;

pub(crate) struct SecretTokens {
    client: Client,
    cleaner: Client,
    informers: Informers,
    root_ca_pem: String,
}

#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Delete,
    /// Ask for a token of the account.
    Fill,
    /// Expires after so many seconds.
    Wait(u64),
}

/// What becomes of an account's token; `account` is the uid of the account that it names.
fn plan_of_account(secret: &Secret, account: Option<&str>) -> Plan {
    let Some(account) = account else {
        return Plan::Delete;
    };
    let uid = secret.annotations().get(ACCOUNT_UID).map(String::as_str);
    if uid.is_some_and(|uid| uid != account) {
        return Plan::Delete;
    }
    let has = |key: &str| secret.data.as_ref().is_some_and(|data| data.contains_key(key));
    match uid.is_some() && has("token") && has("namespace") {
        true => Plan::Nothing,
        false => Plan::Fill,
    }
}

fn plan_of_bootstrap(secret: &Secret, now: Timestamp) -> Plan {
    let expiration = secret.data.as_ref().and_then(|data| data.get("expiration"));
    let text = expiration.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Plan::Nothing;
    };
    match text.parse::<Timestamp>() {
        // What cannot be read is never good; as in the original it goes.
        Err(_) => Plan::Delete,
        Ok(at) => match u64::try_from(at.as_second() - now.as_second()) {
            Ok(left) if left > 0 => Plan::Wait(left),
            _ => Plan::Delete,
        },
    }
}

impl SecretTokens {
    /// `cleaner` deletes bootstrap tokens.
    pub(crate) fn new(client: Client, cleaner: Client, informers: &Informers, root_ca_pem: &str) -> Self {
        Self {
            client,
            cleaner,
            informers: informers.clone(),
            root_ca_pem: root_ca_pem.to_owned(),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let (tokens, bootstrap) = (&self.informers.account_tokens, &self.informers.bootstrap_tokens);
        let of_account = {
            let tokens = tokens.clone();
            move |account: &ServiceAccount| {
                let own = tokens.list_in(&account.namespace().unwrap_or_default());
                let name = account.name_any();
                let named = |secret: &Secret| secret.annotations().get(ACCOUNT_NAME) == Some(&name);
                let own = own.iter().filter(|secret| named(secret));
                own.map(|secret| Key::of(secret.as_ref())).collect()
            }
        };
        vec![
            wakes(tokens, |secret| vec![Key::of(secret)], keys_of(tokens)),
            wakes(bootstrap, |secret| vec![Key::of(secret)], keys_of(bootstrap)),
            wakes(&self.informers.service_accounts, of_account, Vec::new),
        ]
    }

    async fn fill(&self, secret: &Secret, account: &ServiceAccount) -> Result<(), Error> {
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: None,
                expiration_seconds: Some(LIFE_SECONDS),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Secret".to_owned()),
                    name: Some(name.clone()),
                    uid: secret.uid(),
                }),
            }),
            ..Default::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &namespace);
        let answer: TokenRequest = accounts
            .create_subresource("token", &account.name_any(), &PostParams::default(), &request)
            .await?;
        let token = answer.status.and_then(|status| status.token).unwrap_or_default();
        let mut filled = secret.clone();
        let annotations = filled.annotations_mut();
        annotations.insert(ACCOUNT_UID.to_owned(), account.uid().unwrap_or_default());
        let data = filled.data.get_or_insert_default();
        for (key, value) in [
            ("token", token),
            ("namespace", namespace.clone()),
            ("ca.crt", self.root_ca_pem.clone()),
        ] {
            data.insert(key.to_owned(), ByteString(value.into_bytes()));
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        secrets
            .replace(&name, &PostParams::default(), &filled)
            .await
            .or_gone()?;
        Ok(())
    }

    async fn delete(&self, client: &Client, secret: &Secret) -> Result<(), Error> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
        let same = Preconditions {
            uid: secret.uid(),
            resource_version: secret.resource_version(),
        };
        let params = DeleteParams::default().preconditions(same);
        secrets.delete(&secret.name_any(), &params).await.or_gone()?;
        Ok(())
    }

    /// The account that the Secret is a token of, by a live read where it is not known.
    async fn account(&self, secret: &Secret) -> Result<Option<ServiceAccount>, Error> {
        let Some(name) = secret.annotations().get(ACCOUNT_NAME) else {
            return Ok(None);
        };
        let namespace = secret.namespace().unwrap_or_default();
        if let Some(account) = self.informers.service_accounts.get(Some(&namespace), name) {
            return Ok(Some(account.as_ref().clone()));
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &namespace);
        match accounts.get(name).await {
            Ok(account) => Ok(Some(account)),
            Err(error) if is(&error, 404) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Reconcile for SecretTokens {
    type Key = Key;
    const NAME: &'static str = "tokens";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let namespace = Some(key.namespace.as_str());
        if let Some(secret) = self.informers.bootstrap_tokens.get(namespace, &key.name) {
            return match plan_of_bootstrap(&secret, Timestamp::now()) {
                Plan::Delete => self.delete(&self.cleaner, &secret).await.map(|()| None),
                Plan::Wait(seconds) => Ok(Some(Duration::from_secs(seconds))),
                Plan::Fill | Plan::Nothing => Ok(None),
            };
        }
        let Some(secret) = self.informers.account_tokens.get(namespace, &key.name) else {
            return Ok(None);
        };
        let account = self.account(&secret).await?;
        match plan_of_account(
            &secret,
            account.as_ref().and_then(|one| one.metadata.uid.as_deref()),
        ) {
            Plan::Delete => self.delete(&self.client, &secret).await?,
            Plan::Fill => {
                if let Some(account) = &account {
                    self.fill(&secret, account).await?;
                }
            }
            Plan::Nothing | Plan::Wait(_) => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn tokens_are_filled_kept_and_cleared() {
        let secret = |annotations: Value, data: Value| -> Secret {
            from_value(json!({"metadata": {"annotations": annotations}, "data": data})).unwrap()
        };
        let filled = json!({"token": "eA==", "namespace": "eA=="});
        let own = json!({ACCOUNT_UID: "u"});
        assert_eq!(plan_of_account(&secret(json!({}), json!({})), None), Plan::Delete);
        assert_eq!(
            plan_of_account(&secret(json!({}), json!({})), Some("u")),
            Plan::Fill
        );
        assert_eq!(
            plan_of_account(&secret(own.clone(), filled.clone()), Some("u")),
            Plan::Nothing
        );
        assert_eq!(plan_of_account(&secret(own, filled), Some("v")), Plan::Delete);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let until = |text: &str| -> Secret {
            let mut made = secret(json!({}), json!({}));
            let bytes = ByteString(text.as_bytes().to_vec());
            made.data = Some([("expiration".to_owned(), bytes)].into());
            made
        };
        assert_eq!(
            plan_of_bootstrap(&secret(json!({}), json!({})), now),
            Plan::Nothing
        );
        assert_eq!(
            plan_of_bootstrap(&until("2026-01-01T00:01:00Z"), now),
            Plan::Wait(60)
        );
        assert_eq!(
            plan_of_bootstrap(&until("2025-01-01T00:01:00Z"), now),
            Plan::Delete
        );
        assert_eq!(plan_of_bootstrap(&until("soon"), now), Plan::Delete);
    }
}
