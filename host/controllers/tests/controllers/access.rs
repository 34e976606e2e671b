//! Quotas, aggregated roles, certificate requests and protected storage, on a real API server.

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, ResourceQuota, Secret};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, from_value, json};

use crate::cluster::Cluster;

/// Waits until the quota says that so much is used.
async fn used(cluster: &Cluster, name: &str, expected: Value) {
    cluster
        .eventually(name, |client| {
            let expected = expected.clone();
            async move {
                let quotas: Api<ResourceQuota> = Api::namespaced(client, "default");
                let quota = serde_json::to_value(quotas.get(name).await.unwrap()).unwrap();
                let used = quota["status"]["used"].clone();
                if used == expected {
                    Ok(())
                } else {
                    Err(used.to_string())
                }
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_follows_what_there_is() {
    let cluster = Cluster::start().await;
    let quota = |name: &str, hard: Value| json!({"metadata": {"name": name}, "spec": {"hard": hard}});
    // The root certificate's map is there already.
    let _: ResourceQuota = cluster
        .create(quota(
            "maps",
            json!({"count/configmaps": "5", "count/deployments.apps": "1"}),
        ))
        .await;
    used(
        &cluster,
        "maps",
        json!({"count/configmaps": "1", "count/deployments.apps": "0"}),
    )
    .await;
    let _: ConfigMap = cluster.create(json!({"metadata": {"name": "a"}})).await;
    used(
        &cluster,
        "maps",
        json!({"count/configmaps": "2", "count/deployments.apps": "0"}),
    )
    .await;
    cluster
        .api::<ConfigMap>()
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    used(
        &cluster,
        "maps",
        json!({"count/configmaps": "1", "count/deployments.apps": "0"}),
    )
    .await;
    // A pod counts until it has ended.
    let _: ResourceQuota = cluster
        .create(quota("pods", json!({"pods": "3", "requests.cpu": "1"})))
        .await;
    used(&cluster, "pods", json!({"pods": "0", "requests.cpu": "0"})).await;
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "250m"}}});
    let _: Pod = cluster
        .create(json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}}))
        .await;
    used(&cluster, "pods", json!({"pods": "1", "requests.cpu": "250m"})).await;
    let ended = json!({"status": {"phase": "Succeeded"}});
    let pods = cluster.api::<Pod>();
    pods.patch_status("p", &PatchParams::default(), &Patch::Merge(&ended))
        .await
        .unwrap();
    used(&cluster, "pods", json!({"pods": "0", "requests.cpu": "0"})).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregated_role_gains_and_loses_rules() {
    let cluster = Cluster::start().await;
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    let rule = json!({"apiGroups": ["acme.com"], "resources": ["anvils"], "verbs": ["get"]});
    let labels = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let role = json!({"metadata": {"name": "anvils", "labels": labels}, "rules": [rule]});
    roles
        .create(&PostParams::default(), &from_value(role).unwrap())
        .await
        .unwrap();
    let has = |wanted: bool| {
        cluster.eventually("admin has the rule", move |client| async move {
            let roles: Api<ClusterRole> = Api::all(client);
            // By way of view and edit.
            let admin = roles.get("admin").await.unwrap();
            let found = serde_json::to_string(&admin.rules).unwrap().contains("anvils");
            if found == wanted {
                Ok(())
            } else {
                Err(format!("found: {found}"))
            }
        })
    };
    has(true).await;
    roles.delete("anvils", &DeleteParams::default()).await.unwrap();
    has(false).await;
    cluster.stop().await;
}

fn request(
    name: &str,
    signer: &str,
    common_name: &str,
    organizations: &[&str],
    usages: &[&str],
) -> CertificateSigningRequest {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    for one in organizations {
        params.distinguished_name.push(DnType::OrganizationName, *one);
    }
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let mut request: CertificateSigningRequest = from_value(json!({
        "metadata": {"name": name},
        "spec": {"request": "", "signerName": signer, "usages": usages, "expirationSeconds": 3600},
    }))
    .unwrap();
    request.spec.request = ByteString(pem.into_bytes());
    request
}

async fn signed(cluster: &Cluster, name: &'static str) -> Vec<u8> {
    cluster
        .eventually("signed", move |client| async move {
            let requests: Api<CertificateSigningRequest> = Api::all(client);
            let status = requests.get(name).await.unwrap().status.unwrap_or_default();
            let conditions = format!("{:?}", status.conditions);
            status.certificate.map(|bytes| bytes.0).ok_or(conditions)
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_approved_and_signed() {
    let cluster = Cluster::start().await;
    let requests: Api<CertificateSigningRequest> = Api::all(cluster.client.clone());
    let params = PostParams::default();
    // A kubelet's request, by somebody who may: nobody has to look.
    let usages = ["digital signature", "client auth"];
    let signer = "kubernetes.io/kube-apiserver-client-kubelet";
    let of_node = request("node", signer, "system:node:n1", &["system:nodes"], &usages);
    requests.create(&params, &of_node).await.unwrap();
    let pem = signed(&cluster, "node").await;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let (_, ca) = x509_parser::pem::parse_x509_pem(cluster.ca_pem.as_bytes()).unwrap();
    let ca = ca.parse_x509().unwrap();
    certificate.verify_signature(Some(ca.public_key())).unwrap();
    let text = |name: &x509_parser::x509::X509Name<'_>| name.to_string();
    assert!(
        text(certificate.subject()).contains("system:node:n1"),
        "{}",
        certificate.subject()
    );
    assert!(text(certificate.issuer()).contains("test-ca"));
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_encipherment());
    assert!(
        certificate
            .extended_key_usage()
            .unwrap()
            .unwrap()
            .value
            .client_auth
    );
    assert!(!certificate.is_ca());
    let life = certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp();
    assert_eq!(life, 3600 + 300);
    // A client's waits for somebody.
    let signer = "kubernetes.io/kube-apiserver-client";
    requests
        .create(
            &params,
            &request("ann", signer, "ann", &["devs"], &["client auth"]),
        )
        .await
        .unwrap();
    requests
        .create(
            &params,
            &request("bad", signer, "bad", &["devs"], &["server auth"]),
        )
        .await
        .unwrap();
    for name in ["ann", "bad"] {
        let mut pending = requests.get(name).await.unwrap();
        assert!(pending.status.clone().unwrap_or_default().certificate.is_none());
        let condition = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Mine"}]});
        pending.status = from_value(condition).unwrap();
        requests
            .replace_subresource("approval", name, &params, &pending)
            .await
            .unwrap();
    }
    signed(&cluster, "ann").await;
    cluster
        .eventually("failed", |client| async move {
            let requests: Api<CertificateSigningRequest> = Api::all(client);
            let status = requests.get("bad").await.unwrap().status.unwrap_or_default();
            let failed = status
                .conditions
                .iter()
                .flatten()
                .find(|one| one.type_ == "Failed")
                .cloned();
            let message = failed.and_then(|one| one.message).ok_or("no Failed condition")?;
            assert_eq!(message, "invalid usage for client certificate: server auth");
            Ok(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_stays_while_a_pod_uses_it() {
    let cluster = Cluster::start().await;
    let claims = cluster.api::<PersistentVolumeClaim>();
    let _: PersistentVolumeClaim = cluster
        .create(
            json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        )
        .await;
    let pod: Pod = cluster
        .create(json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}))
        .await;
    let deleted = claims.delete("c", &DeleteParams::default()).await.unwrap();
    assert!(deleted.left().unwrap().metadata.deletion_timestamp.is_some());
    assert_eq!(
        claims.get("c").await.unwrap().finalizers(),
        ["kubernetes.io/pvc-protection"]
    );
    let now = DeleteParams::default().grace_period(0);
    cluster.api::<Pod>().delete(&pod.name_any(), &now).await.unwrap();
    cluster
        .eventually("the claim is gone", |client| async move {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client, "default");
            match claims.get_opt("c").await.unwrap() {
                None => Ok(()),
                Some(claim) => Err(format!("{:?}", claim.metadata)),
            }
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_becomes_its_accounts_token() {
    let cluster = Cluster::start().await;
    let annotations = json!({"kubernetes.io/service-account.name": "default"});
    let secret = json!({"metadata": {"name": "t", "annotations": annotations}, "type": "kubernetes.io/service-account-token"});
    let _: Secret = cluster.create(secret).await;
    let token = cluster
        .eventually("a token", |client| async move {
            let secrets: Api<Secret> = Api::namespaced(client, "default");
            let data = secrets.get("t").await.unwrap().data.unwrap_or_default();
            let text = |key: &str| {
                data.get(key)
                    .map(|bytes| String::from_utf8(bytes.0.clone()).unwrap())
            };
            match (
                text("token"),
                text("namespace").as_deref(),
                text("ca.crt").as_deref(),
            ) {
                (Some(token), Some("default"), Some("the ca")) => Ok(token),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    let reviewed = async || {
        let reviews: Api<TokenReview> = Api::all(cluster.client.clone());
        let review = from_value(json!({"spec": {"token": token}})).unwrap();
        let status = reviews
            .create(&PostParams::default(), &review)
            .await
            .unwrap()
            .status;
        status.unwrap().user.and_then(|user| user.username)
    };
    assert_eq!(
        reviewed().await.as_deref(),
        Some("system:serviceaccount:default:default")
    );
    cluster
        .api::<Secret>()
        .delete("t", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .eventually("the token ends with its secret", |_| async {
            match reviewed().await {
                None => Ok(()),
                Some(user) => Err(user),
            }
        })
        .await;
    cluster.stop().await;
}
