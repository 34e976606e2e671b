//! Server-side apply as its clients see it: kubectl, and requests that kubectl does not make.
#![allow(clippy::unwrap_used)]

mod rig;

use capstan_api::UserInfo;
use rig::Rig;
use serde_json::{Value, json};

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: nginx:1
        ports: [{containerPort: 80}]
"#;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn ask(rig: &Rig, user: UserInfo, method: &str, path: &str, media: &str, body: &str) -> (u16, Value) {
    let headers = [("content-type", media), ("user-agent", "tester/1.0 (linux)")];
    let reply = rig.send_text(user, method, path, &headers, body.to_owned()).await;
    let mut document = reply.document;
    if let Some(warning) = reply.headers.get("warning") {
        document["warning"] = json!(warning.to_str().unwrap());
    }
    (reply.code, document)
}

async fn send(rig: &Rig, method: &str, path: &str, body: Value) -> (u16, Value) {
    let media = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    ask(
        rig,
        UserInfo::admin("test"),
        method,
        path,
        media,
        &body.to_string(),
    )
    .await
}

async fn apply(rig: &Rig, path: &str, config: Value) -> (u16, Value) {
    let media = "application/apply-patch+yaml";
    ask(
        rig,
        UserInfo::admin("test"),
        "PATCH",
        path,
        media,
        &config.to_string(),
    )
    .await
}

/// `manager operation[/subresource]` of each entry.
fn managers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten();
    list.map(|entry| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let through = if text("subresource").is_empty() { "" } else { "/" };
        format!(
            "{} {}{through}{}",
            text("manager"),
            text("operation"),
            text("subresource")
        )
    })
    .collect()
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_on_the_server() {
    let rig = Rig::start().await;
    let serverside = ["apply", "--server-side", "-f", "-"];
    assert_eq!(
        rig.ok(&serverside, DEPLOYMENT).await,
        "deployment.apps/web serverside-applied\n"
    );
    let version = [
        "get",
        "deploy",
        "web",
        "-o",
        "jsonpath={.metadata.resourceVersion} {.metadata.generation}",
    ];
    let before = rig.ok(&version, "").await;
    assert!(before.ends_with(" 1"), "{before}");
    rig.ok(&serverside, DEPLOYMENT).await;
    assert_eq!(
        rig.ok(&version, "").await,
        before,
        "an apply that changes nothing is none"
    );
    let fields = ["get", "deploy", "web", "-o", "json", "--show-managed-fields"];
    let object: Value = serde_json::from_str(&rig.ok(&fields, "").await).unwrap();
    assert_eq!(managers(&object), ["kubectl Apply"]);
    assert_eq!(
        object["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:image": {}, "f:name": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}},
        }}})
    );
    // Somebody else scales; kubectl may not take it back unless it is forced to.
    rig.ok(&["scale", "deploy", "web", "--replicas=5"], "").await;
    let refused = rig.fails(&serverside, DEPLOYMENT).await;
    assert!(
        refused.starts_with(
            "error: Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas\n"
        ),
        "{refused}"
    );
    let refused = rig
        .fails(
            &["apply", "--server-side", "--field-manager=other", "-f", "-"],
            &DEPLOYMENT.replace("nginx:1", "nginx:2"),
        )
        .await;
    assert!(refused.contains("Apply failed with 2 conflicts: conflicts with \"kubectl\" with subresource \"scale\" using apps/v1:\n- .spec.replicas\nconflicts with \"kubectl\":\n- .spec.template.spec.containers[name=\"main\"].image")
        || refused.contains("conflicts with \"kubectl\":\n- .spec.template.spec.containers[name=\"main\"].image\n"), "{refused}");
    rig.ok(
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        DEPLOYMENT,
    )
    .await;
    let replicas = ["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(rig.ok(&replicas, "").await, "2");
    // What is left out goes.
    rig.ok(
        &serverside,
        &DEPLOYMENT.replace("        ports: [{containerPort: 80}]\n", ""),
    )
    .await;
    let ports = [
        "get",
        "deploy",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].ports}",
    ];
    assert_eq!(rig.ok(&ports, "").await, "");
    rig.ok(
        &["apply", "--server-side", "--dry-run=server", "-f", "-"],
        &DEPLOYMENT.replace("nginx:1", "nginx:9"),
    )
    .await;
    let image = [
        "get",
        "deploy",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ];
    assert_eq!(rig.ok(&image, "").await, "nginx:1");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_side_apply_goes_over_and_back() {
    let rig = Rig::start().await;
    let fields = ["get", "deploy", "web", "-o", "json", "--show-managed-fields"];
    rig.ok(&["apply", "-f", "-"], DEPLOYMENT).await;
    let object: Value = serde_json::from_str(&rig.ok(&fields, "").await).unwrap();
    assert_eq!(managers(&object), ["kubectl-client-side-apply Update"]);
    let changed = DEPLOYMENT
        .replace("replicas: 2", "replicas: 3")
        .replace("        ports: [{containerPort: 80}]\n", "");
    assert_eq!(
        rig.ok(&["apply", "--server-side", "-f", "-"], &changed).await,
        "deployment.apps/web serverside-applied\n"
    );
    let object: Value = serde_json::from_str(&rig.ok(&fields, "").await).unwrap();
    assert_eq!(object["spec"]["replicas"], 3);
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"][0].get("ports"),
        None
    );
    assert_eq!(managers(&object)[0], "kubectl Apply", "{:?}", managers(&object));
    let last = &object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert!(last.as_str().unwrap().contains("\"replicas\":3"), "{last}");
    assert_eq!(
        rig.ok(&["apply", "-f", "-"], DEPLOYMENT).await,
        "deployment.apps/web configured\n"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_checked() {
    let rig = Rig::start().await;
    let one = format!("{MAPS}/m");
    let by = |manager: &str| format!("{one}?fieldManager={manager}");
    let cases: [(String, &str, u16, &str); 9] = [
        (
            one.clone(),
            "{}",
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (by(&"x".repeat(129)), "{}", 422, "fieldManager: Too long"),
        (by("a"), "a: [", 400, "error decoding YAML: "),
        (by("a"), "7", 400, "error decoding YAML: "),
        (
            by("a"),
            "{kind: Pod, apiVersion: v1}",
            400,
            "invalid object type: /v1, Kind=Pod",
        ),
        (
            by("a"),
            "{kind: ConfigMap, apiVersion: v1, metadata: {name: m, managedFields: []}}",
            400,
            "metadata.managedFields must be nil",
        ),
        (
            by("a"),
            "{kind: ConfigMap, apiVersion: v1, metadata: {name: other}}",
            400,
            "the name of the object (other) does not match the name on the URL (m)",
        ),
        (
            by("a"),
            "{kind: ConfigMap, apiVersion: v1, metadata: {name: m, uid: u}}",
            409,
            "uid mismatch: the provided object specified uid u, and no existing object was found",
        ),
        (
            by("a"),
            "{kind: ConfigMap, apiVersion: v1, metadata: {name: m}, date: {}}",
            400,
            "failed to create typed patch object (/m; v1, Kind=ConfigMap): .date: field not declared in schema",
        ),
    ];
    for (path, body, code, message) in cases {
        let (got, status) = ask(
            &rig,
            UserInfo::admin("t"),
            "PATCH",
            &path,
            "application/apply-patch+yaml",
            body,
        )
        .await;
        assert_eq!(got, code, "{status}");
        assert!(status["message"].as_str().unwrap().contains(message), "{status}");
    }
    let twice = "{kind: ConfigMap, apiVersion: v1, metadata: {name: m}, data: {a: x, a: y}}";
    let media = "application/apply-patch+yaml";
    let strict = format!("{}&fieldValidation=Strict", by("a"));
    let (code, status) = ask(&rig, UserInfo::admin("t"), "PATCH", &strict, media, twice).await;
    assert_eq!(code, 400, "{status}");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("error strict decoding YAML: "),
        "{status}"
    );
    let (code, object) = ask(&rig, UserInfo::admin("t"), "PATCH", &by("a"), media, twice).await;
    assert_eq!((code, &object["data"]["a"]), (201, &json!("y")), "{object}");
    assert!(
        object["warning"].as_str().unwrap().contains("already set in map"),
        "{object}"
    );
    let forced = format!("{}&force=true", by("a"));
    let (code, status) = send(&rig, "PATCH", &forced, json!({})).await;
    assert_eq!(code, 422, "{status}");
    // Who may patch but not create does not create by applying.
    let (code, _) = send(&rig, "POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", json!({
        "metadata": {"name": "patcher"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]})).await;
    assert_eq!(code, 201);
    let (code, _) = send(&rig, "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", json!({
        "metadata": {"name": "patcher"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "patcher"},
        "subjects": [{"kind": "User", "name": "patcher", "apiGroup": "rbac.authorization.k8s.io"}]})).await;
    assert_eq!(code, 201);
    let user = || UserInfo::new("patcher", &[]);
    let body = map(json!({"b": "1"})).to_string();
    let mut code = 0;
    for _ in 0..100 {
        code = ask(&rig, user(), "PATCH", &by("b"), media, &body).await.0;
        if code == 200 {
            break;
        }
    }
    assert_eq!(code, 200);
    let fresh = body.replace("\"m\"", "\"n\"");
    let (code, status) = ask(
        &rig,
        user(),
        "PATCH",
        &format!("{MAPS}/n?fieldManager=b"),
        media,
        &fresh,
    )
    .await;
    assert_eq!(code, 403, "{status}");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("cannot create resource \"configmaps\""),
        "{status}"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_has_its_manager() {
    let rig = Rig::start().await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let (code, object) = send(&rig, "POST", DEPLOYMENTS, deployment).await;
    assert_eq!(
        (code, managers(&object)),
        (201, vec!["tester Update".to_owned()]),
        "{object}"
    );
    let fields = &object["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(
        fields["f:strategy"],
        json!({"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}}),
        "{fields}"
    );
    assert_eq!(
        fields["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:imagePullPolicy"],
        json!({})
    );
    let one = format!("{DEPLOYMENTS}/d");
    let status = format!("{one}/status?fieldManager=controller");
    let (code, object) = send(
        &rig,
        "PATCH",
        &status,
        json!({"spec": {"replicas": 9}, "status": {"replicas": 1}}),
    )
    .await;
    assert_eq!(
        (code, managers(&object)),
        (
            200,
            vec!["controller Update/status".to_owned(), "tester Update".to_owned()]
        ),
        "{object}"
    );
    // Applied status and scale.
    let config = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": spec});
    let (code, object) = apply(
        &rig,
        &format!("{one}/status?fieldManager=s"),
        config(json!({"readyReplicas": 1, "replicas": 1})),
    )
    .await;
    assert_eq!(code, 200, "{object}");
    assert_eq!(managers(&object)[0], "s Apply/status");
    assert_eq!(
        object["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:status": {"f:readyReplicas": {}, "f:replicas": {}}})
    );
    let (code, refused) = apply(
        &rig,
        &format!("{one}/status?fieldManager=z"),
        config(json!({"readyReplicas": 2})),
    )
    .await;
    assert_eq!(code, 409);
    assert_eq!(refused["reason"], "Conflict");
    assert_eq!(
        refused["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"s\" with subresource \"status\"", "field": ".status.readyReplicas"}])
    );
    let scale = |replicas: u32| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": replicas}});
    let (code, refused) = apply(&rig, &format!("{one}/scale?fieldManager=hpa"), scale(4)).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            409,
            &json!("Apply failed with 1 conflict: conflict with \"tester\" using apps/v1: .spec.replicas")
        )
    );
    let (code, scaled) = apply(
        &rig,
        &format!("{one}/scale?fieldManager=hpa&force=true"),
        scale(4),
    )
    .await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(4)), "{scaled}");
    let (_, object) = send(&rig, "GET", &one, json!({})).await;
    assert!(
        managers(&object).contains(&"hpa Apply/scale".to_owned()),
        "{:?}",
        managers(&object)
    );
    assert_eq!(object["metadata"]["generation"], 2);
    // Server-side apply of the object ignores status; a missing subresource's object is not made.
    let (code, object) = apply(
        &rig,
        &format!("{one}?fieldManager=m"),
        config(json!({"replicas": 77})),
    )
    .await;
    assert_eq!(
        (code, &object["status"]["replicas"]),
        (200, &json!(1)),
        "{object}"
    );
    assert!(!managers(&object).contains(&"m Apply".to_owned()));
    let (code, _) = apply(
        &rig,
        &format!("{DEPLOYMENTS}/none/status?fieldManager=m"),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "none"}}),
    )
    .await;
    assert_eq!(code, 404);
    // A client clears the list.
    let (code, object) = send(&rig, "PATCH", &one, json!({"metadata": {"managedFields": []}})).await;
    assert_eq!((code, object["metadata"].get("managedFields")), (200, None));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_meets_revisions_and_other_writers() {
    let rig = Rig::start().await;
    let path = |manager: &str| format!("{MAPS}/m?fieldManager={manager}");
    let (code, made) = apply(&rig, &path("a"), map(json!({"k": "1"}))).await;
    assert_eq!(code, 201);
    let (code, again) = apply(&rig, &path("a"), map(json!({"k": "1"}))).await;
    assert_eq!((code, &again), (200, &made));
    let mut stale = map(json!({"k": "2"}));
    stale["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(apply(&rig, &path("a"), stale).await.0, 409);
    let (code, dry) = apply(&rig, &format!("{}&dryRun=All", path("a")), map(json!({"k": "9"}))).await;
    assert_eq!((code, &dry["data"]["k"]), (200, &json!("9")));
    let (_, now) = send(&rig, "GET", &format!("{MAPS}/m"), json!({})).await;
    assert_eq!(now, made);
    // Two who want the same share it; one who leaves takes nothing along.
    apply(&rig, &path("b"), map(json!({"k": "1"}))).await;
    let (_, object) = apply(&rig, &path("a"), map(json!({"l": "1"}))).await;
    assert_eq!(object["data"], json!({"k": "1", "l": "1"}));
    let (_, object) = apply(
        &rig,
        &path("b"),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}),
    )
    .await;
    assert_eq!(object["data"], json!({"l": "1"}));
    // Ten at once, each with its own key: none is lost.
    let all = (0..10).map(|n| {
        let key = format!("k{n}");
        let rig = &rig;
        async move {
            apply(
                rig,
                &format!("{MAPS}/many?fieldManager=w{n}"),
                json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "many"}, "data": {key: "v"}}),
            )
            .await
            .0
        }
    });
    let codes = futures::future::join_all(all).await;
    assert!(
        codes.iter().all(|code| matches!(code, 200 | 201 | 409)),
        "{codes:?}"
    );
    let (_, object) = send(&rig, "GET", &format!("{MAPS}/many"), json!({})).await;
    let written = codes.iter().filter(|code| **code < 300).count();
    assert_eq!(object["data"].as_object().unwrap().len(), written, "{object}");
    assert!(
        codes.iter().filter(|code| **code == 201).count() == 1,
        "{codes:?}"
    );
    rig.stop().await;
}
