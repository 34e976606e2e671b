//! Policies as platform teams run them: modes, conditions, parameters, exceptions, history, trials, and what is told.

use std::process::Command;

use capstan_tests::{Answer, Cluster, binary, condition, until};
use serde_json::{Value, json};

/// Allows images of one registry only.
fn policy(name: &str, bind: Value, more: Value) -> String {
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
    let mut admission = json!({"rules": [rule]});
    let mut spec = json!({
        "source": {"bundled": "admission-image-policy"},
        "config": {"allowedRegistries": ["registry.example"]},
    });
    for (target, fields) in [(&mut admission, bind), (&mut spec, more)] {
        for (field, value) in fields.as_object().into_iter().flatten() {
            target[field] = value.clone();
        }
    }
    if spec["configFrom"].is_object() {
        spec.as_object_mut().expect("an object").remove("config");
    }
    spec["bind"] = json!({"admission": admission});
    json!({"apiVersion": "plugins.capstan.dev/v1", "kind": "Plugin", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

fn run(cluster: &Cluster, arguments: &[&str]) -> Answer {
    let mut command = Command::new(binary());
    command
        .arg("plugin")
        .args(arguments)
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("capstan: {error}"));
    Answer::new(format!("capstan plugin {}", arguments.join(" ")), &output)
}

/// A pod of another registry, asked for and not made.
fn attempt(cluster: &Cluster, name: &str) -> Answer {
    let image = "--image=elsewhere.example/x:1";
    cluster.kubectl(&["run", name, image, "--dry-run=server"])
}

fn wait(cluster: &Cluster, plugin: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(&format!("{plugin}: {what}"), || {
        let object = cluster.get(&["plugin", plugin])?;
        let seen = object["metadata"]["generation"] == object["status"]["observedGeneration"];
        if seen && holds(&object) {
            Ok(object)
        } else {
            Err(object["status"].to_string())
        }
    })
}

fn ready(cluster: &Cluster, plugin: &str) -> Value {
    wait(cluster, plugin, "ready", |object| {
        condition(object, "Ready")["status"] == "True"
    })
}

/// Outcomes of the history with the first registry that each allowed, the newest first.
fn history(object: &Value) -> Vec<String> {
    let all = object["status"]["history"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let shown = |past: &Value| {
        let registry = past["spec"]["config"]["allowedRegistries"][0].as_str();
        format!(
            "{} {}",
            past["outcome"].as_str().unwrap_or("?"),
            registry.unwrap_or("?")
        )
    };
    all.iter().map(shown).collect()
}

#[test]
fn a_binding_says_what_a_denial_does_and_whom_it_concerns() {
    let cluster = Cluster::start();
    // Enforced, but for those that the conditions leave out.
    let conditions = json!([
        {"name": "not-mine", "expression": "!object.metadata.name.startsWith('mine-')"},
        {"name": "params", "expression": "params.allowedRegistries.size() == 1 && request.userInfo.username != 'x'"},
    ]);
    cluster
        .apply(&policy(
            "images",
            json!({"matchConditions": conditions}),
            json!({}),
        ))
        .clean();
    ready(&cluster, "images");
    attempt(&cluster, "a").refused();
    attempt(&cluster, "mine-a").clean();
    // One that is no condition is refused by name.
    let wrong = json!({"matchConditions": [{"name": "n", "expression": "object.metadata.name"}]});
    cluster.apply(&policy("wrong", wrong, json!({}))).clean();
    let object = wait(&cluster, "wrong", "refused", |o| {
        condition(o, "Configured")["status"] == "False"
    });
    let said = condition(&object, "Configured")["message"].to_string();
    assert!(said.contains("matchConditions[0].expression"), "{said}");
    // Warned.
    cluster
        .apply(&policy("images", json!({"mode": "Warn"}), json!({})))
        .clean();
    ready(&cluster, "images");
    let answer = attempt(&cluster, "b");
    assert!(answer.ok, "{}", answer.all());
    answer.says("Warning: admission plugin \"images\" would deny this: ");
    // Audited: not a word to the client, but counted.
    cluster
        .apply(&policy("images", json!({"mode": "Audit"}), json!({})))
        .clean();
    ready(&cluster, "images");
    attempt(&cluster, "c").clean();
    // Counts are written with the next fact.
    cluster.apply(&policy("images", json!({}), json!({}))).clean();
    wait(&cluster, "images", "verdicts", |object| {
        let verdicts = &object["status"]["verdicts"];
        verdicts["denied"] == 1 && verdicts["warned"] == 1 && verdicts["audited"] == 1
    });
    let told = run(&cluster, &["decisions", "images"]).clean();
    for line in [
        "Denied CREATE pods default/a",
        "Warned CREATE pods default/b",
        "Audited CREATE pods default/c",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let table = cluster.kubectl(&["get", "plugins", "-o", "wide"]).clean();
    assert!(
        table.contains("1 denied, 1 warned, 1 audited") && table.contains("HEALTH"),
        "{table}"
    );
    let page = cluster
        .kubectl(&["get", "--raw", "/api/v1/nodes/capstan/proxy/metrics/plugins"])
        .clean();
    assert!(
        page.contains("capstan_plugin_verdicts_total{plugin=\"images\",verdict=\"audited\"} 1"),
        "{page}"
    );
}

#[test]
fn parameters_follow_their_object_and_exceptions_end() {
    let cluster = Cluster::start();
    let rules = |registry: &str| {
        let data = json!({"rules": json!({"allowedRegistries": [registry]}).to_string()});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rules"}, "data": data})
            .to_string()
    };
    cluster.apply(&rules("registry.example")).clean();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "default", "name": "rules", "path": "/data/rules"});
    cluster
        .apply(&policy(
            "images",
            json!({}),
            json!({"configFrom": {"object": object}}),
        ))
        .clean();
    ready(&cluster, "images");
    attempt(&cluster, "a").refused();
    cluster.apply(&rules("elsewhere.example")).clean();
    until("the new parameters", || {
        let answer = attempt(&cluster, "a");
        if answer.ok { Ok(()) } else { Err(answer.err) }
    });
    cluster.apply(&rules("registry.example")).clean();
    until("the old parameters", || {
        let answer = attempt(&cluster, "a");
        if answer.ok { Err(answer.out) } else { Ok(()) }
    });
    let exception = |names: &str, expires: &str| {
        let requests = json!({"namespaces": ["def*"], "resources": ["pods"], "names": [names],
            "conditions": [{"name": "n", "expression": "object.spec.containers.size() == 1"}]});
        json!({"apiVersion": "plugins.capstan.dev/v1", "kind": "PolicyException", "metadata": {"name": "legacy"},
            "spec": {"plugins": ["images"], "match": requests, "expires": expires, "reason": "until it is moved"}})
        .to_string()
    };
    let soon =
        (k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_secs(6)).to_string();
    cluster.apply(&exception("legacy-*", &soon)).clean();
    until("the exception", || {
        let answer = attempt(&cluster, "legacy-a");
        if answer.ok { Ok(()) } else { Err(answer.err) }
    });
    attempt(&cluster, "other-a").refused();
    let table = cluster.kubectl(&["get", "policyexceptions"]).clean();
    assert!(table.contains("EXPIRES") && table.contains("True"), "{table}");
    until("its end", || {
        let answer = attempt(&cluster, "legacy-a");
        if answer.ok { Err(answer.out) } else { Ok(()) }
    });
    let told = run(&cluster, &["decisions", "images"]).clean();
    assert!(
        told.contains("Excepted CREATE pods default/legacy-a") && told.contains("PolicyException legacy"),
        "{told}"
    );
    // There is none without an end.
    cluster.apply(&exception("x", "some day")).refused();
}

#[test]
fn a_plugin_returns_to_an_earlier_revision() {
    let mut cluster = Cluster::start();
    let folder = cluster.scratch();
    let file = folder.join("policy.wasm");
    std::fs::copy(capstan_tests::component("admission-image-policy"), &file).expect("a copy");
    let of = |registry: &str| {
        let more = json!({"source": {"file": file}, "config": {"allowedRegistries": [registry]}});
        policy("images", json!({}), more)
    };
    cluster.apply(&of("one.example")).clean();
    ready(&cluster, "images");
    cluster.apply(&of("elsewhere.example")).clean();
    let two = ["Serving elsewhere.example", "Superseded one.example"];
    wait(&cluster, "images", "the second", |object| history(object) == two);
    attempt(&cluster, "a").clean();
    // The source has something else by now.
    std::fs::copy(capstan_tests::component("admission-labels"), &file).expect("a copy");
    run(&cluster, &["rollback", "images"]).clean();
    let back = ["Serving one.example", "Superseded elsewhere.example"];
    wait(&cluster, "images", "the first again", |object| {
        history(object) == back
    });
    attempt(&cluster, "a").refused();
    run(&cluster, &["rollback", "images", "--to", "9"]).refused();
    let told = run(&cluster, &["history", "images"]).clean();
    assert!(
        told.contains("Superseded") && told.contains("image-policy"),
        "{told}"
    );
    // What cannot be loaded is not served by a process that starts anew either: the last good revision is.
    let patch =
        json!({"spec": {"digest": null, "source": {"file": folder.join("nothing.wasm")}}}).to_string();
    cluster
        .kubectl(&["patch", "plugin", "images", "--type=merge", "-p", &patch])
        .clean();
    wait(&cluster, "images", "refused", |object| {
        condition(object, "Fetched")["status"] == "False"
    });
    attempt(&cluster, "a").refused();
    assert!(cluster.stop());
    cluster.up();
    let said = attempt(&cluster, "a").refused();
    assert!(said.contains("elsewhere.example"), "{said}");
}

#[test]
fn a_candidate_proves_itself_before_it_serves() {
    let cluster = Cluster::start();
    let of = |registries: &[&str], promotion: Value, strategy: &str| {
        let rollout = json!({"strategy": strategy, "percent": 100, "promotion": promotion});
        policy(
            "images",
            json!({}),
            json!({"config": {"allowedRegistries": registries}, "rollout": rollout}),
        )
    };
    let patient = json!({"minCalls": 4, "maxLatencyPercent": 100_000});
    // The first has nobody to be compared with.
    cluster
        .apply(&of(&["registry.example"], patient.clone(), "Shadow"))
        .clean();
    ready(&cluster, "images");
    attempt(&cluster, "a").refused();
    // One that decides otherwise is dropped, and decided nothing.
    cluster
        .apply(&of(&["elsewhere.example"], patient.clone(), "Shadow"))
        .clean();
    wait(&cluster, "images", "on trial", |object| {
        condition(object, "Ready")["reason"] == "OnTrial"
    });
    attempt(&cluster, "b").refused();
    let object = wait(&cluster, "images", "dropped", |o| {
        condition(o, "Ready")["reason"] == "TrialFailed"
    });
    assert!(
        object["status"]["lastError"]
            .to_string()
            .contains("candidate allow"),
        "{}",
        object["status"]
    );
    assert_eq!(
        history(&object),
        ["Dropped elsewhere.example", "Serving registry.example"]
    );
    attempt(&cluster, "c").refused();
    // One that decides the same is promoted by itself.
    cluster
        .apply(&of(
            &["registry.example", "more.example"],
            patient.clone(),
            "Shadow",
        ))
        .clean();
    wait(&cluster, "images", "on trial", |object| {
        condition(object, "Ready")["reason"] == "OnTrial"
    });
    (0..4).for_each(|n| drop(attempt(&cluster, &format!("d{n}")).refused()));
    let object = ready(&cluster, "images");
    assert!(object["status"]["candidate"].is_null(), "{}", object["status"]);
    // A canary decides.
    let bold =
        json!({"minCalls": 2, "maxDifferencePercent": 100, "maxLatencyPercent": 100_000, "manual": true});
    cluster.apply(&of(&["elsewhere.example"], bold, "Canary")).clean();
    wait(&cluster, "images", "on trial", |object| {
        condition(object, "Ready")["reason"] == "OnTrial"
    });
    (0..3).for_each(|n| drop(attempt(&cluster, &format!("e{n}")).clean()));
    wait(&cluster, "images", "differences", |object| {
        object["status"]["candidate"]["differences"]
            .as_u64()
            .is_some_and(|count| count >= 3)
    });
    let told = run(&cluster, &["decisions", "images", "--json"]).clean();
    assert!(told.contains("\"shadow\":true"), "{told}");
    run(&cluster, &["promote", "images"]).clean();
    let object = ready(&cluster, "images");
    assert_eq!(history(&object)[0], "Serving elsewhere.example");
    attempt(&cluster, "f").clean();
}

#[test]
fn a_dry_run_tells_what_a_policy_would_refuse_today() {
    let cluster = Cluster::start();
    for (name, image) in [("good", "registry.example/a:1"), ("bad", "elsewhere.example/a:1")] {
        cluster
            .kubectl(&["run", name, &format!("--image={image}")])
            .clean();
    }
    let file = cluster.file("policy.json", &policy("images", json!({}), json!({})));
    let told = run(&cluster, &["dry-run", file.to_str().expect("text")]).clean();
    assert!(
        told.contains("Pod default/bad: ") && told.contains("1 of 2 objects would be refused"),
        "{told}"
    );
    cluster
        .get(&["plugin", "images"])
        .expect_err("nothing was loaded");
    // Loaded, with the scan asked for, it reports the same by itself, and takes its reports away when it goes.
    cluster
        .apply(&policy(
            "images",
            json!({"scan": true, "mode": "Audit"}),
            json!({}),
        ))
        .clean();
    let report = until("a report", || {
        cluster.get(&["policyreport", "-n", "default", "capstan-audit"])
    });
    assert_eq!(
        (&report["summary"]["fail"], &report["summary"]["pass"]),
        (&json!(1), &json!(1)),
        "{report}"
    );
    assert_eq!(report["results"][0]["resources"][0]["name"], "bad", "{report}");
    assert!(cluster.kubectl(&["get", "polr"]).clean().contains("FAIL"));
    cluster.kubectl(&["delete", "plugin", "images"]).clean();
    until("no report", || cluster.none(&["policyreports", "-A"]));
}
