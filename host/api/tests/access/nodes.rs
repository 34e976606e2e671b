//! The node authorizer and NodeRestriction: a node sees its pods' things and writes to itself.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_pod_is_labelled_with_where_it_is() {
    let rig = Rig::start().await;
    let labels =
        json!({"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "other": "x"});
    create(
        &rig,
        "/api/v1/nodes",
        json!({"metadata": {"name": "n", "labels": labels}}),
    )
    .await;
    let pods = format!("{DEFAULT}/pods");
    create(&rig, &pods, pod("p", json!({}))).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let (code, status) = ask(&rig, "POST", &format!("{pods}/p/binding"), binding).await;
    assert_eq!(code, 201, "{status}");
    let (_, bound) = ask(&rig, "GET", &format!("{pods}/p"), Value::Null).await;
    assert_eq!(
        bound["metadata"]["labels"],
        json!({"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1"})
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_keeps_to_itself() {
    let rig = Rig::start().await;
    for name in ["used", "other"] {
        create(
            &rig,
            &format!("{DEFAULT}/secrets"),
            json!({"metadata": {"name": name}}),
        )
        .await;
    }
    create(
        &rig,
        &format!("{DEFAULT}/serviceaccounts"),
        json!({"metadata": {"name": "robot"}}),
    )
    .await;
    let volumes = json!([
        {"name": "v", "secret": {"secretName": "used"}},
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    ]);
    let made = create(
        &rig,
        &format!("{DEFAULT}/pods"),
        pod(
            "p",
            json!({"nodeName": "n1", "serviceAccountName": "robot", "volumes": volumes}),
        ),
    )
    .await;
    let get = |name: &str| format!("{DEFAULT}/secrets/{name}");
    assert_eq!(
        ask_as(&rig, node("n1"), "GET", &get("used"), Value::Null).await.0,
        200
    );
    assert_eq!(
        refused(&rig, node("n1"), "GET", &get("other"), Value::Null).await,
        "403 secrets \"other\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" in the namespace \"default\": no relationship found between node 'n1' and this object"
    );
    assert_eq!(
        ask_as(&rig, node("n2"), "GET", &get("used"), Value::Null).await.0,
        403
    );
    let pods = "/api/v1/pods";
    assert_eq!(ask_as(&rig, node("n1"), "GET", pods, Value::Null).await.0, 403);
    let own = format!("{pods}?fieldSelector=spec.nodeName%3Dn1");
    assert_eq!(ask_as(&rig, node("n1"), "GET", &own, Value::Null).await.0, 200);
    assert_eq!(
        refused(&rig, node("n1"), "GET", "/api/v1/nodes/n2", Value::Null).await,
        "403 nodes \"n2\" is forbidden: User \"system:node:n1\" cannot get resource \"nodes\" in API group \"\" at the cluster scope: node 'n1' cannot read 'n2', only its own Node object"
    );
    // What it writes.
    let labelled = json!({"metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/x": ""}}});
    assert_eq!(
        refused(&rig, node("n1"), "POST", "/api/v1/nodes", labelled).await,
        "403 nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the following labels: node-role.kubernetes.io/x"
    );
    let (code, made_node) = ask_as(
        &rig,
        node("n1"),
        "POST",
        "/api/v1/nodes",
        json!({"metadata": {"name": "n1"}}),
    )
    .await;
    assert_eq!(code, 201, "{made_node}");
    assert_eq!(
        made_node["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
    let patch = json!({"spec": {"taints": []}});
    assert_eq!(
        refused(&rig, node("n1"), "PATCH", "/api/v1/nodes/n1", patch).await,
        "403 nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints"
    );
    assert_eq!(
        refused(
            &rig,
            node("n2"),
            "PATCH",
            "/api/v1/nodes/n1",
            json!({"metadata": {"labels": {"a": "b"}}})
        )
        .await,
        "403 nodes \"n1\" is forbidden: node \"n2\" is not allowed to modify node \"n1\""
    );
    let status = format!("{DEFAULT}/pods/p/status");
    let running = json!({"status": {"phase": "Running"}});
    assert_eq!(
        ask_as(&rig, node("n1"), "PATCH", &status, running.clone())
            .await
            .0,
        200
    );
    assert_eq!(
        refused(&rig, node("n2"), "PATCH", &status, running).await,
        "403 pods \"p\" is forbidden: node \"n2\" can only update pod status for pods with spec.nodeName set to itself"
    );
    assert_eq!(
        refused(
            &rig,
            node("n1"),
            "POST",
            &format!("{DEFAULT}/pods"),
            pod("q", json!({"nodeName": "n1"}))
        )
        .await,
        "403 pods \"q\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods"
    );
    // Tokens, for its pods.
    let path = format!("{DEFAULT}/serviceaccounts/robot/token");
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": made["metadata"]["uid"]});
    let request = |audiences: Value| json!({"spec": {"boundObjectRef": bound, "audiences": audiences}});
    let (code, issued) = ask_as(&rig, node("n1"), "POST", &path, request(Value::Null)).await;
    assert_eq!(code, 201, "{issued}");
    assert_eq!(
        ask_as(&rig, node("n2"), "POST", &path, request(Value::Null))
            .await
            .0,
        403
    );
    assert_eq!(
        refused(&rig, node("n1"), "POST", &path, json!({"spec": {}})).await,
        "403 serviceaccounts \"robot\" is forbidden: node requested token not bound to a pod"
    );
    assert_eq!(
        refused(&rig, node("n1"), "POST", &path, request(json!(["vault"]))).await,
        "403 serviceaccounts \"robot\" is forbidden: audience \"vault\" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience"
    );
    rig.stop().await;
}
