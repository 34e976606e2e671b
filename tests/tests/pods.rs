//! Pods on the node: Wasm servers and commands, their configuration, probes, restarts, logs, services.

use capstan_tests::{Cluster, get, until};

const HELLO: &str = include_str!("../fixtures/hello.yaml");

#[test]
fn three_wasm_servers_behind_a_service() {
    let cluster = Cluster::start();
    cluster.apply(HELLO).clean();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .clean();
    let service = cluster.get(&["service", "hello"]).unwrap();
    let address = format!(
        "{}:8080",
        service["spec"]["clusterIP"].as_str().expect("a cluster IP")
    );
    let mut names = std::collections::BTreeSet::new();
    until("all three to answer through the service", || {
        names.insert(get(&address, "/")?.lines().next().unwrap_or_default().to_owned());
        if names.len() == 3 {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    });
    let pods = cluster.get(&["pods", "-l", "app=hello"]).unwrap();
    for pod in pods["items"].as_array().unwrap() {
        let name = pod["metadata"]["name"].as_str().unwrap();
        assert!(
            names.iter().any(|said| said.contains(name)),
            "{name} is not among {names:?}"
        );
    }
    cluster
        .kubectl(&["scale", "deployment/hello", "--replicas=0"])
        .clean();
    until("the service to have nobody", || match get(&address, "/") {
        Err(_) => Ok(()),
        Ok(said) => Err(said),
    });
}

#[test]
fn a_command_sees_its_configuration_and_its_output_is_logged() {
    let cluster = Cluster::start();
    cluster.settings_and_keys("COLOR=blue", "token=s3cret");
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: once }
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: capstan.dev/hello-cli:1
      args: [say, first, $(COLOR)-second]
      envFrom: [{ configMapRef: { name: settings } }]
      env:
        - { name: TOKEN, valueFrom: { secretKeyRef: { name: keys, key: token } } }
        - { name: NODE, valueFrom: { fieldRef: { fieldPath: spec.nodeName } } }
";
    cluster.apply(pod).clean();
    cluster
        .kubectl(&[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            "pod/once",
            "--timeout=60s",
        ])
        .clean();
    let log = cluster.kubectl(&["logs", "once"]).clean();
    for said in [
        "first",
        "blue-second",
        "TOKEN=s3cret",
        "COLOR=blue",
        "NODE=capstan",
    ] {
        assert!(log.contains(said), "{said} is missing in\n{log}");
    }
    let pod = cluster.get(&["pod", "once"]).unwrap();
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&0.into(), &"Completed".into()),
        "{ended}"
    );
}

#[test]
fn what_fails_is_restarted_with_backoff() {
    let cluster = Cluster::start();
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: failing }
spec:
  containers: [{ name: main, image: 'capstan.dev/hello-cli:1', args: [fail] }]
";
    cluster.apply(pod).clean();
    until("CrashLoopBackOff", || {
        let pod = cluster.get(&["pod", "failing"])?;
        let status = &pod["status"]["containerStatuses"][0];
        let waiting = status["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        let code = &status["lastState"]["terminated"]["exitCode"];
        if waiting && *code == 1 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let table = cluster.kubectl(&["get", "pods"]).clean();
    assert!(table.contains("CrashLoopBackOff"), "{table}");
    cluster.delete("pod", "failing");
}

#[test]
fn probes_decide_readiness_and_restarts() {
    let cluster = Cluster::start();
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: NAME }
spec:
  containers:
    - name: main
      image: capstan.dev/hello-http:1
      ports: [{ containerPort: 8080 }]
      PROBE
";
    let with = |name: &str, probe: &str| pod.replace("NAME", name).replace("PROBE", probe);
    cluster
        .apply(&with(
            "good",
            "readinessProbe: { httpGet: { path: /healthz, port: 8080 }, periodSeconds: 1 }",
        ))
        .clean();
    cluster
        .apply(&with(
            "unready",
            "readinessProbe: { httpGet: { path: /missing, port: 8080 }, periodSeconds: 1 }",
        ))
        .clean();
    let liveness =
        "livenessProbe: { httpGet: { path: /missing, port: 8080 }, periodSeconds: 1, failureThreshold: 1 }";
    cluster.apply(&with("sick", liveness)).clean();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/good", "--timeout=60s"])
        .clean();
    until("the sick one to be restarted", || {
        let pod = cluster.get(&["pod", "sick"])?;
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"]
            .as_i64()
            .unwrap_or(0);
        if restarts > 0 {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
    let unready = cluster.get(&["pod", "unready"]).unwrap();
    assert_eq!(unready["status"]["phase"], "Running");
    assert_eq!(unready["status"]["containerStatuses"][0]["ready"], false);
    let described = cluster.kubectl(&["describe", "pod", "unready"]).clean();
    assert!(described.contains("Readiness probe failed"), "{described}");
}

#[test]
fn a_missing_image_and_a_missing_configmap_say_so() {
    let cluster = Cluster::start();
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: NAME }
spec:
  containers: [{ name: main, image: 'IMAGE', imagePullPolicy: Never, ENV }]
";
    let with = |name: &str, image: &str, env: &str| {
        pod.replace("NAME", name)
            .replace("IMAGE", image)
            .replace("ENV", env)
    };
    cluster
        .apply(&with("noimage", "nowhere.example/x:1", "stdin: false"))
        .clean();
    cluster
        .apply(&with(
            "noconfig",
            "capstan.dev/hello-cli:1",
            "envFrom: [{ configMapRef: { name: absent } }]",
        ))
        .clean();
    for (name, reason) in [
        ("noimage", "ErrImageNeverPull"),
        ("noconfig", "CreateContainerConfigError"),
    ] {
        until(reason, || {
            let pod = cluster.get(&["pod", name])?;
            let seen = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
            if seen == reason {
                Ok(())
            } else {
                Err(pod["status"].to_string())
            }
        });
    }
}

#[test]
fn pods_are_back_after_kill_and_restart() {
    let mut cluster = Cluster::start();
    cluster.apply(HELLO).clean();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .clean();
    cluster.kill();
    cluster.up();
    let service = cluster.get(&["service", "hello"]).unwrap();
    let address = format!(
        "{}:8080",
        service["spec"]["clusterIP"].as_str().expect("a cluster IP")
    );
    until("the service to answer again", || get(&address, "/"));
    cluster
        .kubectl(&[
            "wait",
            "--for=jsonpath={.status.readyReplicas}=3",
            "deployment/hello",
            "--timeout=60s",
        ])
        .clean();
}

#[test]
fn the_node_says_what_it_is() {
    let cluster = Cluster::start();
    let node = cluster.get(&["node", "capstan"]).unwrap();
    let conditions = node["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True"),
        "{conditions:?}"
    );
    assert_eq!(node["status"]["capacity"]["pods"], "110");
    let lease = cluster
        .get(&["lease", "capstan", "-n", "kube-node-lease"])
        .unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "capstan");
}
