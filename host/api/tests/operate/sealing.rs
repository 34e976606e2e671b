//! Encryption at rest by keys of the file: what stands in the store, turning keys, refusals.

use capstan_api::{Encryption, Store};
use capstan_store::{KeyRange, RangeRequest};
use serde_json::{Value, json};

use crate::rig::{self, Rig};
use crate::{admin, ask, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_sealed_in_the_store() {
    let config = |providers: &str| {
        Encryption::parse(&format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- {{resources: [secrets], providers: [{providers}]}}"
        ))
        .unwrap()
    };
    let one = "{aescbc: {keys: [{name: one, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}}";
    let two = "{secretbox: {keys: [{name: two, secret: ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=}]}}";
    let rig = Rig::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = |name: &str| json!({"metadata": {"name": name}, "stringData": {"k": "hush-hush"}});
    ask(&rig, admin(), ("POST", secrets), &[], secret("plain")).await;
    let stored = async |name: &str| {
        let key = format!("/registry/secrets/default/{name}");
        let range = RangeRequest::new(KeyRange::Key(key.into_bytes().into()));
        let answer = rig.store.range(range).await.unwrap();
        String::from_utf8_lossy(&answer.kvs[0].value).into_owned()
    };
    let value = async |rig: &Rig, name: &str| {
        let (code, text) = get(rig, &format!("{secrets}/{name}")).await;
        assert_eq!(code, 200, "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        object["data"]["k"].as_str().unwrap().to_owned()
    };
    assert!(stored("plain").await.contains("aHVzaC1odXNo"));
    let first = rig
        .beside_with(|other| other.encryption = Some(config(&format!("{one}, {{identity: {{}}}}"))))
        .await;
    ask(&first, admin(), ("POST", secrets), &[], secret("sealed")).await;
    assert!(stored("sealed").await.starts_with("k8s:enc:aescbc:v1:one:"));
    assert_eq!(value(&first, "sealed").await, "aHVzaC1odXNo");
    assert_eq!(value(&first, "plain").await, "aHVzaC1odXNo");
    // Writing what is there already seals it by the first key; once it is, it is no write.
    let again = async |rig: &Rig, name: &str| -> String {
        let place = format!("{secrets}/{name}");
        let (_, text) = get(rig, &place).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        let (code, _, text) = ask(rig, admin(), ("PUT", &place), &[], object).await;
        assert_eq!(code, 200, "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    };
    let revision = again(&first, "plain").await;
    assert!(stored("plain").await.starts_with("k8s:enc:aescbc:v1:one:"));
    assert_eq!(again(&first, "plain").await, revision);
    let second = rig
        .beside_with(|other| other.encryption = Some(config(&format!("{two}, {one}"))))
        .await;
    assert_eq!(value(&second, "plain").await, "aHVzaC1odXNo");
    again(&second, "plain").await;
    assert!(stored("plain").await.starts_with("k8s:enc:secretbox:v1:two:"));
    assert_eq!(value(&second, "plain").await, "aHVzaC1odXNo");
    let (_, list) = get(&second, secrets).await;
    assert_eq!(list.matches("aHVzaC1odXNo").count(), 2);
    // Without the key nothing is shown, and a server does not start on what it cannot read.
    let blind = tokio::spawn({
        let store = rig.store.clone();
        async move { rig::starts(store, config("{identity: {}}")).await }
    });
    let refusal = blind.await.unwrap().unwrap_err().to_string();
    assert!(
        refusal.contains("/registry/secrets/default/plain cannot be decrypted"),
        "{refusal}"
    );
    second.api.shutdown().await;
    first.api.shutdown().await;
    rig.stop().await;
}
