//! ServiceAccount: a pod runs as an account that exists, with the account's way into the API (a projected volume
//! `kube-api-access-…`) and its pull secrets.

use std::sync::Arc;
use std::time::Duration;

use capstan_kinds::{name, resource::find};
use capstan_points::admission::Operation;
use serde_json::{Value, json};

use super::{Asked, each, text};
use crate::refusal::Refusal;
use crate::registry::Entry;

const DEFAULT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Such a token lives on for a year, for programs that read it once.
const EXPIRATION_SECONDS: i64 = 3607;
/// How long a pod waits for the `default` account of a new namespace, which a controller makes.
const DEFAULT_WAIT: Duration = Duration::from_millis(1500);
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

pub(super) async fn admit(asked: &Asked<'_>, pod: &mut Value) -> Result<(), Refusal> {
    if asked.is("", "pods", Operation::Update, "ephemeralcontainers") {
        let account = account(asked, pod).await?;
        return limit(
            asked,
            pod,
            &account,
            &[("ephemeralContainers", "ephemeral container")],
        );
    }
    if !asked.creates("", "pods") {
        return Ok(());
    }
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return mirror(asked, pod);
    }
    let spec = &mut pod["spec"];
    if text(&spec["serviceAccountName"]).is_empty() {
        let older = text(&spec["serviceAccount"]);
        spec["serviceAccountName"] = json!(if older.is_empty() { DEFAULT } else { older });
    }
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    let account = account(asked, pod).await?;
    let wish = &pod["spec"]["automountServiceAccountToken"];
    let mounts = wish
        .as_bool()
        .or(account["automountServiceAccountToken"].as_bool());
    if mounts.unwrap_or(true) {
        mount(pod);
    }
    if each(&pod["spec"]["imagePullSecrets"]).next().is_none() {
        let secrets: Vec<Value> = each(&account["imagePullSecrets"])
            .map(|one| json!({ "name": one["name"] }))
            .collect();
        if !secrets.is_empty() {
            pod["spec"]["imagePullSecrets"] = json!(secrets);
        }
    }
    let kinds = [("initContainers", "init container"), ("containers", "container")];
    limit(asked, pod, &account, &kinds)
}

/// A mirror pod shows what a node runs of itself: nothing of the API is given to it.
fn mirror(asked: &Asked<'_>, pod: &Value) -> Result<(), Refusal> {
    let spec = &pod["spec"];
    let forbid = |what: &str| Err(asked.forbid(pod, &format!("a mirror pod may not {what}")));
    if !text(&spec["serviceAccountName"]).is_empty() {
        return forbid("reference service accounts");
    }
    if names_secret(spec) {
        return forbid("reference secrets");
    }
    let sources = each(&spec["volumes"]).flat_map(|volume| each(&volume["projected"]["sources"]));
    if sources
        .into_iter()
        .any(|source| source["serviceAccountToken"].is_object())
    {
        return forbid("use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn names_secret(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().any(names_secret),
        Value::Object(fields) => fields.iter().any(|(key, inner)| {
            let secret = matches!(
                key.as_str(),
                "secret" | "secretKeyRef" | "secretRef" | "nodePublishSecretRef"
            );
            (secret && inner.is_object())
                || (key == "imagePullSecrets" && each(inner).next().is_some())
                || names_secret(inner)
        }),
        _ => false,
    }
}

/// The pod's account; for a while one waits for the one of a new namespace.
async fn account(asked: &Asked<'_>, pod: &Value) -> Result<Value, Refusal> {
    let (registry, namespace) = (&asked.server.registry, asked.call.namespace());
    let name = text(&pod["spec"]["serviceAccountName"]);
    let missing = || {
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
        );
        asked.forbid(pod, &why)
    };
    let accounts = find("", "v1", "serviceaccounts").ok_or_else(missing)?;
    let known = || registry.cached(&accounts, namespace, name);
    if let Some(entry) = known() {
        return Ok(entry.decode());
    }
    registry.newest().await?;
    if let Some(entry) = known() {
        return Ok(entry.decode());
    }
    if name != DEFAULT {
        return Err(missing());
    }
    let appears = async {
        loop {
            let (_, _, mut cursor) = registry.cache(&accounts).list_and_cursor("!");
            if let Some(entry) = known() {
                return entry;
            }
            cursor.changed().await;
        }
    };
    let found: Option<Arc<Entry>> = tokio::time::timeout(DEFAULT_WAIT, appears).await.ok();
    found.map(|entry| entry.decode()).ok_or_else(missing)
}

/// Gives every container the account's token, the cluster's CA and the namespace.
fn mount(pod: &mut Value) {
    let own = each(&pod["spec"]["volumes"])
        .map(|volume| text(&volume["name"]))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let has = own.is_some();
    let volume = own.unwrap_or_else(|| name::generate(VOLUME_PREFIX, |bound| fastrand::usize(..bound)));
    let mount = json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH });
    let mut needed = false;
    for kind in ["initContainers", "containers"] {
        let list = pod["spec"].get_mut(kind).and_then(Value::as_array_mut);
        for container in list.into_iter().flatten() {
            let mounts = &mut container["volumeMounts"];
            if each(mounts).any(|one| one["mountPath"] == MOUNT_PATH) {
                continue;
            }
            needed = true;
            match mounts.as_array_mut() {
                Some(list) => list.push(mount.clone()),
                None => *mounts = json!([mount]),
            }
        }
    }
    if has || !needed {
        return;
    }
    let root_ca = json!({ "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] });
    let namespace =
        json!({ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } });
    let projected = json!({ "defaultMode": 420, "sources": [
        { "serviceAccountToken": { "expirationSeconds": EXPIRATION_SECONDS, "path": "token" } },
        { "configMap": root_ca },
        { "downwardAPI": { "items": [namespace] } },
    ] });
    let made = json!({ "name": volume, "projected": projected });
    match pod["spec"]["volumes"].as_array_mut() {
        Some(list) => list.push(made),
        None => pod["spec"]["volumes"] = json!([made]),
    }
}

/// Where the account says so, a pod uses no secrets but those that the account names.
fn limit(asked: &Asked<'_>, pod: &Value, account: &Value, kinds: &[(&str, &str)]) -> Result<(), Refusal> {
    let wish = text(&account["metadata"]["annotations"][ENFORCE]);
    if !matches!(wish, "1" | "t" | "T" | "true" | "TRUE" | "True") {
        return Ok(());
    }
    let name = text(&account["metadata"]["name"]);
    let allowed = |secret: &Value| each(&account["secrets"]).any(|one| one["name"] == *secret);
    let refuse = |what: String, kind: &str| {
        let why =
            format!("{what} is not allowed because service account {name} does not reference that {kind}");
        Err(asked.forbid(pod, &why))
    };
    let whole = kinds.len() > 1;
    for volume in each(&pod["spec"]["volumes"]).filter(|volume| whole && volume["secret"].is_object()) {
        let secret = &volume["secret"]["secretName"];
        if !allowed(secret) {
            return refuse(
                format!("volume with secret.secretName=\"{}\"", text(secret)),
                "secret",
            );
        }
    }
    for (field, shown) in kinds {
        for container in each(&pod["spec"][*field]) {
            let shown = format!("{shown} {}", text(&container["name"]));
            for variable in each(&container["env"]) {
                let secret = &variable["valueFrom"]["secretKeyRef"]["name"];
                if secret.is_string() && !allowed(secret) {
                    let variable = text(&variable["name"]);
                    let secret = text(secret);
                    return refuse(
                        format!("{shown} with envVar {variable} referencing secret.secretName=\"{secret}\""),
                        "secret",
                    );
                }
            }
            for from in each(&container["envFrom"]) {
                let secret = &from["secretRef"]["name"];
                if secret.is_string() && !allowed(secret) {
                    let secret = text(secret);
                    return refuse(
                        format!("{shown} with envFrom referencing secret.secretName=\"{secret}\""),
                        "secret",
                    );
                }
            }
        }
    }
    let pulls = |secret: &Value| each(&account["imagePullSecrets"]).any(|one| one["name"] == *secret);
    for (at, secret) in each(&pod["spec"]["imagePullSecrets"])
        .enumerate()
        .filter(|_| whole)
    {
        if !pulls(&secret["name"]) {
            let secret = text(&secret["name"]);
            return refuse(
                format!("imagePullSecrets[{at}].name=\"{secret}\""),
                "imagePullSecret",
            );
        }
    }
    Ok(())
}
