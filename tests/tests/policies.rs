//! Policies as components: placement, admission, and what happens when one is bad or replaced.

use capstan_tests::{Cluster, ClusterOptions, condition, until};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: NAME, labels: { app: web } }
spec:
  terminationGracePeriodSeconds: 0
  containers: [{ name: main, image: 'capstan.dev/hello-http:1', ports: [{ containerPort: 8080 }] }]
";

fn pod(name: &str) -> String {
    POD.replace("NAME", name)
}

fn two_nodes() -> Cluster {
    Cluster::with(ClusterOptions {
        nodes: 2,
        ..ClusterOptions::default()
    })
}

fn node_of(cluster: &Cluster, pod: &str) -> String {
    until("the pod to be placed", || {
        let pod = cluster.get(&["pod", pod])?;
        pod["spec"]["nodeName"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| pod["status"].to_string())
    })
}

fn ready(cluster: &Cluster, plugin: &str) {
    until("the plugin to be ready", || {
        let plugin = cluster.get(&["plugin", plugin])?;
        let generation = plugin["metadata"]["generation"] == plugin["status"]["observedGeneration"];
        if generation && condition(&plugin, "Ready")["status"] == "True" {
            Ok(())
        } else {
            Err(plugin["status"].to_string())
        }
    });
}

#[test]
fn every_default_policy_is_a_ready_component() {
    let cluster = Cluster::start();
    let plugins = cluster.get(&["plugins"]).unwrap();
    let plugins = plugins["items"].as_array().unwrap();
    assert!(plugins.len() >= 9, "{plugins:?}");
    for plugin in plugins {
        ready(&cluster, plugin["metadata"]["name"].as_str().unwrap());
    }
    let table = cluster.kubectl(&["get", "plugins"]).clean();
    assert!(table.contains("READY") && table.contains("TRAPS"), "{table}");
}

#[test]
fn filters_say_why_a_pod_fits_nowhere() {
    let cluster = Cluster::start();
    let big = "
apiVersion: v1
kind: Pod
metadata: { name: big }
spec:
  nodeSelector: { disk: ssd }
  containers: [{ name: main, image: 'capstan.dev/hello-http:1', resources: { requests: { cpu: 1k } } }]
";
    cluster.apply(big).clean();
    let message = until("the reasons", || {
        let pod = cluster.get(&["pod", "big"])?;
        let conditions = pod["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let told = conditions
            .iter()
            .find(|one| one["type"] == "PodScheduled")
            .and_then(|one| one["message"].as_str());
        told.map(str::to_owned).ok_or_else(|| pod["status"].to_string())
    });
    assert!(message.starts_with("0/1 nodes are available: 1 "), "{message}");
    cluster.delete("pod", "big");
}

#[test]
fn a_taint_keeps_pods_away_and_its_removal_lets_them_in() {
    let cluster = Cluster::start();
    cluster
        .kubectl(&["taint", "node", "capstan", "team=other:NoSchedule"])
        .clean();
    cluster.apply(&pod("a")).clean();
    until("the event", || {
        let events = cluster
            .kubectl(&["get", "events", "--field-selector", "reason=FailedScheduling"])
            .out;
        if events.contains("untolerated taint {team: other}") {
            Ok(())
        } else {
            Err(events)
        }
    });
    cluster
        .kubectl(&["taint", "node", "capstan", "team-"])
        .clean_or_warned();
    assert_eq!(node_of(&cluster, "a"), "capstan");
}

#[test]
fn a_new_scoring_component_sends_the_next_pods_elsewhere() {
    let cluster = two_nodes();
    cluster
        .kubectl(&["label", "node", "capstan-2", "disk=ssd"])
        .clean();
    let preference = "
apiVersion: plugins.capstan.dev/v1
kind: Plugin
metadata: { name: prefer-ssd }
spec:
  source: { bundled: scheduler-label-preference }
  config: { key: disk, value: VALUE }
  bind: { scheduler: { profiles: [default-scheduler], weight: 100 } }
";
    cluster.apply(&preference.replace("VALUE", "ssd")).clean();
    ready(&cluster, "prefer-ssd");
    for n in 0..3 {
        cluster.apply(&pod(&format!("ssd{n}"))).clean();
        assert_eq!(node_of(&cluster, &format!("ssd{n}")), "capstan-2");
    }
    cluster
        .kubectl(&["label", "node", "capstan", "disk=nvme"])
        .clean();
    cluster.apply(&preference.replace("VALUE", "nvme")).clean();
    ready(&cluster, "prefer-ssd");
    for n in 0..3 {
        cluster.apply(&pod(&format!("nvme{n}"))).clean();
        assert_eq!(node_of(&cluster, &format!("nvme{n}")), "capstan");
    }
}

#[test]
fn pod_security_by_namespace_label() {
    let cluster = Cluster::start();
    cluster.kubectl(&["create", "namespace", "strict"]).clean();
    cluster
        .kubectl(&[
            "label",
            "namespace",
            "strict",
            "pod-security.kubernetes.io/enforce=restricted",
        ])
        .clean();
    let said = cluster
        .run(&["apply", "-n", "strict", "-f", "-"], &pod("a"))
        .refused();
    assert!(
        said.contains("(Forbidden)") && said.contains("pods \"a\" is forbidden"),
        "{said}"
    );
    assert!(
        said.contains("violates PodSecurity \"restricted:latest\""),
        "{said}"
    );
    assert!(said.contains("allowPrivilegeEscalation != false"), "{said}");
    cluster.apply(&pod("a")).clean();
}

#[test]
fn a_policy_that_is_loaded_refuses_at_once_and_its_removal_lifts_it() {
    let cluster = Cluster::start();
    let policy = "
apiVersion: plugins.capstan.dev/v1
kind: Plugin
metadata: { name: images }
spec:
  source: { bundled: admission-image-policy }
  config: { denyTags: [latest] }
  bind:
    admission: { rules: [{ apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [CREATE, UPDATE] }] }
";
    cluster.apply(policy).clean();
    ready(&cluster, "images");
    let latest = pod("a").replace("hello-http:1", "hello-http:latest");
    let said = cluster.apply(&latest).refused();
    assert!(
        said.contains("pods \"a\" is forbidden") && said.contains("latest"),
        "{said}"
    );
    cluster.delete("plugin", "images");
    until("the policy to be gone", || {
        let answer = cluster.apply(&latest);
        if answer.ok { Ok(()) } else { Err(answer.err) }
    });
}

#[test]
fn a_mutating_policy_sets_labels() {
    let cluster = Cluster::start();
    let policy = "
apiVersion: plugins.capstan.dev/v1
kind: Plugin
metadata: { name: labels }
spec:
  source: { bundled: admission-labels }
  config: { defaults: { team: unknown }, required: [{ key: app }] }
  bind:
    admission: { rules: [{ apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [CREATE] }] }
";
    cluster.apply(policy).clean();
    ready(&cluster, "labels");
    cluster.apply(&pod("a")).clean();
    assert_eq!(
        cluster.get(&["pod", "a"]).unwrap()["metadata"]["labels"]["team"],
        "unknown"
    );
    // The configuration is free in form: kubectl must not look for its fields in a schema.
    cluster
        .apply(&policy.replace("team: unknown", "team: nobody"))
        .clean();
    let said = cluster
        .apply(&pod("b").replace("app: web", "other: web"))
        .refused();
    assert!(said.contains("app"), "{said}");
}

#[test]
fn bad_plugins_say_why_and_leave_the_old_one_serving() {
    let cluster = Cluster::start();
    let revision = cluster.get(&["plugin", "scheduler-taints"]).unwrap()["status"]["revision"].clone();
    let garbage = cluster.scratch().join("garbage.wasm");
    std::fs::write(&garbage, b"not wasm").expect("a file in a temporary folder");
    let patch = serde_json::json!({ "spec": { "source": { "bundled": null, "file": garbage } } }).to_string();
    cluster
        .kubectl(&[
            "patch",
            "plugin",
            "scheduler-taints",
            "--type",
            "merge",
            "-p",
            &patch,
        ])
        .clean();
    until("the status to say so", || {
        let plugin = cluster.get(&["plugin", "scheduler-taints"])?;
        let seen = plugin["metadata"]["generation"] == plugin["status"]["observedGeneration"];
        if seen && !plugin["status"]["lastError"].is_null() {
            Ok(())
        } else {
            Err(plugin["status"].to_string())
        }
    });
    let plugin = cluster.get(&["plugin", "scheduler-taints"]).unwrap();
    assert_eq!(plugin["status"]["revision"], revision, "the old revision serves");
    cluster.apply(&pod("a")).clean();
    assert_eq!(node_of(&cluster, "a"), "capstan");
    let wrong = "
apiVersion: plugins.capstan.dev/v1
kind: Plugin
metadata: { name: wrong }
spec:
  source: { bundled: admission-image-policy }
  config: { denyTagz: [latest] }
  bind: { admission: { rules: [{ apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [CREATE] }] } }
";
    cluster.apply(wrong).clean();
    until("the configuration's field to be named", || {
        let plugin = cluster.get(&["plugin", "wrong"])?;
        let said = condition(&plugin, "Configured").to_string();
        if said.contains("denyTagz") {
            Ok(())
        } else {
            Err(plugin["status"].to_string())
        }
    });
}
