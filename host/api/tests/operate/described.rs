//! OpenAPI and discovery in every form that clients ask for.

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::{admin, ask, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_described_in_every_form_that_clients_ask_for() {
    let rig = Rig::start().await;
    let v2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let v3 = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
    let asked = async |path: &str, accept: &str, held: &str| {
        let headers = [("accept", accept), ("if-none-match", held)];
        ask(&rig, admin(), ("GET", path), &headers, Value::Null).await
    };
    let old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let (code, headers, text) = asked("/openapi/v2", old, "").await;
    assert_eq!((code, headers["content-type"].to_str().unwrap()), (200, v2));
    assert!(text.contains("io.k8s.api.apps.v1.Deployment") && text.starts_with("\n\u{3}2.0"));
    let tag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(asked("/openapi/v2", old, &tag).await.0, 304);
    assert_eq!(asked("/openapi/v2", "text/html", "").await.0, 406);
    assert_eq!(
        asked("/openapi/v2", "application/json;q=0.5,*/*;q=0.1", "")
            .await
            .0,
        200
    );
    let (_, headers, index) = asked("/openapi/v3", "*/*", "").await;
    let tag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(asked("/openapi/v3", "*/*", &tag).await.0, 304);
    let index: Value = serde_json::from_str(&index).unwrap();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let (code, headers, text) = asked(&url, v3, "").await;
    assert_eq!((code, headers["content-type"].to_str().unwrap()), (200, v3));
    assert_eq!(headers["cache-control"], "public, immutable");
    assert!(headers["expires"].to_str().unwrap().ends_with(" GMT"));
    assert!(text.contains("x-kubernetes-group-version-kind"));
    let (code, headers, _) = asked("/openapi/v3/apis/apps/v1?hash=OLD", "*/*", "").await;
    assert_eq!((code, headers["location"].to_str().unwrap()), (301, url.as_str()));
    // A custom kind shows within seconds, in all of them.
    let definition = json!({
        "metadata": {"name": "gears.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "gears", "kind": "Gear"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "properties": {"teeth": {"type": "integer"}}}}}}}]},
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, _, text) = ask(&rig, admin(), ("POST", definitions), &[], definition).await;
    assert_eq!(code, 201, "{text}");
    until("the kind is described", async || {
        let (_, _, text) = asked("/openapi/v2", old, "").await;
        text.contains("teeth").then_some(())
    })
    .await;
    let (code, _, text) = asked("/openapi/v3/apis/example.com/v1", v3, "").await;
    assert!(code == 200 && text.contains("teeth"), "{code}");
    rig.stop().await;
}
