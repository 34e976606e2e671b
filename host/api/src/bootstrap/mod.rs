//! What every cluster has from the start: namespaces, default roles, priority classes, the `kubernetes`
//! service, the APIServices of built-in groups. Created where missing, at each start; what an operator has changed stays, but for the
//! addresses of the API server itself and permissions that a default role has lost.

mod roles;

use std::net::SocketAddr;
use std::sync::Arc;

use capstan_kinds::resource::{Resource, find_kind};
use capstan_kinds::{default, name};
use serde_json::{Value, json};

use crate::aggregate;
use crate::config::FrontProxy;
use crate::registry::{WriteError, canonical, keys};
use crate::server::Server;
use crate::write::prepare_create;
use crate::{Error, Result};

/// Objects that are written together: one sync of the store is for all of them.
const WRITTEN_AT_ONCE: usize = 16;
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Writes what is missing.
pub(crate) async fn run(server: &Arc<Server>, address: SocketAddr) -> Result<()> {
    let mut revision = 0;
    let mut objects = objects(server, address)?.into_iter().peekable();
    while objects.peek().is_some() {
        let some = objects.by_ref().take(WRITTEN_AT_ONCE);
        let written = futures::future::try_join_all(some.map(|object| ensure(server, object))).await?;
        revision = written.into_iter().fold(revision, i64::max);
    }
    let reached = server.registry.reach(revision).await;
    reached
        .map(drop)
        .map_err(|error| failed("the first objects", &error))
}

fn failed(object: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Bootstrap {
        object: object.to_owned(),
        message: error.to_string(),
    }
}

fn objects(server: &Server, address: SocketAddr) -> Result<Vec<Value>> {
    let mut all: Vec<Value> = Vec::new();
    for name in NAMESPACES {
        all.push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }));
    }
    all.extend(roles::objects().map_err(|error| failed("default roles", &error))?);
    let class = |name: &str, value: i64, description: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": { "name": name },
            "value": value, "description": description,
        })
    };
    all.push(class(
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ));
    all.push(class(
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ));
    let cidr = server.service_cidr;
    all.push(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": "kubernetes" },
        "spec": { "cidrs": [cidr.to_string()] },
    }));
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let cluster_ip = cidr.nth(1).to_string();
    all.push(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
        "spec": {
            "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": address.port() }],
        },
    }));
    let own_address = server.advertise.unwrap_or(address.ip()).to_string();
    all.push(json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{
            "addresses": [{ "ip": own_address }],
            "ports": [{ "name": "https", "port": address.port() }],
        }],
    }));
    all.push(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": [own_address],
            "conditions": { "ready": true },
        }],
        "ports": [{ "name": "https", "protocol": "TCP", "port": address.port() }],
    }));
    all.extend(aggregate::local::builtin());
    all.extend(server.front_proxy.as_ref().map(extension_authentication));
    Ok(all)
}

/// What extension servers need to know users by.
fn extension_authentication(front_proxy: &FrontProxy) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
        "data": {
            "client-ca-file": front_proxy.client_ca,
            "requestheader-allowed-names": r#"["front-proxy-client"]"#,
            "requestheader-client-ca-file": front_proxy.ca,
            "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
            "requestheader-group-headers": r#"["X-Remote-Group"]"#,
            "requestheader-uid-headers": r#"["X-Remote-Uid"]"#,
            "requestheader-username-headers": r#"["X-Remote-User"]"#,
        },
    })
}

/// Creates the object; where it exists, only the API server's own address is brought up to date.
async fn ensure(server: &Server, mut object: Value) -> Result<i64> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let name = text(&object["metadata"]["name"]);
    let shown = format!("{kind} {name}");
    let resource: Arc<Resource> = find_kind(&api_version, &kind)
        .ok_or_else(|| failed(&shown, &"the table of kinds does not have it"))?;
    let key = keys::of(&resource, &text(&object["metadata"]["namespace"]), &name);
    let current = server
        .registry
        .current(&key)
        .await
        .map_err(|error| failed(&shown, &error))?;
    let expected = current.as_ref().map_or(0, |kv| kv.mod_revision);
    if let Some(kv) = current {
        let lists = resource.is("", "Endpoints");
        let moves = lists || resource.is("", "Service") || resource.is("discovery.k8s.io", "EndpointSlice");
        let mut old: Value = serde_json::from_slice(&kv.value).map_err(|error| failed(&shown, &error))?;
        let before = old.clone();
        if resource.is("", "Service") {
            old["spec"]["ports"] = object["spec"]["ports"].clone();
        } else if lists {
            old["subsets"] = object["subsets"].clone();
        } else if moves {
            old["endpoints"] = object["endpoints"].clone();
            old["ports"] = object["ports"].clone();
        }
        let granted = resource.group == "rbac.authorization.k8s.io";
        if granted {
            roles::reconcile(&mut old, &object);
        }
        let kept = resource.is("apiregistration.k8s.io", "APIService") && aggregate::local::is_kept(&old);
        if kept {
            old["spec"] = object["spec"].clone();
        }
        default::apply(&resource, &mut old);
        if !(moves || granted || kept) || old == before {
            return Ok(kv.mod_revision);
        }
        object = old;
    } else {
        default::apply(&resource, &mut object);
        let status = object.get("status").cloned();
        prepare_create(&resource, &mut object);
        if let Some(status) = status {
            object["status"] = status;
        }
    }
    debug_assert!(name::path_segment(&name).is_empty());
    let stored = canonical(object).ok_or_else(|| failed(&shown, &"it has no metadata"))?;
    match server.registry.put(&key, stored, expected, false).await {
        Ok(revision) => Ok(revision),
        // Another API server on the same store was quicker.
        Err(WriteError::Conflict) => Ok(0),
        Err(error) => Err(failed(&shown, &error)),
    }
}
