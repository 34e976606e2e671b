//! ResourceQuota: what is charged, what is refused, and that no number of writers exceeds it together.

use super::*;

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A quota as it is once the controller has seen it.
async fn quota(rig: &Rig, name: &str, hard: Value, more: Value) {
    let mut spec = more;
    spec["hard"] = hard.clone();
    let made = create(rig, QUOTAS, json!({"metadata": {"name": name}, "spec": spec})).await;
    let mut seen = made;
    let zero: serde_json::Map<String, Value> = hard
        .as_object()
        .unwrap()
        .keys()
        .map(|key| (key.clone(), json!("0")))
        .collect();
    seen["status"] = json!({"hard": hard, "used": zero});
    let (code, seen) = ask(rig, "PUT", &format!("{QUOTAS}/{name}/status"), seen).await;
    assert_eq!(code, 200, "{seen}");
}

async fn used(rig: &Rig, name: &str) -> Value {
    ask(rig, "GET", &format!("{QUOTAS}/{name}"), Value::Null).await.1["status"]["used"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_never_exceed_a_quota_together() {
    let rig = Rig::start().await;
    let second = rig.beside().await;
    quota(
        &rig,
        "few",
        json!({"count/configmaps": "10", "configmaps": "10"}),
        json!({}),
    )
    .await;
    let (mut made, mut told) = (0, String::new());
    let all = (0..30).map(|number| {
        let rig = if number % 2 == 0 { &rig } else { &second };
        let body = json!({"metadata": {"name": format!("m{number}")}});
        async move { ask(rig, "POST", &format!("{DEFAULT}/configmaps"), body).await }
    });
    for (code, document) in futures::future::join_all(all).await {
        match code {
            201 => made += 1,
            403 => told = document["message"].as_str().unwrap().to_owned(),
            _ => panic!("{document}"),
        }
    }
    assert_eq!(made, 10);
    assert!(
        told.ends_with("is forbidden: exceeded quota: few, requested: configmaps=1,count/configmaps=1, used: configmaps=10,count/configmaps=10, limited: configmaps=10,count/configmaps=10"),
        "{told}"
    );
    assert_eq!(
        used(&rig, "few").await,
        json!({"configmaps": "10", "count/configmaps": "10"})
    );
    second.api.shutdown().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_count_what_the_original_counts() {
    let rig = Rig::start().await;
    let pods = format!("{DEFAULT}/pods");
    quota(
        &rig,
        "compute",
        json!({"pods": "2", "requests.cpu": "300m"}),
        json!({}),
    )
    .await;
    assert_eq!(
        refused(&rig, admin(), "POST", &pods, pod("bare", json!({}))).await,
        "403 pods \"bare\" is forbidden: failed quota: compute: must specify requests.cpu for: c"
    );
    let asking = |cpu: &str| json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]});
    create(&rig, &pods, pod("a", asking("200m"))).await;
    assert_eq!(
        refused(&rig, admin(), "POST", &pods, pod("b", asking("200m"))).await,
        "403 pods \"b\" is forbidden: exceeded quota: compute, requested: requests.cpu=200m, used: requests.cpu=200m, limited: requests.cpu=300m"
    );
    // A dry run and a write that fails cost nothing.
    let dry = format!("{pods}?dryRun=All");
    assert_eq!(ask(&rig, "POST", &dry, pod("c", asking("100m"))).await.0, 201);
    assert_eq!(ask(&rig, "POST", &pods, pod("a", asking("100m"))).await.0, 409);
    assert_eq!(
        used(&rig, "compute").await,
        json!({"pods": "1", "requests.cpu": "200m"})
    );
    // Scopes choose what is counted.
    let short = json!({"scopes": ["Terminating"]});
    quota(&rig, "short", json!({"pods": "0"}), short).await;
    let mut deadline = asking("50m");
    deadline["activeDeadlineSeconds"] = json!(60);
    assert_eq!(
        refused(&rig, admin(), "POST", &pods, pod("d", deadline)).await,
        "403 pods \"d\" is forbidden: exceeded quota: short, requested: pods=1, used: pods=0, limited: pods=0"
    );
    create(&rig, &pods, pod("e", asking("50m"))).await;
    // Claims are charged for the devices that they may get at most, by class.
    let hard =
        json!({"gpu.deviceclass.resource.k8s.io/devices": "3", "count/resourceclaims.resource.k8s.io": "5"});
    quota(&rig, "devices", hard, json!({})).await;
    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let claim = |name: &str, count: u32| {
        json!({"metadata": {"name": name}, "spec": {"devices": {"requests": [
        {"name": "r", "exactly": {"deviceClassName": "gpu", "count": count}}]}}})
    };
    create(&rig, claims, claim("two", 2)).await;
    assert_eq!(
        refused(&rig, admin(), "POST", claims, claim("more", 2)).await,
        "403 resourceclaims.resource.k8s.io \"more\" is forbidden: exceeded quota: devices, requested: gpu.deviceclass.resource.k8s.io/devices=2, used: gpu.deviceclass.resource.k8s.io/devices=2, limited: gpu.deviceclass.resource.k8s.io/devices=3"
    );
    // A service's change of type is charged by the difference.
    quota(&rig, "ports", json!({"services.nodeports": "1"}), json!({})).await;
    let services = format!("{DEFAULT}/services");
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}});
    create(&rig, &services, service).await;
    assert_eq!(
        refused(
            &rig,
            admin(),
            "PATCH",
            &format!("{services}/s"),
            json!({"spec": {"type": "NodePort"}})
        )
        .await,
        "403 services \"s\" is forbidden: exceeded quota: ports, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"
    );
    rig.stop().await;
}
