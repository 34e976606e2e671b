//! The real kubectl's verbs, without a warning that the original would not give.

use capstan_tests::{Cluster, until};

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, labels: { app: web } }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
        - { name: web, image: 'capstan.dev/hello-http:1', ports: [{ containerPort: 8080 }] }
";

#[test]
fn a_deployment_through_its_life() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply(WEB).clean(), "deployment.apps/web created\n");
    let said = cluster
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])
        .clean();
    assert!(said.contains("successfully rolled out"), "{said}");
    assert_eq!(cluster.apply(WEB).clean(), "deployment.apps/web unchanged\n");
    assert_eq!(
        cluster.apply(&WEB.replace("replicas: 2", "replicas: 3")).clean(),
        "deployment.apps/web configured\n"
    );
    cluster
        .kubectl(&[
            "wait",
            "--for=jsonpath={.status.readyReplicas}=3",
            "deployment/web",
            "--timeout=60s",
        ])
        .clean();
    cluster
        .kubectl(&["scale", "deployment/web", "--replicas=1"])
        .clean();
    cluster
        .kubectl(&[
            "wait",
            "--for=jsonpath={.status.replicas}=1",
            "deployment/web",
            "--timeout=60s",
        ])
        .clean();
    cluster
        .kubectl(&["label", "deployment/web", "tier=front"])
        .clean();
    cluster
        .kubectl(&["annotate", "deployment/web", "note=hello"])
        .clean();
    cluster
        .kubectl(&["set", "env", "deployment/web", "COLOR=blue"])
        .clean();
    cluster
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])
        .clean();
    let history = cluster.kubectl(&["rollout", "history", "deployment/web"]).clean();
    assert!(history.contains("2 "), "{history}");
    cluster.kubectl(&["rollout", "undo", "deployment/web"]).clean();
    cluster
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])
        .clean();
    let table = cluster.kubectl(&["get", "deployments", "-o", "wide"]).clean();
    assert!(
        table.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE   CONTAINERS   IMAGES"),
        "{table}"
    );
    let table = cluster.kubectl(&["get", "pods", "-o", "wide"]).clean();
    assert!(
        table.starts_with("NAME") && table.contains("RESTARTS") && table.contains("NOMINATED NODE"),
        "{table}"
    );
    let described = cluster.kubectl(&["describe", "deployment/web"]).clean();
    assert!(described.contains("ScalingReplicaSet"), "{described}");
    cluster
        .kubectl(&["delete", "deployment/web", "--timeout=60s"])
        .clean();
    until("its pods to go", || {
        let list = cluster.get(&["pods,replicasets"])?;
        let left = list["items"].as_array().map_or(0, Vec::len);
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} left"))
        }
    });
}

#[test]
fn patches_of_three_kinds() {
    let cluster = Cluster::start();
    cluster
        .kubectl(&["create", "configmap", "a", "--from-literal=x=1"])
        .clean();
    for (kind, patch) in [
        ("merge", r#"{"data":{"y":"2"}}"#),
        ("json", r#"[{"op":"replace","path":"/data/x","value":"3"}]"#),
        ("strategic", r#"{"data":{"z":"4"}}"#),
    ] {
        cluster
            .kubectl(&["patch", "configmap", "a", "--type", kind, "-p", patch])
            .clean();
    }
    let data = cluster.get(&["configmap", "a"]).unwrap()["data"].clone();
    assert_eq!(data, serde_json::json!({ "x": "3", "y": "2", "z": "4" }));
    let failed = r#"[{"op":"test","path":"/data/x","value":"9"}]"#;
    cluster
        .kubectl(&["patch", "configmap", "a", "--type", "json", "-p", failed])
        .refused();
}

#[test]
fn a_strategic_patch_merges_containers_by_name() {
    let cluster = Cluster::start();
    cluster.apply(WEB).clean();
    let patch = r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]},
        {"name":"extra","image":"capstan.dev/hello-http:1"}]}}}}"#;
    cluster
        .kubectl(&["patch", "deployment", "web", "-p", patch])
        .clean();
    let deployment = cluster.get(&["deployment", "web"]).unwrap();
    let containers = deployment["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap();
    assert_eq!(containers.len(), 2);
    let web = containers.iter().find(|one| one["name"] == "web").unwrap();
    assert_eq!(web["image"], "capstan.dev/hello-http:1");
    assert_eq!(web["env"][0]["value"], "1");
}

#[test]
fn edit_replaces_what_the_editor_wrote() {
    let cluster = Cluster::start();
    cluster
        .kubectl(&["create", "configmap", "a", "--from-literal=x=before"])
        .clean();
    let editor = cluster.file("edit.sh", "#!/bin/sh\nsed -i s/before/after/ \"$1\"\n");
    let editor = format!("sh {}", editor.display());
    let answer = cluster.kubectl_with_env(&["edit", "configmap", "a"], &[("KUBE_EDITOR", &editor)]);
    assert_eq!(answer.clean(), "configmap/a edited\n");
    assert_eq!(cluster.get(&["configmap", "a"]).unwrap()["data"]["x"], "after");
}

#[test]
fn what_the_server_is_made_of() {
    let cluster = Cluster::start();
    let resources = cluster.kubectl(&["api-resources"]).clean();
    for line in [
        "pods",
        "deployments",
        "plugins",
        "customresourcedefinitions",
        "leases",
    ] {
        assert!(
            resources.lines().any(|row| row.starts_with(line)),
            "{line} is missing in\n{resources}"
        );
    }
    let said = cluster.kubectl(&["explain", "pod.spec.containers.image"]).clean();
    assert!(said.contains("FIELD: image <string>"), "{said}");
    let said = cluster.kubectl(&["explain", "plugin.spec.source"]).clean();
    assert!(said.contains("bundled"), "{said}");
    // The machine's kubectl may warn of its own age.
    cluster.kubectl(&["version"]).clean_or_warned();
    cluster.kubectl(&["cluster-info"]).clean();
    assert_eq!(
        cluster.kubectl(&["auth", "can-i", "create", "pods"]).clean(),
        "yes\n"
    );
    assert_eq!(cluster.kubectl(&["get", "--raw", "/readyz"]).clean(), "ok");
}

#[test]
fn errors_are_in_the_originals_words() {
    let cluster = Cluster::start();
    let said = cluster.kubectl(&["get", "pod", "nobody"]).refused();
    assert_eq!(said, "Error from server (NotFound): pods \"nobody\" not found\n");
    cluster.kubectl(&["create", "namespace", "a"]).clean();
    let said = cluster.kubectl(&["create", "namespace", "a"]).refused();
    assert_eq!(
        said,
        "Error from server (AlreadyExists): namespaces \"a\" already exists\n"
    );
    let said = cluster
        .kubectl(&["create", "configmap", "x", "-n", "nowhere"])
        .refused();
    assert!(said.contains("namespaces \"nowhere\" not found"), "{said}");
    let bad =
        "apiVersion: v1\nkind: Pod\nmetadata: { name: Bad_Name }\nspec: { containers: [{ name: c }] }\n";
    let said = cluster.apply(bad).refused();
    assert!(
        said.contains("metadata.name: Invalid value: \"Bad_Name\""),
        "{said}"
    );
    assert!(
        said.contains("spec.containers[0].image: Required value"),
        "{said}"
    );
}

#[test]
fn a_namespace_takes_what_is_in_it_along() {
    let cluster = Cluster::start();
    cluster.kubectl(&["create", "namespace", "gone"]).clean();
    cluster
        .kubectl(&["create", "configmap", "x", "-n", "gone"])
        .clean();
    cluster.delete("namespace", "gone");
    cluster.kubectl(&["get", "namespace", "gone"]).refused();
}

#[test]
fn owners_take_their_dependents_along_or_leave_them() {
    let cluster = Cluster::start();
    cluster.apply(WEB).clean();
    cluster
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])
        .clean();
    cluster
        .kubectl(&["delete", "deployment", "web", "--cascade=orphan"])
        .clean();
    let sets = cluster.get(&["replicasets"]).unwrap();
    let left = sets["items"][0]["metadata"]["name"]
        .as_str()
        .expect("the ReplicaSet stays")
        .to_owned();
    cluster
        .kubectl(&[
            "delete",
            "replicaset",
            &left,
            "--cascade=foreground",
            "--timeout=60s",
        ])
        .clean();
    let pods = cluster.get(&["pods"]).unwrap();
    assert_eq!(
        pods["items"].as_array().map(Vec::len),
        Some(0),
        "foreground means that dependents go first"
    );
}

#[test]
fn a_difference_is_shown() {
    let cluster = Cluster::start();
    cluster.apply(WEB).clean();
    let answer = cluster.run(&["diff", "-f", "-"], &WEB.replace("hello-http:1", "hello-http:2"));
    assert!(!answer.ok && answer.err.is_empty(), "{}", answer.err);
    let is_shown = |sign: char, image: &str| {
        let mut lines = answer.out.lines();
        lines.any(|line| line.starts_with(sign) && line.contains(image))
    };
    assert!(
        is_shown('-', "hello-http:1") && is_shown('+', "hello-http:2"),
        "{}",
        answer.out
    );
    cluster.run(&["diff", "-f", "-"], WEB).clean();
}

#[test]
fn a_proxy_listens_where_it_is_told() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::Stdio;

    let cluster = Cluster::start();
    let socket = cluster.scratch().join("proxy");
    let at_socket = format!("--unix-socket={}", socket.display());
    for place in ["--port=0", &at_socket] {
        let mut command = cluster.kubectl_command(&["proxy", place]);
        let mut proxy = command.stdout(Stdio::piped()).spawn().expect("kubectl starts");
        let mut line = String::new();
        let mut output = BufReader::new(proxy.stdout.take().expect("it is piped"));
        output.read_line(&mut line).expect("it says where it listens");
        let address = line.trim().rsplit(' ').next().expect("an address").to_owned();
        let mut answer = String::new();
        let request = b"GET /api/ HTTP/1.0\r\nHost: localhost\r\n\r\n";
        if place == "--port=0" {
            let mut stream = std::net::TcpStream::connect(&address).expect("it listens");
            stream.write_all(request).expect("it reads");
            stream.read_to_string(&mut answer).expect("it answers");
        } else {
            let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
            stream.write_all(request).expect("it reads");
            stream.read_to_string(&mut answer).expect("it answers");
        }
        let _ = proxy.kill();
        let _ = proxy.wait();
        assert!(answer.contains("\"APIVersions\""), "{place}: {answer}");
    }
}
