//! A client of the cluster, and a plugin as it is there.

use capstan_kinds::plugin::{GROUP, KIND, PLURAL, Plugin, VERSION};
use kube::api::{ApiResource, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};

use crate::{Error, Reach};

/// A client by the kubeconfig that is named, or kubectl's.
pub(crate) async fn client(reach: &Reach) -> Result<Client, Error> {
    let options = KubeConfigOptions::default();
    let kubeconfig = match &reach.kubeconfig {
        Some(path) => Kubeconfig::read_from(path)?,
        None => Kubeconfig::read()?,
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Client::try_from(config).map_err(Error::Reach)
}

/// The Plugin objects.
pub(crate) fn plugins(client: &Client) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(GROUP, VERSION, KIND);
    Api::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&gvk, PLURAL))
}

/// A Plugin object as it is now.
pub(crate) async fn plugin(client: &Client, name: &str) -> Result<Plugin, Error> {
    let object = plugins(client).get(name).await.map_err(|source| Error::ReadPlugin {
        name: name.to_owned(),
        source,
    })?;
    let parsed = serde_json::to_value(object).and_then(serde_json::from_value);
    parsed.map_err(|error| Error::Plugin {
        name: name.to_owned(),
        message: format!("it cannot be read: {error}"),
    })
}
