//! RBAC as its clients see it: refusals, escalation, default roles, the reviews.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_escalation_are_the_originals() {
    let rig = Rig::start().await;
    assert_eq!(
        refused(&rig, user("eve"), "GET", &format!("{DEFAULT}/pods"), Value::Null).await,
        "403 pods is forbidden: User \"eve\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(
        refused(&rig, user("eve"), "GET", "/metrics", Value::Null).await,
        "403 forbidden: User \"eve\" cannot get path \"/metrics\""
    );
    // A role that is bound but missing is told.
    create(
        &rig,
        &format!("{RBAC}/clusterrolebindings"),
        binding("eve", "gone"),
    )
    .await;
    assert_eq!(
        refused(&rig, user("eve"), "GET", "/api/v1/nodes/n", Value::Null).await,
        "403 nodes \"n\" is forbidden: User \"eve\" cannot get resource \"nodes\" in API group \"\" at the cluster scope: RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found"
    );
    // A field selector for one name is a request for that name.
    let named = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["list", "watch"]}]);
    grant(&rig, "ned", named).await;
    let path = format!("{DEFAULT}/configmaps");
    assert_eq!(ask_as(&rig, user("ned"), "GET", &path, Value::Null).await.0, 403);
    let one = format!("{path}?fieldSelector=metadata.name%3Dmine");
    assert_eq!(ask_as(&rig, user("ned"), "GET", &one, Value::Null).await.0, 200);
    // Nobody grants what they do not have.
    let all = json!(["get", "create", "update"]);
    grant(
        &rig,
        "mel",
        json!([
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles", "clusterrolebindings"], "verbs": all},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        ]),
    )
    .await;
    let wider = json!({"metadata": {"name": "w"}, "rules": [{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list"]}]});
    assert_eq!(
        refused(&rig, user("mel"), "POST", &format!("{RBAC}/clusterroles"), wider).await,
        "403 clusterroles.rbac.authorization.k8s.io \"w\" is forbidden: user \"mel\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
    );
    let sum = json!({"metadata": {"name": "s"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    assert_eq!(
        refused(&rig, user("mel"), "POST", &format!("{RBAC}/clusterroles"), sum).await,
        "403 clusterroles.rbac.authorization.k8s.io \"s\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
    );
    let (code, _) = ask_as(
        &rig,
        user("mel"),
        "POST",
        &format!("{RBAC}/clusterrolebindings"),
        binding("x", "cluster-admin"),
    )
    .await;
    assert_eq!(code, 403, "binding more than one has");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn default_roles_stand_and_reviews_answer() {
    let rig = Rig::start().await;
    create(
        &rig,
        &format!("{RBAC}/clusterrolebindings"),
        binding("vic", "view"),
    )
    .await;
    let pods = format!("{DEFAULT}/pods");
    assert_eq!(ask_as(&rig, user("vic"), "GET", &pods, Value::Null).await.0, 200);
    let secrets = format!("{DEFAULT}/secrets");
    assert_eq!(
        ask_as(&rig, user("vic"), "GET", &secrets, Value::Null).await.0,
        403
    );
    let group = "/apis/authorization.k8s.io/v1";
    let question = json!({"verb": "list", "resource": "pods", "namespace": "default"});
    let own = json!({"spec": {"resourceAttributes": question}});
    let path = format!("{group}/selfsubjectaccessreviews");
    let (code, review) = ask_as(&rig, user("vic"), "POST", &path, own.clone()).await;
    assert_eq!(code, 201, "{review}");
    assert_eq!(
        review["status"],
        json!({"allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"vic\" of ClusterRole \"view\" to User \"vic\""})
    );
    let (_, review) = ask_as(&rig, user("eve"), "POST", &path, own).await;
    assert_eq!(review["status"], json!({"allowed": false}));
    assert_eq!(
        refused(&rig, user("eve"), "POST", &path, json!({"spec": {}})).await,
        "422 SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
    );
    let about = json!({"spec": {"user": "vic", "resourceAttributes": question}});
    let path = format!("{group}/subjectaccessreviews");
    let (_, review) = ask(&rig, "POST", &path, about.clone()).await;
    assert_eq!(review["status"]["allowed"], true);
    let nobody = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/x"}}});
    assert_eq!(
        refused(&rig, admin(), "POST", &path, nobody).await,
        "422 SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of user or group must be specified"
    );
    let local = format!("{group}/namespaces/kube-system/localsubjectaccessreviews");
    assert_eq!(
        refused(&rig, admin(), "POST", &local, about).await,
        "422 LocalSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes.namespace: Invalid value: \"default\": must match metadata.namespace"
    );
    let path = format!("{group}/selfsubjectrulesreviews");
    let (_, review) = ask_as(
        &rig,
        user("vic"),
        "POST",
        &path,
        json!({"spec": {"namespace": "default"}}),
    )
    .await;
    let rules = review["status"]["resourceRules"].as_array().unwrap();
    assert!(
        rules
            .iter()
            .any(|rule| rule["resources"].to_string().contains("\"pods\""))
    );
    // A default role that lost a rule gets it back with the next start; one whose owner says no does not.
    let role = format!("{RBAC}/clusterroles/system:basic-user");
    let patch = json!({"rules": []});
    assert_eq!(ask(&rig, "PATCH", &role, patch.clone()).await.0, 200);
    let other = format!("{RBAC}/clusterroles/system:monitoring");
    let mut kept = patch;
    kept["metadata"] = json!({"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}});
    assert_eq!(ask(&rig, "PATCH", &other, kept).await.0, 200);
    let second = rig.beside().await;
    let rules = |role: Value| role["rules"].as_array().map_or(0, Vec::len);
    assert_eq!(rules(ask(&second, "GET", &role, Value::Null).await.1), 2);
    assert_eq!(rules(ask(&second, "GET", &other, Value::Null).await.1), 0);
    second.api.shutdown().await;
    rig.stop().await;
}
