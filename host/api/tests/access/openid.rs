//! A provider of OpenID Connect outside of the cluster: its tokens are taken, others are not.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use capstan_api::{AuthenticationConfiguration, OpenIdProvider};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::*;

/// A provider that answers over TLS: its address, its authority, and the key that signs its tokens.
async fn provider() -> (String, String, EcdsaKeyPair) {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.cert.der().clone()],
            PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into(),
        )
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let point = key.public_key().as_ref();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "kid": "k1",
        "x": encode(&point[1..33]), "y": encode(&point[33..65])}]});
    let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    // Ends with the test's runtime.
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let (keys, discovery) = (keys.to_string(), discovery.to_string());
            let answer = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let text = if request.uri().path() == "/keys" {
                    keys.clone()
                } else {
                    discovery.clone()
                };
                async move { Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(text)))) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(connection);
        }
    });
    (issuer, own.cert.pem(), key)
}

fn token(key: &EcdsaKeyPair, claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"k1"}"#);
    let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_providers_tokens_are_taken() {
    let (issuer, ca, key) = provider().await;
    let mut config = OpenIdProvider::new(&issuer, "kubernetes");
    config.ca_pem = Some(ca);
    config.signing_algorithms = vec!["ES256".into()];
    config.username_prefix = Some("idp:".into());
    config.groups_claim = Some("groups".into());
    let rig = Rig::start_with(|set| set.openid_providers = vec![config]).await;
    let end = jiff::Timestamp::now().as_second() + 600;
    let claims = json!({"iss": issuer, "aud": "kubernetes", "sub": "ann", "exp": end, "groups": ["devs"]});
    // By the real client, over the wire.
    let as_ann = token(&key, &claims);
    let bearer = format!("--token={as_ann}");
    let mut command = rig.command(&["--user=reader", &bearer, "auth", "whoami", "-o", "json"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let own: Value = serde_json::from_str(&shown).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(
        own["status"]["userInfo"],
        json!({"username": "idp:ann", "groups": ["devs", "system:authenticated"]})
    );
    let review = async |token: String| {
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        ask(&rig, "POST", path, json!({"spec": {"token": token}})).await.1["status"]["error"].clone()
    };
    let mut other = claims.clone();
    other["aud"] = json!("other");
    assert_eq!(
        review(token(&key, &other)).await,
        "[invalid bearer token, oidc: verify token: oidc: expected audience in [\"kubernetes\"] got [\"other\"]]"
    );
    let mut forged = as_ann;
    forged.replace_range(forged.len() - 4.., "AAAA");
    assert_eq!(
        review(forged).await,
        "[invalid bearer token, oidc: verify token: failed to verify signature: failed to verify id token signature]"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_become_users_as_the_configuration_file_says() {
    let (issuer, ca, key) = provider().await;
    let file = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}]},
        "jwt": [{
            "issuer": {"url": issuer, "certificateAuthority": ca, "audiences": ["app", "cli"], "audienceMatchPolicy": "MatchAny"},
            "claimValidationRules": [
                {"expression": "claims.hd == 'acme'", "message": "only of acme"},
                {"expression": "claims.exp - claims.iat <= 3600", "message": "at most an hour"}],
            "claimMappings": {
                "username": {"expression": "claims.email.split('@')[0] + (claims.?email_verified.orValue(true) ? ':idp' : '')"},
                "groups": {"expression": "claims.roles.map(role, 'idp:' + role)"},
                "uid": {"expression": "claims.sub"},
                "extra": [{"key": "acme.io/team", "valueExpression": "claims.?team.orValue('')"}]},
            "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "no system users"}],
        }],
    });
    let file = AuthenticationConfiguration::parse(&file.to_string()).unwrap();
    let rig = Rig::start_with(|set| {
        set.openid_providers = file.providers;
        set.anonymous = file.anonymous.unwrap();
    })
    .await;
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({"iss": issuer, "aud": ["cli"], "sub": "u-1", "iat": now, "exp": now + 600, "jti": "t1", "hd": "acme",
        "email": "ann@acme.io", "roles": ["devs", ""], "team": "blue"});
    let bearer = format!("--token={}", token(&key, &claims));
    let shown = rig
        .ok(&["--user=reader", &bearer, "auth", "whoami", "-o", "json"], "")
        .await;
    let own: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        own["status"]["userInfo"],
        json!({"username": "ann:idp", "uid": "u-1", "groups": ["idp:devs", "idp:", "system:authenticated"],
            "extra": {"acme.io/team": ["blue"], "authentication.kubernetes.io/credential-id": ["JTI=t1"]}})
    );
    for (more, why) in [
        (
            json!({"hd": "other"}),
            "error evaluating claim validation expression: validation expression 'claims.hd == 'acme'' failed: only of acme",
        ),
        (
            json!({"exp": now + 7200}),
            "error evaluating claim validation expression: validation expression 'claims.exp - claims.iat <= 3600' failed: at most an hour",
        ),
        (
            json!({"email": "system:x@acme.io"}),
            "error evaluating user info validation rule: validation expression '!user.username.startsWith('system:')' failed: no system users",
        ),
        (
            json!({"roles": null}),
            "error evaluating group claim expression: expression 'claims.roles.map(role, 'idp:' + role)' resulted in error: no such overload",
        ),
    ] {
        let mut claims = claims.clone();
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let review = ask(
            &rig,
            "POST",
            path,
            json!({"spec": {"token": token(&key, &claims)}}),
        )
        .await
        .1;
        assert_eq!(
            review["status"]["error"],
            format!("[invalid bearer token, oidc: {why}]")
        );
    }
    // Who has no credentials that the server knows is let in at one path alone.
    let (_, live, _) = rig.kubectl(&["--user=nobody", "get", "--raw=/livez"], "").await;
    assert_eq!(live, "ok");
    let refused = rig.fails(&["--user=nobody", "get", "--raw=/readyz"], "").await;
    assert!(
        refused.contains("Unauthorized") || refused.contains("must be logged in"),
        "{refused}"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_asks_who_and_whether() {
    let rig = Rig::start().await;
    rig.ok(&["create", "serviceaccount", "robot"], "").await;
    rig.ok(
        &["create", "role", "look", "--verb=get,list", "--resource=pods"],
        "",
    )
    .await;
    rig.ok(
        &[
            "create",
            "rolebinding",
            "look",
            "--role=look",
            "--serviceaccount=default:robot",
        ],
        "",
    )
    .await;
    let as_robot = "--as=system:serviceaccount:default:robot";
    assert_eq!(
        rig.ok(&["auth", "can-i", "list", "pods", as_robot], "").await,
        "yes\n"
    );
    let (allowed, out, _) = rig
        .kubectl(&["auth", "can-i", "delete", "pods", as_robot], "")
        .await;
    assert_eq!((allowed, out.as_str()), (false, "no\n"));
    let listed = rig.ok(&["auth", "can-i", "--list", as_robot], "").await;
    assert!(
        listed.contains("pods") && listed.contains("[get list]"),
        "{listed}"
    );
    let token = rig.ok(&["create", "token", "robot", "--duration=20m"], "").await;
    assert_eq!(token.trim().split('.').count(), 3);
    let told = rig
        .fails(&["--context=reader", "get", "pods", "--as=bob"], "")
        .await;
    assert!(
        told.contains("User \"reader\" cannot impersonate-on:user-info:list resource \"pods\""),
        "{told}"
    );
    rig.ok(&["create", "quota", "q", "--hard=pods=3,count/secrets=2"], "")
        .await;
    let hard = rig
        .ok(&["get", "quota", "q", "-o", "jsonpath={.spec.hard.pods}"], "")
        .await;
    assert_eq!(hard, "3");
    rig.stop().await;
}
