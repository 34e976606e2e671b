//! The scheduler beyond the choice of a node, by the real kubectl: preemption, waking, gates, gangs.

use capstan_tests::{Cluster, ClusterOptions, until};
use serde_json::{Value, json};

/// A pod that asks for so much of the node's processors.
fn pod(name: &str, class: &str, milli_cpu: i64) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": "capstan.dev/hello-http:1",
                "resources": { "requests": { "cpu": format!("{milli_cpu}m") } },
            }],
        },
    });
    if !class.is_empty() {
        pod["spec"]["priorityClassName"] = json!(class);
    }
    pod
}

fn class(name: &str, value: i32, preempts: &str) -> String {
    json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": { "name": name }, "value": value, "preemptionPolicy": preempts,
    })
    .to_string()
}

fn apply(cluster: &Cluster, object: &Value) {
    cluster.apply(&object.to_string()).clean();
}

fn placed(cluster: &Cluster, name: &str) {
    until(&format!("pod {name} to be placed"), || {
        let pod = cluster.get(&["pod", name])?;
        match pod["spec"]["nodeName"].as_str() {
            Some(_) => Ok(()),
            None => Err(pod["status"].to_string()),
        }
    });
}

/// What the pod's `PodScheduled` condition says once it says it.
fn says(cluster: &Cluster, name: &str, text: &str) {
    until(&format!("pod {name} to say {text:?}"), || {
        let pod = cluster.get(&["pod", name])?;
        let conditions = pod["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let said = conditions.iter().find(|one| one["type"] == "PodScheduled");
        match said.and_then(|one| one["message"].as_str()) {
            Some(message) if message.contains(text) => Ok(()),
            _ => Err(pod["status"].to_string()),
        }
    });
}

fn milli_cpus(cluster: &Cluster) -> i64 {
    let node = cluster.get(&["node", "capstan"]).unwrap();
    let text = node["status"]["allocatable"]["cpu"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    match text.strip_suffix('m') {
        Some(milli) => milli.parse().unwrap(),
        None => text.parse::<i64>().unwrap() * 1000,
    }
}

#[test]
fn a_pod_of_higher_priority_has_the_least_important_evicted_and_takes_the_room() {
    let cluster = Cluster::start();
    let all = milli_cpus(&cluster);
    cluster
        .apply(&class("urgent", 1000, "PreemptLowerPriority"))
        .clean();
    cluster.apply(&class("polite", 1000, "Never")).clean();
    cluster.apply(&class("some", 10, "PreemptLowerPriority")).clean();
    apply(&cluster, &pod("low", "", all * 4 / 10));
    apply(&cluster, &pod("mid", "some", all * 4 / 10));
    placed(&cluster, "low");
    placed(&cluster, "mid");

    apply(&cluster, &pod("waits", "polite", all * 4 / 10));
    says(
        &cluster,
        "waits",
        "preemption: not eligible due to preemptionPolicy=Never.",
    );
    cluster.get(&["pod", "low"]).expect("nobody was evicted for it");
    cluster.kubectl(&["delete", "pod", "waits"]).clean();

    apply(&cluster, &pod("urgent", "urgent", all * 4 / 10));
    placed(&cluster, "urgent");
    let gone = cluster
        .get(&["pod", "low"])
        .expect_err("the least important one is gone");
    assert!(gone.contains("NotFound"), "{gone}");
    cluster.get(&["pod", "mid"]).expect("the other one stays");
    until("the event that tells of it", || {
        let events = cluster.get(&["events", "--field-selector", "reason=Preempted"])?;
        let event = &events["items"][0];
        match event["involvedObject"]["name"].as_str() {
            Some("low") => Ok(()),
            _ => Err(events.to_string()),
        }
    });
}

#[test]
fn a_budget_decides_who_is_evicted() {
    let cluster = Cluster::start();
    let all = milli_cpus(&cluster);
    cluster
        .apply(&class("urgent", 1000, "PreemptLowerPriority"))
        .clean();
    cluster.apply(&class("some", 10, "PreemptLowerPriority")).clean();
    let mut guarded = pod("guarded", "", all * 4 / 10);
    guarded["metadata"]["labels"] = json!({ "app": "guarded" });
    apply(&cluster, &guarded);
    apply(&cluster, &pod("free", "some", all * 4 / 10));
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "guard" },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "guarded" } } },
    });
    apply(&cluster, &budget);
    placed(&cluster, "guarded");
    placed(&cluster, "free");
    until("the budget to be counted", || {
        let budget = cluster.get(&["poddisruptionbudget", "guard"])?;
        match budget["status"]["currentHealthy"].as_i64() {
            Some(1) => Ok(()),
            _ => Err(budget["status"].to_string()),
        }
    });
    apply(&cluster, &pod("urgent", "urgent", all * 4 / 10));
    placed(&cluster, "urgent");
    cluster
        .get(&["pod", "guarded"])
        .expect("the one under a budget stays, although its priority is lower");
    cluster.get(&["pod", "free"]).expect_err("the other one is gone");
}

#[test]
fn a_crowd_waits_for_the_one_change_that_helps_it() {
    let cluster = Cluster::start();
    for number in 0..12 {
        let mut one = pod(&format!("crowd-{number}"), "", 1);
        one["spec"]["nodeSelector"] = json!({ "room": "yes" });
        apply(&cluster, &one);
    }
    says(
        &cluster,
        "crowd-11",
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    );
    cluster.kubectl(&["label", "node", "capstan", "room=yes"]).clean();
    for number in 0..12 {
        placed(&cluster, &format!("crowd-{number}"));
    }
}

#[test]
fn a_gated_pod_is_not_tried_before_its_gate_is_lifted() {
    let cluster = Cluster::start();
    let mut gated = pod("gated", "", 1);
    gated["spec"]["schedulingGates"] = json!([{ "name": "example.com/quota" }]);
    apply(&cluster, &gated);
    says(
        &cluster,
        "gated",
        "Scheduling is blocked due to non-empty scheduling gates",
    );
    cluster
        .kubectl(&[
            "patch",
            "pod",
            "gated",
            "--type=json",
            "-p",
            r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#,
        ])
        .clean();
    placed(&cluster, "gated");
}

#[test]
fn a_gang_is_bound_all_together_or_not_at_all() {
    let cluster = Cluster::start();
    let gangs = |seconds| {
        json!({
            "apiVersion": "plugins.capstan.dev/v1", "kind": "Plugin", "metadata": { "name": "gang" },
            "spec": { "source": { "bundled": "scheduler-gang" }, "config": { "timeoutSeconds": seconds } },
        })
    };
    apply(&cluster, &gangs(600));
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "plugin/gang", "--timeout=60s"])
        .clean();
    let member = |name: &str, gang: &str| {
        let mut pod = pod(name, "", 1);
        pod["metadata"]["labels"] = json!({ "capstan.dev/gang": gang });
        pod["metadata"]["annotations"] = json!({ "capstan.dev/gang-size": "2" });
        pod
    };
    apply(&cluster, &member("a1", "a"));
    apply(&cluster, &pod("alone", "", 1));
    // It was created later, so the first had its turn before.
    placed(&cluster, "alone");
    let first = cluster.get(&["pod", "a1"]).unwrap();
    assert!(first["spec"]["nodeName"].is_null(), "{first}");
    apply(&cluster, &member("a2", "a"));
    placed(&cluster, "a1");
    placed(&cluster, "a2");

    apply(&cluster, &gangs(5));
    until("the shorter time to hold", || {
        let plugin = cluster.get(&["plugin", "gang"])?;
        let generation = plugin["metadata"]["generation"] == plugin["status"]["observedGeneration"];
        generation
            .then_some(())
            .ok_or_else(|| plugin["status"].to_string())
    });
    apply(&cluster, &member("b1", "b"));
    says(&cluster, "b1", "timed out waiting for gang");
    apply(&cluster, &member("b2", "b"));
    placed(&cluster, "b1");
    placed(&cluster, "b2");
}

#[test]
fn a_decision_is_explained_by_plugin_and_reason() {
    let cluster = Cluster::with(ClusterOptions {
        nodes: 2,
        ..ClusterOptions::default()
    });
    apply(&cluster, &pod("fits", "", 10));
    apply(&cluster, &pod("huge", "", 1_000_000));
    placed(&cluster, "fits");
    says(&cluster, "huge", "Insufficient cpu");
    let explained = |arguments: &[&str]| {
        let kubeconfig = cluster.kubeconfig();
        let answer = std::process::Command::new(capstan_tests::binary())
            .args(["explain", "pod", "--kubeconfig"])
            .arg(&kubeconfig)
            .args(arguments)
            .output()
            .expect("capstan starts");
        (
            answer.status.success(),
            String::from_utf8_lossy(&answer.stdout).into_owned(),
        )
    };
    let decision = |name: &str| -> Value {
        let (_, text) = explained(&[name, "--json"]);
        serde_json::from_str(&text).expect("JSON")
    };
    let fits = decision("fits");
    let node = cluster.get(&["pod", "fits"]).unwrap()["spec"]["nodeName"].clone();
    assert_eq!(
        (&fits["outcome"], &fits["node"]),
        (&json!("Placed"), &node),
        "{fits:#}"
    );
    let best = &fits["scores"][0];
    assert_eq!(
        (&best["node"], &fits["feasibleNodes"]),
        (&node, &json!(2)),
        "{fits:#}"
    );
    let scored = best["plugins"].as_array().unwrap();
    assert!(
        scored.iter().any(|one| one["plugin"] == "scheduler-resources"),
        "{fits:#}"
    );

    let huge = decision("huge");
    assert_eq!(huge["outcome"], "Unschedulable", "{huge:#}");
    let refused = &huge["rejections"][0];
    assert_eq!(refused["plugin"], "scheduler-resources", "{huge:#}");
    assert_eq!(refused["nodes"].as_array().map(Vec::len), Some(2), "{huge:#}");
    let (_, text) = explained(&["huge"]);
    assert!(
        text.contains("2  Insufficient cpu (scheduler-resources): "),
        "{text}"
    );
    assert!(!explained(&["nobody"]).0);
}
