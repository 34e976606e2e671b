//! The built-in admission as clients see it.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_as_an_account_with_a_way_into_the_api() {
    let rig = Rig::start_without(&[]).await;
    let pods = format!("{DEFAULT}/pods");
    assert_eq!(
        refused(
            &rig,
            admin(),
            "POST",
            &pods,
            pod("p", json!({"serviceAccountName": "ghost"}))
        )
        .await,
        "403 pods \"p\" is forbidden: error looking up service account default/ghost: serviceaccount \"ghost\" not found"
    );
    let accounts = format!("{DEFAULT}/serviceaccounts");
    // A pod of the default account waits for the account.
    let (made, _) = tokio::join!(create(&rig, &pods, pod("p", json!({}))), async {
        create(
            &rig,
            &accounts,
            json!({"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "pull"}]}),
        )
        .await
    });
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-"), "{name}");
    assert_eq!(
        volume["projected"],
        json!({"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]})
    );
    assert_eq!(
        spec["containers"][0]["volumeMounts"],
        json!([{"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}])
    );
    // The pod's wish goes before the account's.
    create(
        &rig,
        &accounts,
        json!({"metadata": {"name": "shy"}, "automountServiceAccountToken": false}),
    )
    .await;
    let quiet = create(&rig, &pods, pod("q", json!({"serviceAccountName": "shy"}))).await;
    assert!(quiet["spec"]["volumes"].is_null(), "{quiet}");
    let wish = json!({"serviceAccountName": "shy", "automountServiceAccountToken": true});
    let loud = create(&rig, &pods, pod("r", wish)).await;
    assert_eq!(loud["spec"]["volumes"].as_array().unwrap().len(), 1);
    // What is in use is protected.
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let made = create(&rig, &format!("{DEFAULT}/persistentvolumeclaims"), claim).await;
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_ranges_set_and_bound() {
    let rig = Rig::start().await;
    let limit = json!({"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}});
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [limit]}});
    create(&rig, &format!("{DEFAULT}/limitranges"), range).await;
    let pods = format!("{DEFAULT}/pods");
    let made = create(&rig, &pods, pod("p", json!({}))).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let greedy = json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}}]});
    assert_eq!(
        refused(&rig, admin(), "POST", &pods, pod("q", greedy)).await,
        "403 pods \"q\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classes_give_their_defaults() {
    let rig = Rig::start().await;
    let pods = format!("{DEFAULT}/pods");
    let mark = |key: &str| json!({key: "true"});
    create(
        &rig,
        "/apis/storage.k8s.io/v1/storageclasses",
        json!({"metadata": {"name": "gold", "annotations": mark("storageclass.kubernetes.io/is-default-class")}, "provisioner": "x"}),
    )
    .await;
    let claims = format!("{DEFAULT}/persistentvolumeclaims");
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let made = create(&rig, &claims, claim).await;
    assert_eq!(made["spec"]["storageClassName"], "gold");
    let bound = json!({"status": {"phase": "Bound"}});
    assert_eq!(
        ask(&rig, "PATCH", &format!("{claims}/c/status"), bound).await.0,
        200
    );
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    assert_eq!(
        refused(&rig, admin(), "PATCH", &format!("{claims}/c"), grow).await,
        "403 persistentvolumeclaims \"c\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    );
    create(
        &rig,
        "/apis/networking.k8s.io/v1/ingressclasses",
        json!({"metadata": {"name": "edge", "annotations": mark("ingressclass.kubernetes.io/is-default-class")}, "spec": {"controller": "a.b/c"}}),
    )
    .await;
    let ingress = json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    let made = create(
        &rig,
        "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
        ingress,
    )
    .await;
    assert_eq!(made["spec"]["ingressClassName"], "edge");
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    let class = json!({"metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}}});
    create(&rig, classes, class).await;
    let made = create(&rig, &pods, pod("v", json!({"runtimeClassName": "vm"}))).await;
    assert_eq!(made["spec"]["overhead"], json!({"memory": "64Mi"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"vm": "yes"}));
    assert_eq!(
        refused(
            &rig,
            admin(),
            "POST",
            &pods,
            pod("w", json!({"runtimeClassName": "none"}))
        )
        .await,
        "403 pods \"w\" is forbidden: pod rejected: RuntimeClass \"none\" not found"
    );
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str| json!({"metadata": {"name": name}, "value": 7, "globalDefault": true});
    create(&rig, path, class("one")).await;
    assert_eq!(
        refused(&rig, admin(), "POST", path, class("two")).await,
        "403 priorityclasses.scheduling.k8s.io \"two\" is forbidden: PriorityClass one is already marked as default. Only one default can exist"
    );
    let made = create(&rig, &pods, pod("x", json!({}))).await;
    assert_eq!(
        (&made["spec"]["priorityClassName"], &made["spec"]["priority"]),
        (&json!("one"), &json!(7))
    );
    assert_eq!(
        refused(&rig, admin(), "POST", &pods, pod("y", json!({"priority": 9}))).await,
        "403 pods \"y\" is forbidden: the integer value of priority (9) must not be provided in pod spec; priority admission controller computed 7 from the given PriorityClass name"
    );
    rig.stop().await;
}
