//! Policies of the library in a live cluster, by the real kubectl: those that ask the cluster or the node.

use capstan_tests::{Cluster, condition, until};

fn manifest(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../plugins")
        .join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn load(cluster: &Cluster, name: &str, manifest: &str) {
    cluster.apply(manifest).clean();
    until("the plugin to be ready", || {
        let plugin = cluster.get(&["plugin", name])?;
        let level = plugin["metadata"]["generation"] == plugin["status"]["observedGeneration"];
        if level && condition(&plugin, "Ready")["status"] == "True" {
            Ok(())
        } else {
            Err(plugin["status"].to_string())
        }
    });
}

fn ingress(namespace: &str, name: &str, host: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ namespace: {namespace}, name: {name} }}
spec:
  ingressClassName: nginx
  rules:
  - host: {host}
    http: {{ paths: [{{ path: /, pathType: Prefix, backend: {{ service: {{ name: web, port: {{ number: 80 }} }} }} }}] }}
"
    )
}

#[test]
fn the_library_works_in_a_live_cluster() {
    let cluster = Cluster::start();
    for (name, path) in [
        ("admission-replicas", "admission-replicas/example.yaml"),
        ("admission-ingress", "admission-ingress/example.yaml"),
        ("admission-env-secrets", "admission-env-secrets/example.yaml"),
        ("problem-clock", "problem-clock/example.yaml"),
        ("problem-node-state", "problem-node-state/example.yaml"),
    ] {
        load(
            &cluster,
            name,
            &manifest(path).replace("interval: 10s", "interval: 500ms"),
        );
    }

    // As the catalogue shows it.
    let create = ["create", "deployment", "web", "--image=capstan.dev/hello-http:1"];
    let refused = cluster.kubectl(&create).refused();
    assert!(
        refused.contains("spec.replicas: 1 is too few; ask for at least 2, or 0 to switch it off"),
        "{refused}"
    );
    cluster
        .kubectl(&[&create[..], &["--replicas=2"]].concat())
        .clean();
    let refused = cluster
        .kubectl(&["scale", "deployment", "web", "--replicas=1"])
        .refused();
    assert!(refused.contains("spec.replicas: 1 is too few"), "{refused}");
    cluster
        .kubectl(&["scale", "deployment", "web", "--replicas=0"])
        .clean();

    let secret = [
        "run",
        "leaky",
        "--image=capstan.dev/hello-http:1",
        "--env=DB_PASSWORD=hunter2",
    ];
    let refused = cluster.kubectl(&secret).refused();
    assert!(
        refused.contains("DB_PASSWORD holds") && !refused.contains("hunter2"),
        "{refused}"
    );

    cluster.kubectl(&["create", "namespace", "team"]).clean();
    cluster.apply(&ingress("team", "web", "a.example")).clean();
    cluster.apply(&ingress("team", "api", "a.example")).clean();
    let taken = cluster
        .apply(&ingress("default", "web", "A.example".to_lowercase().as_str()))
        .refused();
    assert!(
        taken.contains("host \"a.example\" belongs to ingress team/"),
        "{taken}"
    );
    cluster.apply(&ingress("default", "web", "b.example")).clean();

    // Two readings at least, by the node's real files and the cluster's real leases.
    for (kind, reason) in [
        ("ClockSkewed", "ClockRight"),
        ("FileHandlesLow", "EnoughFileHandles"),
    ] {
        until(kind, || {
            let node = cluster.get(&["node", "capstan"])?;
            let told = condition(&node, kind);
            if told["status"] == "False" && told["reason"] == reason {
                Ok(())
            } else {
                Err(node["status"]["conditions"].to_string())
            }
        });
    }
    let plugins = cluster.get(&["plugins"]).expect("the API serves");
    for plugin in plugins["items"].as_array().expect("a list") {
        assert_eq!(condition(plugin, "Ready")["status"], "True", "{plugin}");
        assert_eq!(plugin["status"]["traps"].as_i64().unwrap_or(0), 0, "{plugin}");
    }
}
