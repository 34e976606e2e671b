//! A container's environment: services, `envFrom`, `env`, in the original's order and with its rules. Pure:
//! the objects that it refers to are handed in.
//!
//! Invariants: a later variable wins; `$(NAME)` sees what was defined before it; a reference to something
//! that is missing and not optional is an error that names it (`CreateContainerConfigError`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};

use super::downward::{self, Facts};
use super::expansion::expand;

/// The objects that pods refer to, of the pod's own namespace. `None` where there is no such object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Referred {
    pub(crate) config_maps: HashMap<String, Option<Arc<ConfigMap>>>,
    pub(crate) secrets: HashMap<String, Option<Arc<Secret>>>,
}

impl Referred {
    fn config_map(&self, name: &str, optional: bool) -> Result<Option<&ConfigMap>, String> {
        match self.config_maps.get(name).and_then(Option::as_deref) {
            Some(map) => Ok(Some(map)),
            None if optional => Ok(None),
            None => Err(format!("configmap \"{name}\" not found")),
        }
    }

    fn secret(&self, name: &str, optional: bool) -> Result<Option<&Secret>, String> {
        match self.secrets.get(name).and_then(Option::as_deref) {
            Some(secret) => Ok(Some(secret)),
            None if optional => Ok(None),
            None => Err(format!("secret \"{name}\" not found")),
        }
    }
}

/// Names of the ConfigMaps and of the Secrets that a container's environment refers to.
pub(crate) fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|reference| reference.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        maps.extend(
            source
                .config_map_key_ref
                .iter()
                .map(|reference| reference.name.clone()),
        );
        secrets.extend(
            source
                .secret_key_ref
                .iter()
                .map(|reference| reference.name.clone()),
        );
    }
    (maps, secrets)
}

/// The whole environment, in order, each name once.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    referred: &Referred,
    services: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, String> {
    let mut all = Variables::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref
            && let Some(map) = referred.config_map(&reference.name, reference.optional == Some(true))?
        {
            for (key, value) in map.data.iter().flatten() {
                all.set(format!("{prefix}{key}"), value.clone());
            }
        }
        if let Some(reference) = &from.secret_ref
            && let Some(secret) = referred.secret(&reference.name, reference.optional == Some(true))?
        {
            for (key, value) in secret.data.iter().flatten() {
                all.set(
                    format!("{prefix}{key}"),
                    String::from_utf8_lossy(&value.0).into_owned(),
                );
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => sourced(pod, container, facts, referred, source)?,
            None => {
                let lookup = |name: &str| all.get(name).or_else(|| services.get(name).cloned());
                Some(expand(variable.value.as_deref().unwrap_or_default(), lookup))
            }
        };
        if let Some(value) = value {
            all.set(variable.name.clone(), value);
        }
    }
    for (name, value) in services {
        if all.get(name).is_none() {
            all.set(name.clone(), value.clone());
        }
    }
    Ok(all.ordered)
}

#[derive(Default)]
struct Variables {
    ordered: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<String> {
        self.places.get(name).map(|place| self.ordered[*place].1.clone())
    }

    fn set(&mut self, name: String, value: String) {
        match self.places.get(&name) {
            Some(place) => self.ordered[*place].1 = value,
            None => {
                self.places.insert(name.clone(), self.ordered.len());
                self.ordered.push((name, value));
            }
        }
    }
}

/// The value of `valueFrom`; `None` where an optional source has none.
fn sourced(
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    referred: &Referred,
    source: &EnvVarSource,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return downward::field(pod, facts, &field.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return downward::resource(pod, facts, resource, Some(&container.name)).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let map = referred.config_map(&reference.name, optional)?;
        let value = map
            .and_then(|map| map.data.as_ref()?.get(&reference.key))
            .cloned();
        return present(value, optional, || {
            format!(
                "couldn't find key {} in ConfigMap {}/{}",
                reference.key,
                super::spec::namespace(pod),
                reference.name
            )
        });
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let secret = referred.secret(&reference.name, optional)?;
        let value = secret
            .and_then(|secret| secret.data.as_ref()?.get(&reference.key))
            .map(|value| String::from_utf8_lossy(&value.0).into_owned());
        return present(value, optional, || {
            format!(
                "couldn't find key {} in Secret {}/{}",
                reference.key,
                super::spec::namespace(pod),
                reference.name
            )
        });
    }
    Err("valueFrom: use fieldRef, resourceFieldRef, configMapKeyRef or secretKeyRef".into())
}

fn present(
    value: Option<String>,
    optional: bool,
    missing: impl Fn() -> String,
) -> Result<Option<String>, String> {
    match value {
        None if !optional => Err(missing()),
        value => Ok(value),
    }
}

/// `NAME_SERVICE_HOST` and its kin, for the services of the pod's namespace, and `kubernetes` always.
pub(crate) fn service_variables(pod: &Pod, services: &[Arc<Service>]) -> BTreeMap<String, String> {
    let links = super::spec::spec(pod).enable_service_links != Some(false);
    let namespace = super::spec::namespace(pod);
    let mut variables = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let home = service.metadata.namespace.as_deref().unwrap_or_default();
        let master = (home, name) == ("default", "kubernetes");
        if master || (links && home == namespace) {
            one_service(name, service, &mut variables);
        }
    }
    variables
}

fn one_service(name: &str, service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(address) = spec
        .cluster_ip
        .as_deref()
        .filter(|ip| !matches!(*ip, "" | "None"))
    else {
        return;
    };
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = upper(name);
    let host = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    variables.insert(format!("{prefix}_SERVICE_HOST"), address.to_owned());
    for (place, port) in spec.ports.iter().flatten().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if place == 0 {
            variables.insert(format!("{prefix}_SERVICE_PORT"), port.port.to_string());
            variables.insert(format!("{prefix}_PORT"), url.clone());
        }
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.insert(
                format!("{prefix}_SERVICE_PORT_{}", upper(name)),
                port.port.to_string(),
            );
        }
        let port_prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        variables.insert(port_prefix.clone(), url);
        variables.insert(format!("{port_prefix}_PROTO"), protocol.to_lowercase());
        variables.insert(format!("{port_prefix}_PORT"), port.port.to_string());
        variables.insert(format!("{port_prefix}_ADDR"), address.to_owned());
    }
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
