//! What a node does for its pods and for those who look after it: logs in all their forms, mounted objects
//! that change, probes, deletion in order, cordon and drain, its lease.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use capstan_tests::{Cluster, ClusterOptions, get, until};
use serde_json::Value;

fn pod(name: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name} }}\nspec:\n  containers:\n    - name: main\n      {}\n",
        container.trim().replace('\n', "\n      ")
    )
}

fn ready(cluster: &Cluster, pod: &str) -> String {
    cluster
        .kubectl(&[
            "wait",
            "--for=condition=Ready",
            &format!("pod/{pod}"),
            "--timeout=60s",
        ])
        .clean();
    let pod = cluster.get(&["pod", pod]).expect("it was there");
    pod["status"]["podIP"]
        .as_str()
        .expect("a ready pod has an address")
        .to_owned()
}

#[test]
fn logs_are_followed_cut_and_stamped() {
    let cluster = Cluster::start();
    cluster
        .apply(&pod("web", "image: capstan.dev/hello-http:1"))
        .clean();
    let address = format!("{}:8080", ready(&cluster, "web"));
    let mut follow = cluster.kubectl_command(&["logs", "-f", "web"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().expect("kubectl starts");
    let mut lines = BufReader::new(follow.stdout.take().expect("its output is piped"))
        .lines()
        .map_while(Result::ok);
    for path in ["/", "/healthz", "/stats"] {
        get(&address, path).expect("the pod answers");
        assert_eq!(lines.next().expect("the log goes on"), format!("GET {path} 200"));
    }
    assert_eq!(
        cluster.kubectl(&["logs", "web", "--tail=1"]).clean(),
        "GET /stats 200\n"
    );
    assert_eq!(cluster.kubectl(&["logs", "web", "--tail=0"]).clean(), "");
    assert_eq!(
        cluster.kubectl(&["logs", "web", "--limit-bytes=5"]).clean(),
        "GET /"
    );
    assert_eq!(
        cluster
            .kubectl(&["logs", "web", "--since=1h"])
            .clean()
            .lines()
            .count(),
        3
    );
    let stamped = cluster
        .kubectl(&["logs", "web", "--timestamps", "--tail=2"])
        .clean();
    for line in stamped.lines() {
        let (stamp, said) = line.split_once(' ').expect("a stamp and a line");
        assert!(
            stamp.starts_with("20") && stamp.contains('T') && said.starts_with("GET /"),
            "{line}"
        );
    }
    let said = cluster.kubectl(&["logs", "web", "--previous"]).refused();
    assert!(
        said.contains("previous terminated container \"main\" in pod \"web\" not found"),
        "{said}"
    );
    let said = cluster.kubectl(&["logs", "web", "-c", "other"]).refused();
    assert!(
        said.contains("container other is not valid for pod web"),
        "{said}"
    );
    cluster.delete("pod", "web");
    assert_eq!(lines.next(), None, "a followed log ends with its container");
    assert!(follow.wait().expect("our own child").success());
}

#[test]
fn a_restarted_container_has_a_previous_log() {
    let cluster = Cluster::start();
    cluster
        .apply(&pod(
            "failing",
            "image: capstan.dev/hello-cli:1\nargs: [cat, /nowhere/file]",
        ))
        .clean();
    until("a restart", || {
        let pod = cluster.get(&["pod", "failing"])?;
        let status = &pod["status"]["containerStatuses"][0];
        if status["restartCount"].as_i64() > Some(0) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let said = until("its previous log", || {
        let answer = cluster.kubectl(&["logs", "failing", "-p"]);
        if answer.ok {
            Ok(answer.out)
        } else {
            Err(answer.err)
        }
    });
    assert_eq!(said, "/nowhere/file: in no mounted folder\n");
}

#[test]
fn a_mounted_object_that_changes_is_seen_by_the_pod() {
    let cluster = Cluster::start();
    cluster.settings_and_keys("color=blue", "token=first");
    let reader = |name: &str| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  restartPolicy: Always
  containers:
    - {{ name: color, image: 'capstan.dev/hello-cli:1', args: [cat, /etc/settings/color], volumeMounts: [{{ name: settings, mountPath: /etc/settings }}] }}
    - {{ name: token, image: 'capstan.dev/hello-cli:1', args: [cat, /etc/keys/token], volumeMounts: [{{ name: keys, mountPath: /etc/keys, readOnly: true }}] }}
  volumes: [{{ name: settings, configMap: {{ name: settings }} }}, {{ name: keys, secret: {{ secretName: keys }} }}]
"
        )
    };
    cluster.apply(&reader("reader")).clean();
    let says = |container: &str, wanted: &str| {
        until(wanted, || {
            let log = cluster.kubectl(&["logs", "reader", "-c", container]).out;
            if log.trim_end() == wanted {
                Ok(())
            } else {
                Err(log)
            }
        });
    };
    says("color", "blue");
    says("token", "first");
    // Each restart of the containers reads the files of the same volumes anew.
    cluster
        .kubectl(&[
            "patch",
            "configmap",
            "settings",
            "-p",
            r#"{"data":{"color":"green"}}"#,
        ])
        .clean();
    cluster
        .kubectl(&[
            "patch",
            "secret",
            "keys",
            "-p",
            r#"{"stringData":{"token":"second"}}"#,
        ])
        .clean();
    says("color", "green");
    says("token", "second");
}

#[test]
fn tcp_probes_start_and_liveness() {
    let cluster = Cluster::start();
    let good = "image: capstan.dev/hello-http:1
ports: [{ name: web, containerPort: 8080 }]
startupProbe: { tcpSocket: { port: web }, periodSeconds: 1 }
readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 }";
    let deaf = "image: capstan.dev/hello-http:1
livenessProbe: { tcpSocket: { port: 9 }, periodSeconds: 1, failureThreshold: 1 }";
    cluster.apply(&pod("good", good)).clean();
    cluster.apply(&pod("deaf", deaf)).clean();
    ready(&cluster, "good");
    let started = cluster.get(&["pod", "good"]).unwrap()["status"]["containerStatuses"][0]["started"].clone();
    assert_eq!(started, true);
    until("the deaf one to be restarted", || {
        let pod = cluster.get(&["pod", "deaf"])?;
        let status = &pod["status"]["containerStatuses"][0];
        if status["restartCount"].as_i64() > Some(0) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let events = cluster.kubectl(&["describe", "pod", "deaf"]).clean();
    assert!(
        events.contains("Liveness probe failed") && events.contains("connection refused"),
        "{events}"
    );
}

#[test]
fn deletion_takes_its_course_or_is_forced() {
    let cluster = Cluster::start();
    let finalized = |name: &str| {
        pod(name, "image: capstan.dev/hello-http:1")
            .replace("name: held }", "name: held, finalizers: [example.com/hold] }")
    };
    cluster.apply(&finalized("held")).clean();
    let address = format!("{}:8080", ready(&cluster, "held"));
    cluster
        .kubectl(&["delete", "pod", "held", "--wait=false"])
        .clean();
    // The finalizer shows the order: containers end and the status says so before the object may go.
    let pod_seen = until("its containers to end", || {
        let pod = cluster.get(&["pod", "held"])?;
        let ended = !pod["status"]["containerStatuses"][0]["state"]["terminated"].is_null();
        if ended {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        }
    });
    assert_eq!(
        pod_seen["status"]["phase"], "Succeeded",
        "a server that was asked to stop has ended well"
    );
    assert!(
        pod_seen["metadata"]["deletionTimestamp"].is_string(),
        "{pod_seen}"
    );
    get(&address, "/").expect_err("nobody serves there any more");
    let table = cluster.kubectl(&["get", "pod", "held"]).clean();
    assert!(
        table.contains("Terminating") || table.contains("Completed"),
        "{table}"
    );
    cluster
        .kubectl(&[
            "patch",
            "pod",
            "held",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ])
        .clean();
    cluster
        .kubectl(&["wait", "--for=delete", "pod/held", "--timeout=60s"])
        .clean();

    cluster
        .apply(&pod("forced", "image: capstan.dev/hello-http:1"))
        .clean();
    let address = format!("{}:8080", ready(&cluster, "forced"));
    let answer = cluster.kubectl(&[
        "delete",
        "pod",
        "forced",
        "--force",
        "--grace-period=0",
        "--timeout=60s",
    ]);
    assert!(
        answer.err.contains("Immediate deletion does not wait"),
        "{answer:?}"
    );
    assert_eq!(answer.clean_or_warned(), "pod \"forced\" force deleted\n");
    cluster.kubectl(&["get", "pod", "forced"]).refused();
    until("the node to stop it as well", || match get(&address, "/") {
        Err(_) => Ok(()),
        Ok(said) => Err(said),
    });
}

fn pods_on(cluster: &Cluster, node: &str) -> Result<Vec<String>, String> {
    let list = cluster.get(&[
        "pods",
        "-l",
        "app=spread",
        "--field-selector",
        &format!("spec.nodeName={node}"),
    ])?;
    let alive = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let pods = list["items"].as_array().into_iter().flatten().filter(alive);
    Ok(pods.map(|pod| pod["metadata"]["name"].to_string()).collect())
}

#[test]
fn a_node_is_cordoned_and_drained() {
    let cluster = Cluster::with(ClusterOptions {
        nodes: 2,
        ..ClusterOptions::default()
    });
    let nodes = cluster.get(&["nodes"]).unwrap();
    let names: Vec<&str> = nodes["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|node| node["metadata"]["name"].as_str())
        .collect();
    let [first, second] = names[..] else {
        panic!("two nodes, not {names:?}")
    };
    let deployment = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: spread }
spec:
  replicas: 4
  selector: { matchLabels: { app: spread } }
  template:
    metadata: { labels: { app: spread } }
    spec:
      topologySpreadConstraints:
        - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: { matchLabels: { app: spread } } }
      containers: [{ name: web, image: 'capstan.dev/hello-http:1' }]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: nobody }
spec: { maxUnavailable: 1, selector: { matchLabels: { app: other } } }
";
    cluster.apply(deployment).clean();
    cluster
        .kubectl(&["rollout", "status", "deployment/spread", "--timeout=60s"])
        .clean();
    assert!(
        !pods_on(&cluster, first).unwrap().is_empty(),
        "something to drain"
    );
    assert_eq!(
        cluster.kubectl(&["cordon", first]).clean(),
        format!("node/{first} cordoned\n")
    );
    let table = cluster.kubectl(&["get", "node", first]).clean();
    assert!(table.contains("Ready,SchedulingDisabled"), "{table}");
    let answer = cluster.kubectl(&["drain", first, "--timeout=60s"]);
    assert!(
        answer.ok && answer.out.contains("evicting pod default/spread-"),
        "{answer:?}"
    );
    assert!(
        answer.out.contains(&format!("node/{first} drained")),
        "{answer:?}"
    );
    until("all four on the other node", || {
        let (left, moved) = (pods_on(&cluster, first)?, pods_on(&cluster, second)?);
        if left.is_empty() && moved.len() == 4 {
            Ok(())
        } else {
            Err(format!("{left:?} {moved:?}"))
        }
    });
    assert_eq!(
        cluster.kubectl(&["uncordon", first]).clean(),
        format!("node/{first} uncordoned\n")
    );
    let node = cluster.get(&["node", first]).unwrap();
    assert!(
        node["spec"]["unschedulable"].is_null() && node["spec"]["taints"].is_null(),
        "{}",
        node["spec"]
    );
}

#[test]
fn the_nodes_lease_is_renewed() {
    let cluster = Cluster::start();
    let renewed =
        || Ok(cluster.get(&["lease", "capstan", "-n", "kube-node-lease"])?["spec"]["renewTime"].clone());
    let first: Value = until("the lease", renewed);
    until("its renewal", || {
        let now = renewed()?;
        if now == first {
            Err(now.to_string())
        } else {
            Ok(())
        }
    });
}
