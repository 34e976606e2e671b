//! Who may do what, and what is admitted: asked in process as many users, answered by the real server.
#![allow(clippy::unwrap_used)]

mod admission;
mod authentication;
mod authorization;
mod certificates;
mod nodes;
mod openid;
mod quota;
#[path = "../rig/mod.rs"]
mod rig;

use capstan_api::UserInfo;
use rig::Rig;
use serde_json::{Value, json};

const DEFAULT: &str = "/api/v1/namespaces/default";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A request as a user: code, document.
async fn ask_as(rig: &Rig, user: UserInfo, method: &str, path: &str, body: Value) -> (u16, Value) {
    ask_with(rig, user, &[], method, path, body).await
}

async fn ask_with(
    rig: &Rig,
    user: UserInfo,
    headers: &[(&str, &str)],
    method: &str,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let mut headers = headers.to_vec();
    if method == "PATCH" {
        headers.push(("content-type", "application/merge-patch+json"));
    }
    let reply = rig.send_with(user, method, path, &headers, body).await;
    (reply.code, reply.document)
}

fn admin() -> UserInfo {
    UserInfo::admin("admin")
}

fn user(name: &str) -> UserInfo {
    UserInfo::new(name, &[])
}

fn node(name: &str) -> UserInfo {
    UserInfo::new(format!("system:node:{name}"), &["system:nodes"])
}

async fn ask(rig: &Rig, method: &str, path: &str, body: Value) -> (u16, Value) {
    ask_as(rig, admin(), method, path, body).await
}

/// Creates as an administrator.
async fn create(rig: &Rig, path: &str, body: Value) -> Value {
    let (code, made) = ask(rig, "POST", path, body).await;
    assert_eq!(code, 201, "{path}: {made}");
    // Permissions are read from the caches: a fresh list has waited for them.
    assert_eq!(
        ask(rig, "GET", path, Value::Null).await.0 == 200,
        !path.ends_with("token")
    );
    made
}

/// What a refused request is told.
async fn refused(rig: &Rig, user: UserInfo, method: &str, path: &str, body: Value) -> String {
    let (code, status) = ask_as(rig, user, method, path, body).await;
    assert_eq!(status["kind"], "Status", "{status}");
    format!("{code} {}", status["message"].as_str().unwrap())
}

/// Gives a user rules in all namespaces.
async fn grant(rig: &Rig, name: &str, rules: Value) {
    create(
        rig,
        &format!("{RBAC}/clusterroles"),
        json!({"metadata": {"name": name}, "rules": rules}),
    )
    .await;
    create(rig, &format!("{RBAC}/clusterrolebindings"), binding(name, name)).await;
}

/// A ClusterRoleBinding of a ClusterRole to the user of the binding's name.
fn binding(name: &str, role: &str) -> Value {
    json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]})
}

fn pod(name: &str, more: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}
