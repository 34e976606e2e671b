//! CertificateSigningRequests: who may ask, approve and sign.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

fn request(name: &str, common_name: &str, organization: &str) -> Value {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    json!({"metadata": {"name": name}, "spec": {
        "request": STANDARD.encode(pem), "signerName": CLIENT, "usages": ["client auth"], "username": "liar"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_approved_and_signed_by_who_may() {
    let rig = Rig::start().await;
    assert_eq!(
        refused(
            &rig,
            admin(),
            "POST",
            REQUESTS,
            request("root", "x", "system:masters")
        )
        .await,
        "403 certificatesigningrequests.certificates.k8s.io \"root\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    );
    let made = create(&rig, REQUESTS, request("a", "ann", "devs")).await;
    assert_eq!(made["spec"]["username"], "admin");
    assert_eq!(
        made["spec"]["groups"],
        json!(["system:masters", "system:authenticated"])
    );
    let all = json!(["get", "update", "patch"]);
    let subresources = json!([
        "certificatesigningrequests/approval",
        "certificatesigningrequests/status"
    ]);
    let rules = json!([{"apiGroups": ["certificates.k8s.io"], "resources": subresources, "verbs": all}]);
    grant(&rig, "pat", rules).await;
    let mut approved = made.clone();
    let condition = json!({"type": "Approved", "status": "True", "reason": "Fine", "message": "m"});
    approved["status"] = json!({"conditions": [condition], "certificate": "eA=="});
    let approval = format!("{REQUESTS}/a/approval");
    assert_eq!(
        refused(&rig, user("pat"), "PUT", &approval, approved.clone()).await,
        "403 certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
    );
    let signers = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["kubernetes.io/*"], "verbs": ["approve"]}]);
    grant(&rig, "pat-signers", signers).await;
    let mut bound = binding("pat-too", "pat-signers");
    bound["subjects"][0]["name"] = json!("pat");
    create(&rig, &format!("{RBAC}/clusterrolebindings"), bound).await;
    let (code, now) = ask_as(&rig, user("pat"), "PUT", &approval, approved).await;
    assert_eq!(code, 200, "{now}");
    assert!(
        now["status"]["certificate"].is_null(),
        "an approval signs nothing: {now}"
    );
    assert!(now["status"]["conditions"][0]["lastTransitionTime"].is_string());
    let mut signed = now.clone();
    signed["status"]["certificate"] = json!(
        STANDARD.encode(
            rcgen::generate_simple_self_signed(["a".to_owned()])
                .unwrap()
                .cert
                .pem()
        )
    );
    assert_eq!(
        refused(&rig, user("pat"), "PUT", &format!("{REQUESTS}/a/status"), signed).await,
        "403 certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to sign requests with signerName \"kubernetes.io/kube-apiserver-client\""
    );
    let update = json!({"spec": {"username": "other"}});
    let (_, same) = ask(&rig, "PATCH", &format!("{REQUESTS}/a"), update).await;
    assert_eq!(same["spec"]["username"], "admin");
    // The real client's way.
    create(&rig, REQUESTS, request("b", "bob", "devs")).await;
    assert_eq!(
        rig.ok(&["certificate", "approve", "b"], "").await,
        "certificatesigningrequest.certificates.k8s.io/b approved\n"
    );
    rig.stop().await;
}
