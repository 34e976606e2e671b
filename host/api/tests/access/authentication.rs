//! Tokens, the reviews of them, and impersonation.

use super::*;

const AUTHENTICATION: &str = "/apis/authentication.k8s.io/v1";

async fn review(rig: &Rig, token: &str) -> Value {
    let spec = json!({"spec": {"token": token}});
    let path = format!("{AUTHENTICATION}/tokenreviews");
    let (code, review) = ask(rig, "POST", &path, spec).await;
    assert_eq!(code, 201, "{review}");
    review["status"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_live_and_die_with_what_they_are_bound_to() {
    let rig = Rig::start().await;
    create(
        &rig,
        &format!("{DEFAULT}/serviceaccounts"),
        json!({"metadata": {"name": "robot"}}),
    )
    .await;
    let made = create(
        &rig,
        &format!("{DEFAULT}/pods"),
        pod("p", json!({"serviceAccountName": "robot", "nodeName": "n1"})),
    )
    .await;
    let path = format!("{DEFAULT}/serviceaccounts/robot/token");
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": made["metadata"]["uid"]});
    let request = json!({"spec": {"boundObjectRef": bound, "expirationSeconds": 3607}});
    let issued = create(&rig, &path, request).await;
    let token = issued["status"]["token"].as_str().unwrap();
    let status = review(&rig, token).await;
    assert_eq!(status["authenticated"], true, "{status}");
    let who = &status["user"];
    assert_eq!(who["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        who["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    assert_eq!(
        who["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["p"])
    );
    assert_eq!(
        who["extra"]["authentication.kubernetes.io/node-name"],
        json!(["n1"])
    );
    assert!(
        who["extra"]["authentication.kubernetes.io/credential-id"][0]
            .as_str()
            .unwrap()
            .starts_with("JTI=")
    );
    // Such a token lives on for a year, and says when it should have been replaced.
    let payload = token.split('.').nth(1).unwrap();
    use base64::Engine;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let seconds = |claim: &Value| claim.as_i64().unwrap();
    assert_eq!(
        seconds(&claims["kubernetes.io"]["warnafter"]) - seconds(&claims["iat"]),
        3607
    );
    assert_eq!(seconds(&claims["exp"]) - seconds(&claims["iat"]), 365 * 24 * 3600);
    let delete = format!("{DEFAULT}/pods/p?gracePeriodSeconds=0");
    assert_eq!(ask(&rig, "DELETE", &delete, Value::Null).await.0, 200);
    assert_eq!(
        review(&rig, token).await,
        json!({"user": {}, "error": "[invalid bearer token, service account token has been invalidated]"})
    );
    assert_eq!(
        review(&rig, "x.y.z").await,
        json!({"user": {}, "error": "invalid bearer token"})
    );
    let short = json!({"spec": {"expirationSeconds": 5}});
    assert_eq!(
        refused(&rig, admin(), "POST", &path, short).await,
        "422 TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_token_is_a_secret() {
    let rig = Rig::start().await;
    let data = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:workers"});
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token", "stringData": data});
    create(&rig, "/api/v1/namespaces/kube-system/secrets", secret).await;
    let status = review(&rig, "abcdef.0123456789abcdef").await;
    assert_eq!(status["user"]["username"], "system:bootstrap:abcdef", "{status}");
    let groups = json!([
        "system:bootstrappers",
        "system:bootstrappers:workers",
        "system:authenticated"
    ]);
    assert_eq!(status["user"]["groups"], groups);
    assert_eq!(
        review(&rig, "abcdef.0123456789abcdeg").await["error"],
        "invalid bearer token"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impersonation_needs_leave_for_each_part() {
    let rig = Rig::start().await;
    let whoami = format!("{AUTHENTICATION}/selfsubjectreviews");
    let as_bob = [
        ("impersonate-user", "bob"),
        ("impersonate-group", "devs"),
        ("impersonate-uid", "u-1"),
        ("impersonate-extra-acme.com%2fteam", "blue"),
    ];
    let (code, own) = ask_with(&rig, admin(), &as_bob, "POST", &whoami, json!({})).await;
    assert_eq!(code, 201, "{own}");
    assert_eq!(
        own["status"]["userInfo"],
        json!({"username": "bob", "uid": "u-1", "groups": ["devs", "system:authenticated"], "extra": {"acme.com/team": ["blue"]}})
    );
    let pods = format!("{DEFAULT}/pods");
    let (code, status) = ask_with(&rig, user("eve"), &as_bob[..1], "GET", &pods, Value::Null).await;
    assert_eq!(
        (code, status["message"].as_str().unwrap()),
        (
            403,
            "pods is forbidden: User \"eve\" cannot impersonate-on:user-info:list resource \"pods\" in API group \"\" in the namespace \"default\""
        )
    );
    // The older way: one verb on each part.
    let rules = json!([{"apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"], "verbs": ["impersonate"]}]);
    grant(&rig, "sue", rules).await;
    assert_eq!(
        ask_with(&rig, user("sue"), &as_bob[..1], "POST", &whoami, json!({}))
            .await
            .0,
        201
    );
    assert_eq!(
        ask_with(&rig, user("sue"), &as_bob[..2], "POST", &whoami, json!({}))
            .await
            .0,
        403
    );
    // The constrained way: whom, and what for.
    let rules = json!([
        {"apiGroups": ["authentication.k8s.io"], "resources": ["users"], "verbs": ["impersonate:user-info"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["impersonate-on:user-info:create"]},
    ]);
    grant(&rig, "tom", rules).await;
    assert_eq!(
        ask_with(&rig, user("tom"), &as_bob[..1], "POST", &whoami, json!({}))
            .await
            .0,
        201
    );
    assert_eq!(
        ask_with(&rig, user("tom"), &as_bob[..1], "GET", &pods, Value::Null)
            .await
            .0,
        403
    );
    let account = [("impersonate-user", "system:serviceaccount:default:robot")];
    let (_, own) = ask_with(&rig, admin(), &account, "POST", &whoami, json!({})).await;
    assert_eq!(
        own["status"]["userInfo"]["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let (code, status) = ask_with(&rig, admin(), &as_bob[1..2], "GET", &pods, Value::Null).await;
    assert_eq!(code, 400, "{status}");
    rig.stop().await;
}
