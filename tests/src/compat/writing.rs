//! Writes: patches, apply, dry runs, field validation, concurrency, deletion, subresources.

use anyhow::ensure;
use serde_json::{Value, json};

use super::Ground;
use super::api::text;

const PAUSE: &str = "example.com/none:1";

fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "schedulerName": "nobody", "containers": [{ "name": "main", "image": PAUSE }] },
    })
}

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": PAUSE, "env": [{ "name": "A", "value": "1" }] }] },
            },
        },
    })
}

pub(super) async fn json_and_merge_patch(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    api.post(
        &maps,
        &json!({ "metadata": { "name": "patched" }, "data": { "a": "1", "b": "2" } }),
    )
    .await?
    .expect(201)?;
    let path = format!("{maps}/patched");
    let merged = api
        .patch("merge", &path, &json!({ "data": { "a": null, "c": "3" } }))
        .await?
        .expect(200)?
        .body;
    ensure!(
        merged["data"] == json!({ "b": "2", "c": "3" }),
        "{}",
        merged["data"]
    );
    let failing = json!([{ "op": "test", "path": "/data/b", "value": "9" }]);
    api.patch("json", &path, &failing)
        .await?
        .refused(422, "Invalid")?;
    let moved = json!([{ "op": "move", "from": "/data/b", "path": "/data/d" }]);
    let moved = api.patch("json", &path, &moved).await?.expect(200)?.body;
    ensure!(
        moved["data"] == json!({ "c": "3", "d": "2" }),
        "{}",
        moved["data"]
    );
    let pods = ground.collection("pods");
    api.post(&pods, &pod("not-movable")).await?.expect(201)?;
    let change = json!({ "spec": { "hostname": "other" } });
    api.patch("merge", &format!("{pods}/not-movable"), &change)
        .await?
        .refused(422, "Invalid")?;
    Ok(())
}

pub(super) async fn strategic_patch(ground: &Ground) -> anyhow::Result<()> {
    let (api, path) = (
        &ground.api,
        format!("{}/strategic", ground.of("apps/v1", "deployments")),
    );
    api.post(&ground.of("apps/v1", "deployments"), &deployment("strategic"))
        .await?
        .expect(201)?;
    let containers = |list: Value| json!({ "spec": { "template": { "spec": { "containers": list } } } });
    let list = |answer: &Value| answer["spec"]["template"]["spec"]["containers"].clone();
    let two = containers(json!([{ "name": "side", "image": PAUSE }]));
    let two = list(&api.patch("strategic", &path, &two).await?.expect(200)?.body);
    ensure!(two.as_array().is_some_and(|all| all.len() == 2), "{two}");
    let environment = containers(json!([{ "name": "main", "env": [{ "name": "B", "value": "2" }] }]));
    let merged = list(
        &api.patch("strategic", &path, &environment)
            .await?
            .expect(200)?
            .body,
    );
    let main = merged
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "main"))
        .cloned()
        .unwrap_or_default();
    ensure!(
        main["env"].as_array().is_some_and(|all| all.len() == 2) && main["image"] == PAUSE,
        "{main}"
    );
    let gone = containers(json!([{ "name": "side", "$patch": "delete" }]));
    let gone = list(&api.patch("strategic", &path, &gone).await?.expect(200)?.body);
    ensure!(gone.as_array().is_some_and(|all| all.len() == 1), "{gone}");
    let whole = json!({ "spec": { "strategy": { "$patch": "replace", "type": "Recreate" } } });
    let whole = api.patch("strategic", &path, &whole).await?.expect(200)?.body;
    ensure!(
        whole["spec"]["strategy"] == json!({ "type": "Recreate" }),
        "{}",
        whole["spec"]["strategy"]
    );
    Ok(())
}

pub(super) async fn server_side_apply(ground: &Ground) -> anyhow::Result<()> {
    let (api, path) = (
        &ground.api,
        format!("{}/applied", ground.collection("configmaps")),
    );
    let map = |data: Value| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "applied" }, "data": data });
    let by = |manager: &str| format!("{path}?fieldManager={manager}");
    api.patch("apply", &by("one"), &map(json!({ "a": "1", "b": "2" })))
        .await?
        .expect(201)?;
    let conflict = api
        .patch("apply", &by("two"), &map(json!({ "a": "9" })))
        .await?
        .refused(409, "Conflict")?;
    ensure!(
        conflict.body["details"]["causes"][0]["reason"] == "FieldManagerConflict",
        "{}",
        conflict.text()
    );
    let forced = api
        .patch(
            "apply",
            &format!("{}&force=true", by("two")),
            &map(json!({ "a": "9" })),
        )
        .await?
        .expect(200)?
        .body;
    ensure!(
        forced["data"] == json!({ "a": "9", "b": "2" }),
        "{}",
        forced["data"]
    );
    let managers: Vec<String> = forced["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| text(&one["manager"]))
        .collect();
    ensure!(
        managers.contains(&"one".to_owned()) && managers.contains(&"two".to_owned()),
        "{managers:?}"
    );
    let removed = api
        .patch("apply", &by("one"), &map(json!({})))
        .await?
        .expect(200)?
        .body;
    ensure!(removed["data"] == json!({ "a": "9" }), "{}", removed["data"]);
    let nameless = api.patch("apply", &path, &map(json!({}))).await?;
    ensure!(
        nameless.status.is_client_error(),
        "{} without a fieldManager",
        nameless.status
    );
    Ok(())
}

pub(super) async fn dry_run(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    let map = json!({ "metadata": { "name": "dry" }, "data": { "a": "1" } });
    let made = api
        .post(&format!("{maps}?dryRun=All"), &map)
        .await?
        .expect(201)?
        .body;
    ensure!(
        !text(&made["metadata"]["uid"]).is_empty(),
        "it is not as if it had been made: {made}"
    );
    api.get(&format!("{maps}/dry")).await?.refused(404, "NotFound")?;
    let kept = api.post(&maps, &map).await?.expect(201)?;
    let path = format!("{maps}/dry");
    let changed = api
        .patch(
            "merge",
            &format!("{path}?dryRun=All"),
            &json!({ "data": { "a": "2" } }),
        )
        .await?
        .expect(200)?
        .body;
    ensure!(
        changed["data"]["a"] == "2" && changed["metadata"]["resourceVersion"] == kept.version().as_str(),
        "{changed}"
    );
    api.delete(&format!("{path}?dryRun=All"), &Value::Null)
        .await?
        .expect(200)?;
    ensure!(
        api.get(&path).await?.expect(200)?.body["data"]["a"] == "1",
        "a dry run changed it"
    );
    api.post(&format!("{maps}?dryRun=Some"), &map)
        .await?
        .refused(422, "Invalid")?;
    Ok(())
}

pub(super) async fn field_validation(ground: &Ground) -> anyhow::Result<()> {
    let (api, all) = (&ground.api, ground.of("apps/v1", "deployments"));
    let mut wrong = deployment("misspelt");
    wrong["spec"]["replicsa"] = json!(1);
    let strict = api
        .post(&format!("{all}?fieldValidation=Strict"), &wrong)
        .await?
        .refused(400, "BadRequest")?;
    ensure!(
        text(&strict.body["message"]).contains("unknown field \"spec.replicsa\""),
        "{}",
        strict.text()
    );
    let twice =
        deployment("twice")
            .to_string()
            .replacen("\"replicas\":0", "\"replicas\":0,\"replicas\":0", 1);
    let kind = "application/json";
    let path = format!("{all}?fieldValidation=Strict");
    let twice = api
        .send(http::Method::POST, &path, kind, twice.into())
        .await?
        .refused(400, "BadRequest")?;
    ensure!(
        text(&twice.body["message"]).contains("duplicate field \"spec.replicas\""),
        "{}",
        twice.text()
    );
    let warned = api.post(&all, &wrong).await?.expect(201)?;
    ensure!(
        warned.header("warning").contains("unknown field"),
        "no warning: {:?}",
        warned.headers
    );
    ensure!(
        warned.body["spec"]["replicsa"].is_null(),
        "the unknown field is kept"
    );
    api.delete(&format!("{all}/misspelt"), &Value::Null)
        .await?
        .expect(200)?;
    let silent = api
        .post(&format!("{all}?fieldValidation=Ignore"), &wrong)
        .await?
        .expect(201)?;
    ensure!(
        silent.header("warning").is_empty(),
        "{}",
        silent.header("warning")
    );
    let mut meta = deployment("wrong-metadata");
    meta["metadata"]["unknownMeta"] = json!("x");
    api.post(&format!("{all}?fieldValidation=Strict"), &meta)
        .await?
        .refused(400, "BadRequest")?;
    Ok(())
}

pub(super) async fn concurrency(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    let first = api
        .post(&maps, &json!({ "metadata": { "name": "contended" } }))
        .await?
        .expect(201)?;
    let path = format!("{maps}/contended");
    api.patch("merge", &path, &json!({ "data": { "a": "1" } }))
        .await?
        .expect(200)?;
    api.put(&path, &first.body).await?.refused(409, "Conflict")?;
    let stale = json!({ "preconditions": { "resourceVersion": first.version() } });
    api.delete(&path, &stale).await?.refused(409, "Conflict")?;
    let mut absent = first.body.clone();
    absent["metadata"]["name"] = json!("absent");
    api.put(&format!("{maps}/absent"), &absent)
        .await?
        .refused(404, "NotFound")?;
    let mut other = api.get(&path).await?.expect(200)?.body;
    other["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    api.put(&path, &other).await?.refused(409, "Conflict")?;
    let mut older = api.get(&path).await?.expect(200)?.body;
    older["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    let kept = api.put(&path, &older).await?.expect(200)?.body;
    ensure!(
        kept["metadata"]["creationTimestamp"] == first.body["metadata"]["creationTimestamp"],
        "it can be rewritten"
    );
    Ok(())
}

pub(super) async fn finalizers(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    let map = json!({ "metadata": { "name": "final", "finalizers": ["example.com/wait"] } });
    api.post(&maps, &map).await?.expect(201)?;
    let path = format!("{maps}/final");
    let ending = api.delete(&path, &Value::Null).await?.expect(200)?.body;
    ensure!(
        !text(&ending["metadata"]["deletionTimestamp"]).is_empty(),
        "{ending}"
    );
    api.get(&path).await?.expect(200)?;
    let added = json!({ "metadata": { "finalizers": ["example.com/wait", "example.com/more"] } });
    api.patch("merge", &path, &added).await?.refused(422, "Invalid")?;
    api.patch("merge", &path, &json!({ "metadata": { "finalizers": null } }))
        .await?
        .expect(200)?;
    api.until(&path, |answer| answer.status == 404).await?;
    Ok(())
}

pub(super) async fn deletion_propagates(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    for (policy, owner) in [
        ("Background", "o-back"),
        ("Foreground", "o-fore"),
        ("Orphan", "o-orphan"),
    ] {
        let made = api
            .post(&maps, &json!({ "metadata": { "name": owner } }))
            .await?
            .expect(201)?
            .body;
        let reference = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": made["metadata"]["uid"], "blockOwnerDeletion": true,
        }]);
        let child = format!("{owner}-child");
        api.post(
            &maps,
            &json!({ "metadata": { "name": child, "ownerReferences": reference } }),
        )
        .await?
        .expect(201)?;
        api.delete(
            &format!("{maps}/{owner}"),
            &json!({ "propagationPolicy": policy }),
        )
        .await?
        .expect(200)?;
        api.until(&format!("{maps}/{owner}"), |answer| answer.status == 404)
            .await?;
        let child = format!("{maps}/{child}");
        match policy {
            "Foreground" => drop(api.get(&child).await?.refused(404, "NotFound")?),
            "Background" => drop(api.until(&child, |answer| answer.status == 404).await?),
            _ => {
                let left = api
                    .until(&child, |answer| {
                        answer.body["metadata"]["ownerReferences"].is_null()
                    })
                    .await?;
                ensure!(left.status == 200, "{}", left.status);
            }
        }
    }
    Ok(())
}

pub(super) async fn delete_collection(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    for (name, group) in [("c1", "go"), ("c2", "go"), ("c3", "stay")] {
        api.post(
            &maps,
            &json!({ "metadata": { "name": name, "labels": { "collection": group } } }),
        )
        .await?
        .expect(201)?;
    }
    api.delete(&format!("{maps}?labelSelector=collection%3Dgo"), &Value::Null)
        .await?
        .expect(200)?;
    let left = api
        .get(&format!("{maps}?labelSelector=collection"))
        .await?
        .expect(200)?
        .body;
    let left: Vec<String> = left["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| text(&one["metadata"]["name"]))
        .collect();
    ensure!(left == ["c3"], "{left:?}");
    Ok(())
}

pub(super) async fn generated_names(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    let one = api
        .post(&maps, &json!({ "metadata": { "generateName": "made-" } }))
        .await?
        .expect(201)?
        .body;
    let name = text(&one["metadata"]["name"]);
    ensure!(
        name.len() == "made-".len() + 5 && name.starts_with("made-"),
        "{name}"
    );
    Ok(())
}

pub(super) async fn status(ground: &Ground) -> anyhow::Result<()> {
    let (api, all) = (&ground.api, ground.of("apps/v1", "deployments"));
    let mut paused = deployment("of-two-parts");
    paused["spec"]["paused"] = json!(true);
    api.post(&all, &paused).await?.expect(201)?;
    let path = format!("{all}/of-two-parts");
    let both = json!({ "spec": { "minReadySeconds": 9 }, "status": { "conditions": [
        { "type": "Suite", "status": "True", "reason": "Tested", "message": "m" }] } });
    let before = api.get(&path).await?.expect(200)?.body["metadata"]["generation"].clone();
    let after = api
        .patch("merge", &format!("{path}/status"), &both)
        .await?
        .expect(200)?
        .body;
    ensure!(
        after["spec"]["minReadySeconds"].is_null() && after["metadata"]["generation"] == before,
        "the spec changed by its status"
    );
    ensure!(
        after["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["type"] == "Suite")),
        "{}",
        after["status"]
    );
    let other = json!({ "spec": { "minReadySeconds": 5 }, "status": { "conditions": null } });
    let after = api.patch("merge", &path, &other).await?.expect(200)?.body;
    ensure!(
        after["status"]["conditions"].is_array(),
        "the status changed by its spec"
    );
    ensure!(
        after["metadata"]["generation"].as_i64() > before.as_i64(),
        "the generation stays"
    );
    Ok(())
}

pub(super) async fn scale(ground: &Ground) -> anyhow::Result<()> {
    let (api, all) = (&ground.api, ground.of("apps/v1", "deployments"));
    let mut still = deployment("scaled");
    still["spec"]["paused"] = json!(true);
    still["spec"]["template"]["spec"]["schedulerName"] = json!("nobody");
    api.post(&all, &still).await?.expect(201)?;
    let path = format!("{all}/scaled/scale");
    let found = api.get(&path).await?.expect(200)?.body;
    ensure!(
        found["apiVersion"] == "autoscaling/v1" && found["kind"] == "Scale",
        "{found}"
    );
    ensure!(found["status"]["selector"] == "app=scaled", "{}", found["status"]);
    let set = api
        .patch("merge", &path, &json!({ "spec": { "replicas": 2 } }))
        .await?
        .expect(200)?
        .body;
    ensure!(set["spec"]["replicas"] == 2, "{set}");
    ensure!(
        api.get(&format!("{all}/scaled")).await?.body["spec"]["replicas"] == 2,
        "the deployment has not"
    );
    api.patch("merge", &path, &json!({ "spec": { "replicas": -1 } }))
        .await?
        .refused(422, "Invalid")?;
    Ok(())
}

pub(super) async fn eviction(ground: &Ground) -> anyhow::Result<()> {
    let (api, pods) = (&ground.api, ground.collection("pods"));
    let eviction =
        |name: &str| json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name } });
    api.post(&pods, &pod("evicted")).await?.expect(201)?;
    api.post(&format!("{pods}/evicted/eviction"), &eviction("evicted"))
        .await?
        .expect(201)?;
    api.until(&format!("{pods}/evicted"), |answer| answer.status == 404)
        .await?;
    let made = api.post(&pods, &pod("guarded")).await?.expect(201)?;
    let budget = json!({ "metadata": { "name": "guard" }, "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "guarded" } } } });
    api.post(&ground.of("policy/v1", "poddisruptionbudgets"), &budget)
        .await?
        .expect(201)?;
    let running =
        json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
    api.patch("strategic", &format!("{pods}/guarded/status"), &running)
        .await?
        .expect(200)?;
    let seen = format!("{}/guard", ground.of("policy/v1", "poddisruptionbudgets"));
    api.until(&seen, |answer| answer.body["status"]["currentHealthy"] == 1)
        .await?;
    let refused = api
        .post(&format!("{pods}/guarded/eviction"), &eviction("guarded"))
        .await?
        .refused(429, "TooManyRequests")?;
    ensure!(
        refused.body["details"]["causes"][0]["reason"] == "DisruptionBudget",
        "{}",
        refused.text()
    );
    ensure!(!made.version().is_empty(), "no version");
    Ok(())
}

pub(super) async fn binding(ground: &Ground) -> anyhow::Result<()> {
    let (api, pods) = (&ground.api, ground.collection("pods"));
    api.post(&pods, &pod("bound")).await?.expect(201)?;
    let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "bound" }, "target": { "kind": "Node", "name": "nowhere" } });
    api.post(&format!("{pods}/bound/binding"), &binding)
        .await?
        .expect(201)?;
    let found = api.get(&format!("{pods}/bound")).await?.expect(200)?.body;
    ensure!(found["spec"]["nodeName"] == "nowhere", "{}", found["spec"]);
    let scheduled = found["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|one| one["type"] == "PodScheduled" && one["status"] == "True");
    ensure!(scheduled, "{}", found["status"]);
    api.post(&format!("{pods}/bound/binding"), &binding)
        .await?
        .refused(409, "Conflict")?;
    Ok(())
}

pub(super) async fn maps_and_secrets(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    for plural in ["configmaps", "secrets"] {
        let all = ground.collection(plural);
        let empty = json!({ "metadata": { "name": "empty-key" }, "data": { "": "dmFsdWU=" } });
        api.post(&all, &empty).await?.refused(422, "Invalid")?;
        let fixed =
            json!({ "metadata": { "name": "fixed" }, "data": { "a": "dmFsdWU=" }, "immutable": true });
        api.post(&all, &fixed).await?.expect(201)?;
        let path = format!("{all}/fixed");
        api.patch("merge", &path, &json!({ "data": { "a": "dmFsdWUy" } }))
            .await?
            .refused(422, "Invalid")?;
        api.patch("merge", &path, &json!({ "immutable": false }))
            .await?
            .refused(422, "Invalid")?;
        api.patch("merge", &path, &json!({ "metadata": { "labels": { "a": "b" } } }))
            .await?
            .expect(200)?;
    }
    Ok(())
}

pub(super) async fn pods_are_judged(ground: &Ground) -> anyhow::Result<()> {
    let (api, pods) = (&ground.api, ground.collection("pods"));
    let both = json!({ "limits": { "cpu": "100m", "memory": "100Mi" }, "requests": { "cpu": "100m", "memory": "100Mi" } });
    let some = json!({ "requests": { "cpu": "100m" } });
    for (name, resources, class) in [
        ("all", both, "Guaranteed"),
        ("some", some, "Burstable"),
        ("none", json!({}), "BestEffort"),
    ] {
        let mut pod = pod(name);
        pod["spec"]["containers"][0]["resources"] = resources;
        let made = api.post(&pods, &pod).await?.expect(201)?.body;
        ensure!(made["status"]["qosClass"] == class, "{name}: {}", made["status"]);
    }
    let mut classy = pod("of-no-class");
    classy["spec"]["runtimeClassName"] = json!("nobodys");
    api.post(&pods, &classy).await?.refused(403, "Forbidden")?;
    let mut tuned = pod("tuned");
    tuned["spec"]["securityContext"] =
        json!({ "sysctls": [{ "name": "foo-", "value": "1" }, { "name": "kernel.shmmax", "value": "100" }] });
    let refused = api.post(&pods, &tuned).await?.refused(422, "Invalid")?;
    ensure!(
        refused.text().contains("spec.securityContext.sysctls[0].name"),
        "{}",
        refused.text()
    );
    let mut inline = pod("inline");
    inline["spec"]["volumes"] =
        json!([{ "name": "v", "csi": { "driver": "e2e.example.com", "volumeAttributes": { "a": "b" } } }]);
    let made = api.post(&pods, &inline).await?.expect(201)?.body;
    ensure!(
        made["spec"]["volumes"][0]["csi"]["driver"] == "e2e.example.com",
        "{}",
        made["spec"]["volumes"]
    );
    Ok(())
}
