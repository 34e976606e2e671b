//! Who may do what, and what keeps the server well: RBAC, accounts, certificates, quotas, health, metrics, audit.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::Ground;
use super::api::text;

pub(super) async fn roles(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    let jane = api.header("impersonate-user", "jane");
    let refused = jane.get(&maps).await?.refused(403, "Forbidden")?;
    let due = format!(
        "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"{}\"",
        ground.namespace
    );
    ensure!(
        refused.body["message"] == due.as_str(),
        "{}",
        refused.body["message"]
    );
    let role = json!({ "metadata": { "name": "reader" }, "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"] }] });
    let rbac = |plural: &str| ground.of("rbac.authorization.k8s.io/v1", plural);
    api.post(&rbac("roles"), &role).await?.expect(201)?;
    let binding = json!({
        "metadata": { "name": "jane-reads" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane" }],
    });
    api.post(&rbac("rolebindings"), &binding).await?.expect(201)?;
    let started = std::time::Instant::now();
    while jane.get(&maps).await?.status != 200 {
        ensure!(started.elapsed().as_secs() < 10, "the role is not seen");
    }
    jane.post(&maps, &json!({ "metadata": { "name": "janes" } }))
        .await?
        .refused(403, "Forbidden")?;
    Ok(())
}

pub(super) async fn no_escalation(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let rbac = |plural: &str| ground.of("rbac.authorization.k8s.io/v1", plural);
    let role = json!({ "metadata": { "name": "makes-roles" }, "rules": [{ "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"] }] });
    api.post(&rbac("roles"), &role).await?.expect(201)?;
    let binding = json!({
        "metadata": { "name": "joe-makes-roles" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "makes-roles" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe" }],
    });
    api.post(&rbac("rolebindings"), &binding).await?.expect(201)?;
    let joe = api.header("impersonate-user", "joe");
    let more = json!({ "metadata": { "name": "more" }, "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }] });
    let started = std::time::Instant::now();
    loop {
        let refused = joe.post(&rbac("roles"), &more).await?.refused(403, "Forbidden")?;
        if text(&refused.body["message"])
            .contains("is attempting to grant RBAC permissions not currently held")
        {
            return Ok(());
        }
        ensure!(started.elapsed().as_secs() < 10, "{}", refused.text());
    }
}

pub(super) async fn reviews(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let attributes = json!({ "verb": "get", "resource": "pods", "namespace": ground.namespace });
    let review = |kind: &str, spec: Value| json!({ "apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": { "namespace": "" }, "spec": spec });
    let own = review(
        "SelfSubjectAccessReview",
        json!({ "resourceAttributes": attributes }),
    );
    let path = |plural: &str| format!("/apis/authorization.k8s.io/v1/{plural}");
    let own = api
        .post(&path("selfsubjectaccessreviews"), &own)
        .await?
        .expect(201)?
        .body;
    ensure!(own["status"]["allowed"] == true, "{own}");
    let other = review(
        "SubjectAccessReview",
        json!({ "user": "nobody", "resourceAttributes": attributes }),
    );
    let other = api
        .post(&path("subjectaccessreviews"), &other)
        .await?
        .expect(201)?
        .body;
    ensure!(other["status"]["allowed"] == false, "{other}");
    let mut local = review(
        "LocalSubjectAccessReview",
        json!({ "user": "nobody", "resourceAttributes": attributes }),
    );
    local["metadata"]["namespace"] = json!(ground.namespace);
    let local_path = ground.of("authorization.k8s.io/v1", "localsubjectaccessreviews");
    ensure!(
        api.post(&local_path, &local).await?.expect(201)?.body["status"]["allowed"] == false,
        "local"
    );
    let rules = review("SelfSubjectRulesReview", json!({ "namespace": ground.namespace }));
    let rules = api
        .post(&path("selfsubjectrulesreviews"), &rules)
        .await?
        .expect(201)?
        .body;
    ensure!(
        rules["status"]["resourceRules"]
            .as_array()
            .is_some_and(|all| !all.is_empty()),
        "{rules}"
    );
    let who = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let who = api
        .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &who)
        .await?
        .expect(201)?
        .body;
    ensure!(
        who["status"]["userInfo"]["username"] == "kubernetes-admin",
        "{who}"
    );
    Ok(())
}

pub(super) async fn account_tokens(ground: &Ground) -> anyhow::Result<()> {
    let (api, accounts) = (&ground.api, ground.collection("serviceaccounts"));
    api.post(&accounts, &json!({ "metadata": { "name": "robot" } }))
        .await?
        .expect(201)?;
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "audiences": [], "expirationSeconds": 3600 } });
    let made = api
        .post(&format!("{accounts}/robot/token"), &request)
        .await?
        .expect(201)?
        .body;
    let token = text(&made["status"]["token"]);
    ensure!(token.split('.').count() == 3, "no JWT: {made}");
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token } });
    let seen = api
        .post("/apis/authentication.k8s.io/v1/tokenreviews", &review)
        .await?
        .expect(201)?
        .body;
    let name = format!("system:serviceaccount:{}:robot", ground.namespace);
    ensure!(
        seen["status"]["authenticated"] == true && seen["status"]["user"]["username"] == name.as_str(),
        "{seen}"
    );
    let robot = api.stranger(Some(&token)).await?;
    let refused = robot
        .get(&ground.collection("pods"))
        .await?
        .refused(403, "Forbidden")?;
    ensure!(
        text(&refused.body["message"]).contains(&name),
        "{}",
        refused.text()
    );
    api.delete(&format!("{accounts}/robot"), &Value::Null)
        .await?
        .expect(200)?;
    let started = std::time::Instant::now();
    while robot.get(&ground.collection("pods")).await?.status != 401 {
        ensure!(started.elapsed().as_secs() < 20, "its token outlives it");
    }
    let keys = api.get("/openid/v1/jwks").await?.expect(200)?.body;
    ensure!(
        keys["keys"].as_array().is_some_and(|all| !all.is_empty()),
        "{keys}"
    );
    let issuer = api
        .get("/.well-known/openid-configuration")
        .await?
        .expect(200)?
        .body;
    ensure!(
        !text(&issuer["issuer"]).is_empty() && !text(&issuer["jwks_uri"]).is_empty(),
        "{issuer}"
    );
    let root = format!("{}/kube-root-ca.crt", ground.collection("configmaps"));
    api.until(&root, |answer| answer.status == 200).await?;
    api.delete(&root, &Value::Null).await?.expect(200)?;
    api.until(&root, |answer| {
        text(&answer.body["data"]["ca.crt"]).contains("BEGIN CERTIFICATE")
    })
    .await?;
    Ok(())
}

pub(super) async fn strangers(ground: &Ground) -> anyhow::Result<()> {
    let nobody = ground.api.stranger(None).await?;
    let refused = nobody
        .get("/api/v1/namespaces")
        .await?
        .refused(403, "Forbidden")?;
    ensure!(
        text(&refused.body["message"]).contains("system:anonymous"),
        "{}",
        refused.text()
    );
    nobody.get("/livez").await?.expect(200)?;
    let liar = ground.api.stranger(Some("nonsense")).await?;
    liar.get("/api/v1/namespaces")
        .await?
        .refused(401, "Unauthorized")?;
    Ok(())
}

pub(super) async fn certificates(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let request = json!({
        "metadata": { "name": "compat-signed" },
        "spec": { "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"], "request": ground.request },
    });
    let _ = api.delete(&format!("{path}/compat-signed"), &Value::Null).await?;
    let made = api.post(path, &request).await?.expect(201)?.body;
    ensure!(made["spec"]["username"] == "kubernetes-admin", "{}", made["spec"]);
    let mut approved = made.clone();
    approved["status"]["conditions"] =
        json!([{ "type": "Approved", "status": "True", "reason": "Suite", "message": "by the suite" }]);
    api.put(&format!("{path}/compat-signed/approval"), &approved)
        .await?
        .expect(200)?;
    api.until(&format!("{path}/compat-signed"), |answer| {
        !text(&answer.body["status"]["certificate"]).is_empty()
    })
    .await?;
    Ok(())
}

pub(super) async fn quotas(ground: &Ground) -> anyhow::Result<()> {
    let (api, all) = (&ground.api, ground.collection("resourcequotas"));
    api.post(
        &all,
        &json!({ "metadata": { "name": "few" }, "spec": { "hard": { "count/secrets": "2" } } }),
    )
    .await?
    .expect(201)?;
    let path = format!("{all}/few");
    api.until(&path, |answer| {
        !answer.body["status"]["used"]["count/secrets"].is_null()
    })
    .await?;
    let used = api.get(&path).await?.body["status"]["used"]["count/secrets"].clone();
    let used: i64 = text(&used).parse().context("a count")?;
    api.patch(
        "merge",
        &path,
        &json!({ "spec": { "hard": { "count/secrets": (used + 1).to_string() } } }),
    )
    .await?
    .expect(200)?;
    let due = (used + 1).to_string();
    api.until(&path, |answer| {
        answer.body["status"]["hard"]["count/secrets"] == due.as_str()
    })
    .await?;
    let secrets = ground.collection("secrets");
    api.post(&secrets, &json!({ "metadata": { "name": "last-one" } }))
        .await?
        .expect(201)?;
    api.until(&path, |answer| {
        answer.body["status"]["used"]["count/secrets"] == due.as_str()
    })
    .await?;
    let refused = api
        .post(&secrets, &json!({ "metadata": { "name": "one-too-many" } }))
        .await?
        .refused(403, "Forbidden")?;
    ensure!(
        text(&refused.body["message"]).contains("exceeded quota: few, requested: count/secrets=1"),
        "{}",
        refused.text()
    );
    api.delete(&path, &Value::Null).await?.expect(200)?;
    api.until(&path, |answer| answer.status == 404).await?;
    Ok(())
}

pub(super) async fn limits(ground: &Ground) -> anyhow::Result<()> {
    let (api, all) = (&ground.api, ground.collection("limitranges"));
    let limits = json!({ "metadata": { "name": "bounds" }, "spec": { "limits": [
        { "type": "Container", "default": { "cpu": "300m" }, "defaultRequest": { "cpu": "100m" }, "max": { "cpu": "500m" } }] } });
    api.post(&all, &limits).await?.expect(201)?;
    let pods = ground.collection("pods");
    let pod = |name: &str, cpu: Option<&str>| {
        let mut container = json!({ "name": "main", "image": "example.com/none:1" });
        if let Some(cpu) = cpu {
            container["resources"] = json!({ "limits": { "cpu": cpu } });
        }
        json!({ "metadata": { "name": name }, "spec": { "schedulerName": "nobody", "containers": [container] } })
    };
    let started = std::time::Instant::now();
    loop {
        let made = api.post(&pods, &pod("bounded", None)).await?.expect(201)?.body;
        let resources = &made["spec"]["containers"][0]["resources"];
        if resources["requests"]["cpu"] == "100m" && resources["limits"]["cpu"] == "300m" {
            break;
        }
        ensure!(started.elapsed().as_secs() < 10, "{resources}");
        api.delete(&format!("{pods}/bounded"), &json!({ "gracePeriodSeconds": 0 }))
            .await?
            .expect(200)?;
        api.until(&format!("{pods}/bounded"), |answer| answer.status == 404)
            .await?;
    }
    api.post(&pods, &pod("unbounded", Some("2")))
        .await?
        .refused(403, "Forbidden")?;
    api.delete(&format!("{all}/bounds"), &Value::Null)
        .await?
        .expect(200)?;
    Ok(())
}

pub(super) async fn namespaces_end(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let path = "/api/v1/namespaces/compat-ends";
    api.post(
        "/api/v1/namespaces",
        &json!({ "metadata": { "name": "compat-ends" } }),
    )
    .await?
    .expect(201)?;
    let held = json!({ "metadata": { "name": "held", "finalizers": ["example.com/wait"] } });
    api.post(&format!("{path}/configmaps"), &held)
        .await?
        .expect(201)?;
    api.delete(path, &Value::Null).await?.expect(200)?;
    let ending = api
        .until(path, |answer| answer.body["status"]["phase"] == "Terminating")
        .await?;
    ensure!(
        ending.body["spec"]["finalizers"] == json!(["kubernetes"]),
        "{}",
        ending.body["spec"]
    );
    let refused = api
        .post(
            &format!("{path}/configmaps"),
            &json!({ "metadata": { "name": "late" } }),
        )
        .await?
        .refused(403, "Forbidden")?;
    ensure!(
        text(&refused.body["message"]).contains("because it is being terminated"),
        "{}",
        refused.text()
    );
    api.patch(
        "merge",
        &format!("{path}/configmaps/held"),
        &json!({ "metadata": { "finalizers": null } }),
    )
    .await?
    .expect(200)?;
    api.until(path, |answer| answer.status == 404).await?;
    Ok(())
}

pub(super) async fn leases(ground: &Ground) -> anyhow::Result<()> {
    let (api, all) = (&ground.api, ground.of("coordination.k8s.io/v1", "leases"));
    let lease = json!({ "metadata": { "name": "one-leader" }, "spec": { "holderIdentity": "a", "leaseDurationSeconds": 15 } });
    let first = api.post(&all, &lease).await?.expect(201)?.body;
    let path = format!("{all}/one-leader");
    let (mut by_b, mut by_c) = (first.clone(), first);
    by_b["spec"]["holderIdentity"] = json!("b");
    by_c["spec"]["holderIdentity"] = json!("c");
    let won = futures::future::try_join(api.put(&path, &by_b), api.put(&path, &by_c)).await?;
    let won = [won.0.status.as_u16(), won.1.status.as_u16()];
    ensure!(won.contains(&200) && won.contains(&409), "{won:?}");
    let nodes = api
        .get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
        .await?
        .expect(200)?
        .body;
    let node = nodes["items"]
        .as_array()
        .and_then(|all| all.first())
        .context("no node has a lease")?;
    ensure!(node["spec"]["leaseDurationSeconds"] == 40, "{}", node["spec"]);
    Ok(())
}

pub(super) async fn health(ground: &Ground) -> anyhow::Result<()> {
    for path in ["/livez", "/readyz", "/healthz"] {
        let short = ground.api.get(path).await?.expect(200)?;
        ensure!(short.text() == "ok", "{path}: {}", short.text());
        let long = ground
            .api
            .get(&format!("{path}?verbose"))
            .await?
            .expect(200)?
            .text();
        let word = path.trim_start_matches('/');
        ensure!(
            long.contains("[+]ping ok") && long.contains(&format!("{word} check passed")),
            "{long}"
        );
        let less = ground
            .api
            .get(&format!("{path}?verbose&exclude=ping"))
            .await?
            .expect(200)?
            .text();
        ensure!(less.contains("[+]ping excluded: ok"), "{less}");
        ground.api.get(&format!("{path}/ping")).await?.expect(200)?;
    }
    Ok(())
}

pub(super) async fn metrics(ground: &Ground) -> anyhow::Result<()> {
    let told = ground.api.get("/metrics").await?.expect(200)?.text();
    for name in [
        "apiserver_request_total",
        "apiserver_request_duration_seconds_bucket",
        "apiserver_current_inflight_requests",
    ] {
        ensure!(
            told.lines().any(|line| line.starts_with(&format!("{name}{{"))),
            "no {name}"
        );
    }
    Ok(())
}

pub(super) async fn audit_id(ground: &Ground) -> anyhow::Result<()> {
    let own = ground.api.get("/api/v1/namespaces").await?.expect(200)?;
    ensure!(!own.header("audit-id").is_empty(), "no Audit-ID");
    let given = ground
        .api
        .header("audit-id", "by-the-suite")
        .get("/api/v1/namespaces")
        .await?
        .expect(200)?;
    ensure!(
        given.header("audit-id") == "by-the-suite",
        "{}",
        given.header("audit-id")
    );
    Ok(())
}

pub(super) async fn fairness_headers(ground: &Ground) -> anyhow::Result<()> {
    let seen = ground.api.get("/api/v1/namespaces").await?.expect(200)?;
    let names = [
        "x-kubernetes-pf-flowschema-uid",
        "x-kubernetes-pf-prioritylevel-uid",
    ];
    let found: BTreeMap<&str, &str> = names.iter().map(|name| (*name, seen.header(name))).collect();
    ensure!(found.values().all(|uid| uid.len() == 36), "{found:?}");
    let api = &ground.api;
    let root = "/apis/flowcontrol.apiserver.k8s.io/v1";
    for (plural, name) in [
        ("flowschemas", "catch-all"),
        ("flowschemas", "exempt"),
        ("prioritylevelconfigurations", "workload-low"),
    ] {
        api.get(&format!("{root}/{plural}/{name}")).await?.expect(200)?;
    }
    Ok(())
}

pub(super) async fn service_of_the_api(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let service = api
        .get("/api/v1/namespaces/default/services/kubernetes")
        .await?
        .expect(200)?
        .body;
    ensure!(
        service["spec"]["ports"][0]["name"] == "https" && service["spec"]["ports"][0]["port"] == 443,
        "{}",
        service["spec"]
    );
    api.get("/api/v1/namespaces/default/endpoints/kubernetes")
        .await?
        .expect(200)?;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";
    let slices = api.get(slices).await?.expect(200)?.body;
    ensure!(
        slices["items"].as_array().is_some_and(|all| all.len() == 1),
        "{slices}"
    );
    Ok(())
}
