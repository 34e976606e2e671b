//! The real kubectl against the real server on a real store: what a user types must do what they expect,
//! and without a warning that the original would not give.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::Rig;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  containers: [{ name: main, image: "nginx:1" }]
"#;

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, labels: { app: web } }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: main, image: "nginx:1", ports: [{ containerPort: 80 }] }] }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_live_and_die() {
    let rig = Rig::start().await;
    assert_eq!(rig.ok(&["create", "-f", "-"], POD).await, "pod/web created\n");
    let table = rig.ok(&["get", "pods"], "").await;
    assert!(
        table.starts_with("NAME   READY   STATUS    RESTARTS   AGE\nweb    0/1     Pending   0"),
        "{table}"
    );
    assert!(
        rig.ok(&["get", "pods", "-o", "wide"], "")
            .await
            .contains("NOMINATED NODE")
    );
    assert_eq!(rig.ok(&["get", "pods", "-o", "name"], "").await, "pod/web\n");
    assert!(
        rig.ok(&["get", "pod", "web", "-o", "yaml"], "")
            .await
            .contains("restartPolicy: Always")
    );
    let name = rig
        .ok(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"], "")
        .await;
    assert_eq!(name, "web");
    assert!(
        rig.ok(&["get", "all", "-A"], "")
            .await
            .contains("service/kubernetes")
    );
    assert!(rig.ok(&["describe", "pod", "web"], "").await.contains("nginx:1"));
    assert!(
        rig.fails(&["create", "-f", "-"], POD)
            .await
            .contains("pods \"web\" already exists")
    );
    assert!(
        rig.fails(&["get", "pod", "nope"], "")
            .await
            .contains("pods \"nope\" not found")
    );
    assert_eq!(
        rig.ok(&["label", "pod", "web", "tier=front"], "").await,
        "pod/web labeled\n"
    );
    assert_eq!(
        rig.ok(&["annotate", "pod", "web", "note=x"], "").await,
        "pod/web annotated\n"
    );
    assert_eq!(
        rig.ok(&["get", "pods", "-l", "tier=front,app!=db", "-o", "name"], "")
            .await,
        "pod/web\n"
    );
    assert_eq!(
        rig.ok(
            &[
                "get",
                "pods",
                "--field-selector",
                "status.phase=Pending",
                "-o",
                "name"
            ],
            ""
        )
        .await,
        "pod/web\n"
    );
    assert_eq!(
        rig.ok(&["delete", "pod", "web"], "").await,
        "pod \"web\" deleted from default namespace\n"
            .replace(" from default namespace", &suffix(&rig).await)
    );
    assert!(
        rig.kubectl(&["get", "pods"], "")
            .await
            .2
            .contains("No resources found")
    );
    rig.stop().await;
}

/// Newer kubectls name the namespace when they delete.
async fn suffix(rig: &Rig) -> String {
    let (_, version, _) = rig.kubectl(&["version", "-o", "json"], "").await;
    let version: serde_json::Value = serde_json::from_str(&version).unwrap();
    let minor: u32 = version["clientVersion"]["minor"]
        .as_str()
        .unwrap()
        .trim_end_matches('+')
        .parse()
        .unwrap();
    if minor >= 34 {
        " from default namespace".into()
    } else {
        String::new()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_patch_scale_and_wait() {
    let rig = Rig::start().await;
    assert_eq!(
        rig.ok(&["apply", "-f", "-"], DEPLOYMENT).await,
        "deployment.apps/web created\n"
    );
    assert_eq!(
        rig.ok(&["apply", "-f", "-"], DEPLOYMENT).await,
        "deployment.apps/web unchanged\n"
    );
    let changed = DEPLOYMENT.replace("nginx:1", "nginx:2");
    assert_eq!(
        rig.ok(&["apply", "-f", "-"], &changed).await,
        "deployment.apps/web configured\n"
    );
    let generation = ["get", "deploy", "web", "-o", "jsonpath={.metadata.generation}"];
    assert_eq!(rig.ok(&generation, "").await, "2");
    rig.ok(&["scale", "deploy", "web", "--replicas=5"], "").await;
    assert_eq!(
        rig.ok(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"], "")
            .await,
        "5"
    );
    for (kind, patch) in [
        (
            "strategic",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"main","env":[{"name":"A","value":"1"}]}]}}}}"#,
        ),
        ("merge", r#"{"metadata":{"annotations":{"m":"1"}}}"#),
        ("json", r#"[{"op":"replace","path":"/spec/replicas","value":1}]"#),
    ] {
        let out = rig
            .ok(&["patch", "deploy", "web", "--type", kind, "-p", patch], "")
            .await;
        assert_eq!(out, "deployment.apps/web patched\n", "{kind}");
    }
    let shown = rig.ok(&["get", "deploy", "web", "-o", "json"], "").await;
    let object: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"][0]["image"],
        "nginx:2"
    );
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"],
        "1"
    );
    assert_eq!(object["metadata"]["annotations"]["m"], "1");
    assert_eq!(object["spec"]["replicas"], 1);
    let status = r#"{"status":{"observedGeneration":99,"replicas":1,"updatedReplicas":1,"availableReplicas":1,"readyReplicas":1,
        "conditions":[{"type":"Available","status":"True"}]}}"#;
    rig.ok(
        &[
            "patch",
            "deploy",
            "web",
            "--subresource=status",
            "--type=merge",
            "-p",
            status,
        ],
        "",
    )
    .await;
    assert!(
        rig.ok(&["rollout", "status", "deploy", "web", "--timeout=20s"], "")
            .await
            .contains("successfully rolled out")
    );
    assert!(
        rig.ok(
            &["wait", "--for=condition=Available", "deploy/web", "--timeout=20s"],
            ""
        )
        .await
        .contains("condition met")
    );
    let mut edit = rig.command(&["edit", "deploy", "web"]);
    edit.env("KUBE_EDITOR", "sed -i s/nginx:2/nginx:3/");
    let edited = tokio::task::spawn_blocking(move || edit.output().unwrap())
        .await
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&edited.stdout),
        "deployment.apps/web edited\n"
    );
    let image = [
        "get",
        "deploy",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ];
    assert_eq!(rig.ok(&image, "").await, "nginx:3");
    assert!(
        rig.ok(&["set", "image", "deploy/web", "main=nginx:4"], "")
            .await
            .contains("image updated")
    );
    let strict = DEPLOYMENT.replace("replicas: 2", "replicaz: 2");
    let refused = rig
        .fails(&["create", "--dry-run=server", "-f", "-"], &strict)
        .await;
    assert!(refused.contains("unknown field \"spec.replicaz\""), "{refused}");
    rig.ok(
        &["delete", "deploy", "web", "--cascade=foreground", "--wait=false"],
        "",
    )
    .await;
    let held = rig
        .ok(
            &["get", "deploy", "web", "-o", "jsonpath={.metadata.finalizers}"],
            "",
        )
        .await;
    assert_eq!(held, r#"["foregroundDeletion"]"#);
    rig.ok(
        &[
            "patch",
            "deploy",
            "web",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ],
        "",
    )
    .await;
    assert!(
        rig.fails(&["get", "deploy", "web"], "")
            .await
            .contains("not found")
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_describes_itself() {
    let rig = Rig::start().await;
    let resources = rig.ok(&["api-resources"], "").await;
    assert!(
        resources.contains("deployments") && resources.contains("plugins.capstan.dev"),
        "{resources}"
    );
    assert!(rig.ok(&["api-versions"], "").await.contains("apps/v1\n"));
    let explained = rig
        .ok(&["explain", "deployment.spec.template.spec.containers"], "")
        .await;
    assert!(
        explained.contains("KIND:       Deployment") && explained.contains("imagePullPolicy"),
        "{explained}"
    );
    assert_eq!(rig.ok(&["auth", "can-i", "create", "pods"], "").await, "yes\n");
    assert!(rig.ok(&["auth", "whoami"], "").await.contains("admin"));
    assert!(
        rig.kubectl(&["version"], "")
            .await
            .1
            .contains("Server Version: v1.36.0+capstan")
    );
    assert_eq!(rig.ok(&["get", "--raw", "/readyz"], "").await, "ok");
    assert!(
        rig.ok(&["get", "--raw", "/livez?verbose"], "")
            .await
            .contains("[+]ping ok")
    );
    assert!(
        rig.ok(&["get", "--raw", "/metrics"], "")
            .await
            .contains("apiserver_request_total{")
    );
    assert!(rig.ok(&["cluster-info"], "").await.contains("is running at"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_may_do_what_their_roles_say() {
    let rig = Rig::start().await;
    let refused = rig.fails(&["--context=reader", "get", "pods"], "").await;
    let expected = "Error from server (Forbidden): pods is forbidden: User \"reader\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"\n";
    assert_eq!(refused, expected);
    rig.ok(
        &[
            "create",
            "rolebinding",
            "r",
            "--clusterrole=view",
            "--group=readers",
        ],
        "",
    )
    .await;
    let mut answer = (false, String::new(), String::new());
    for _ in 0..20 {
        answer = rig.kubectl(&["--context=reader", "get", "pods"], "").await;
        if answer.0 {
            break;
        }
    }
    assert!(answer.0, "{answer:?}");
    assert_eq!(
        rig.kubectl(&["--context=reader", "auth", "can-i", "delete", "pods"], "")
            .await
            .1,
        "no\n"
    );
    assert!(
        rig.ok(
            &["auth", "can-i", "--list", "--as=reader", "--as-group=readers"],
            ""
        )
        .await
        .contains("pods")
    );
    // Nobody grants more than they have.
    rig.ok(
        &[
            "create",
            "rolebinding",
            "r2",
            "--clusterrole=admin",
            "--group=readers",
        ],
        "",
    )
    .await;
    let grant = |role: &'static str| {
        [
            "--context=reader",
            "create",
            "rolebinding",
            role,
            role,
            "--user=x",
        ]
    };
    let mut lesser = grant("view");
    lesser[4] = "--clusterrole=view";
    for _ in 0..20 {
        answer = rig.kubectl(&lesser, "").await;
        if answer.0 {
            break;
        }
    }
    assert!(answer.0, "{answer:?}");
    let mut greater = grant("boss");
    greater[4] = "--clusterrole=cluster-admin";
    let refused = rig.fails(&greater, "").await;
    assert!(
        refused.contains("is attempting to grant RBAC permissions not currently held"),
        "{refused}"
    );
    rig.ok(&["create", "serviceaccount", "robot"], "").await;
    let token = rig.ok(&["create", "token", "robot"], "").await;
    let (_, who, err) = rig
        .kubectl(
            &["--context=reader", "--token", token.trim(), "auth", "whoami"],
            "",
        )
        .await;
    assert!(who.contains("system:serviceaccount:default:robot"), "{who} {err}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_services_and_pods_keep_their_rules() {
    let rig = Rig::start().await;
    let missing = rig.fails(&["create", "-n", "nowhere", "-f", "-"], POD).await;
    assert!(missing.contains("namespaces \"nowhere\" not found"), "{missing}");
    rig.ok(&["create", "namespace", "team"], "").await;
    rig.ok(&["create", "-n", "team", "-f", "-"], POD).await;
    rig.ok(&["delete", "namespace", "team", "--wait=false"], "").await;
    let going = rig.fails(&["create", "configmap", "c", "-n", "team"], "").await;
    assert!(going.contains("because it is being terminated"), "{going}");
    assert!(
        rig.fails(&["delete", "namespace", "default"], "")
            .await
            .contains("this namespace may not be deleted")
    );
    let large = format!(
        "{{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"data\":{{\"a\":\"{}\"}}}}",
        "x".repeat(4 << 20)
    );
    let refused = rig
        .fails(
            &[
                "create",
                "--raw",
                "/api/v1/namespaces/default/configmaps",
                "-f",
                "-",
            ],
            &large,
        )
        .await;
    assert!(
        refused.contains("Request entity too large: limit is 3145728"),
        "{refused}"
    );
    rig.ok(&["create", "service", "nodeport", "a", "--tcp=80"], "")
        .await;
    rig.ok(
        &[
            "expose",
            "pod",
            "web",
            "-n",
            "team",
            "--port=80",
            "--dry-run=client",
        ],
        "",
    )
    .await;
    let ip = rig
        .ok(
            &[
                "get",
                "service",
                "a",
                "-o",
                "jsonpath={.spec.clusterIP} {.spec.ports[0].nodePort}",
            ],
            "",
        )
        .await;
    let (address, port) = ip.split_once(' ').unwrap();
    assert!(
        address.starts_with("10.96.") && port.parse::<u16>().unwrap() >= 30000,
        "{ip}"
    );
    let taken = rig
        .fails(
            &[
                "create",
                "service",
                "clusterip",
                "b",
                "--tcp=80",
                &format!("--clusterip={address}"),
            ],
            "",
        )
        .await;
    assert!(taken.contains("provided IP is already allocated"), "{taken}");
    rig.ok(&["create", "-f", "-"], POD).await;
    let binding = r#"{"apiVersion":"v1","kind":"Binding","metadata":{"name":"web"},"target":{"kind":"Node","name":"n1"}}"#;
    rig.ok(
        &[
            "create",
            "--raw",
            "/api/v1/namespaces/default/pods/web/binding",
            "-f",
            "-",
        ],
        binding,
    )
    .await;
    let again = rig
        .fails(
            &[
                "create",
                "--raw",
                "/api/v1/namespaces/default/pods/web/binding",
                "-f",
                "-",
            ],
            binding,
        )
        .await;
    assert!(again.contains("already assigned"), "{again}");
    assert_eq!(
        rig.ok(&["get", "pod", "web", "-o", "jsonpath={.spec.nodeName}"], "")
            .await,
        "n1"
    );
    let log = rig.ok(&["logs", "web", "--tail=5", "-f"], "").await;
    assert_eq!(
        log,
        "n1 /containerLogs/default/web/main?follow=true&tailLines=5\n"
    );
    rig.ok(&["delete", "pod", "web", "--wait=false"], "").await;
    let grace = rig
        .ok(
            &[
                "get",
                "pod",
                "web",
                "-o",
                "jsonpath={.metadata.deletionGracePeriodSeconds}",
            ],
            "",
        )
        .await;
    assert_eq!(grace, "30");
    rig.kubectl(&["delete", "pod", "web", "--force", "--grace-period=0"], "")
        .await;
    assert!(rig.fails(&["get", "pod", "web"], "").await.contains("not found"));
    rig.stop().await;
}
