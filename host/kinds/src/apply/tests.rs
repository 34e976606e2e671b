//! The rules of ownership as scripts: each step is a write by somebody, each line of what is expected is an
//! owner with what it owns.

use serde_json::{Value, json};

use super::*;
use crate::custom::Schema as CustomSchema;
use crate::resource::{Resource, find_kind};

/// One version of a custom kind.
struct Custom(CustomSchema);

impl Versions for Custom {
    fn typed(&self, _: &str) -> Option<Typed<'_>> {
        Some(Typed::custom_object(&self.0))
    }

    fn convert(&self, _: &Value, _: &str) -> Option<Value> {
        None
    }
}

struct Stage<'v> {
    versions: &'v dyn Versions,
    resource: std::sync::Arc<Resource>,
    live: Option<Value>,
    clock: u32,
}

impl Stage<'_> {
    fn write<R>(
        &mut self,
        manager: &str,
        subresource: &str,
        act: impl FnOnce(&mut Self, &Writer<'_>) -> R,
    ) -> R {
        self.clock += 1;
        let now = format!("2026-01-01T00:00:{:02}Z", self.clock);
        let reset = Reset::of(&self.resource, subresource);
        let version = self.resource.api_version();
        let writer = Writer {
            manager,
            api_version: &version,
            subresource,
            now: &now,
            reset: &reset,
        };
        act(self, &writer)
    }

    fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) {
        self.update_through(manager, "", change);
    }

    fn update_through(&mut self, manager: &str, subresource: &str, change: impl FnOnce(&mut Value)) {
        self.write(manager, subresource, |stage, writer| {
            let mut new = stage
                .live
                .clone()
                .unwrap_or_else(|| json!({"metadata": {"name": "x"}}));
            change(&mut new);
            update(stage.versions, writer, stage.live.as_ref(), &mut new);
            new["metadata"]["uid"] = json!("u");
            stage.live = Some(new);
        });
    }

    fn try_apply(&mut self, manager: &str, mut config: Value, force: bool) -> Result<(), Problem> {
        config["apiVersion"] = json!(self.resource.api_version());
        config["kind"] = json!(self.resource.kind);
        self.write(manager, "", |stage, writer| {
            let mut new = apply(stage.versions, writer, stage.live.as_ref(), &config, force)?;
            if let Some(live) = &stage.live {
                keep_times(&mut new, live);
            }
            new["metadata"]["uid"] = json!("u");
            stage.live = Some(new);
            Ok(())
        })
    }

    fn apply(&mut self, manager: &str, config: Value) {
        self.try_apply(manager, config, false).unwrap();
    }

    fn refused(&mut self, manager: &str, config: Value) -> String {
        self.try_apply(manager, config, false).unwrap_err().to_string()
    }

    fn object(&self) -> &Value {
        self.live.as_ref().unwrap()
    }

    /// `manager(A|U): path path`, in order.
    fn owners(&self) -> Vec<String> {
        let managed = Managed::read(self.object().pointer("/metadata/managedFields")).unwrap();
        let line = |entry: &Entry| {
            let paths: Vec<String> = entry
                .fields()
                .paths()
                .iter()
                .map(|path| path.iter().map(Element::to_string).collect())
                .collect();
            let manager = &entry.manager;
            let kind = if manager.applies { "A" } else { "U" };
            let through = if manager.subresource.is_empty() {
                String::new()
            } else {
                format!("/{}", manager.subresource)
            };
            format!("{}{through}({kind}): {}", manager.name, paths.join(" "))
        };
        managed.0.iter().map(line).collect()
    }

    fn times(&self) -> Vec<String> {
        let managed = Managed::read(self.object().pointer("/metadata/managedFields")).unwrap();
        managed
            .0
            .iter()
            .map(|entry| entry.time.clone().unwrap()[17..19].to_string())
            .collect()
    }
}

fn on(api_version: &str, kind: &str, play: impl FnOnce(&mut Stage<'_>)) {
    let resource = find_kind(api_version, kind).unwrap();
    play(&mut Stage {
        versions: &*resource,
        resource: resource.clone(),
        live: None,
        clock: 0,
    });
}

fn data(pairs: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> = pairs
        .iter()
        .map(|(key, value)| (key.to_string(), json!(value)))
        .collect();
    json!({"metadata": {"name": "x"}, "data": data})
}

#[test]
fn what_is_no_longer_applied_goes_unless_another_owns_it() {
    on("v1", "ConfigMap", |stage| {
        stage.apply("a", data(&[("k", "1"), ("l", "1"), ("m", "1")]));
        stage.apply("b", data(&[("l", "1")]));
        stage.update("c", |object| object["data"]["n"] = json!("1"));
        assert_eq!(
            stage.owners(),
            ["a(A): .data.k .data.l .data.m", "b(A): .data.l", "c(U): .data.n"]
        );
        stage.apply("a", data(&[("m", "1")]));
        assert_eq!(stage.object()["data"], json!({"l": "1", "m": "1", "n": "1"}));
        assert_eq!(
            stage.owners(),
            ["b(A): .data.l", "a(A): .data.m", "c(U): .data.n"]
        );
        // What an update wrote stays when the applier who shares it leaves it out.
        stage.apply("a", data(&[("m", "1"), ("n", "1")]));
        stage.apply("a", data(&[("m", "1")]));
        assert_eq!(stage.object()["data"], json!({"l": "1", "m": "1", "n": "1"}));
    });
}

#[test]
fn conflicts_are_refused_and_forced() {
    on("apps/v1", "Deployment", |stage| {
        let replicas = |count: i32| json!({"metadata": {"name": "x"}, "spec": {"replicas": count}});
        stage.update("kubectl-client-side-apply", |object| {
            object["spec"]["replicas"] = json!(1)
        });
        stage.update_through("hpa", "scale", |object| object["spec"]["paused"] = json!(true));
        assert_eq!(
            stage.refused("kubectl", replicas(2)),
            "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
        );
        let two = json!({"metadata": {"name": "x"}, "spec": {"replicas": 2, "paused": false}});
        assert_eq!(
            stage.refused("kubectl", two.clone()),
            "Apply failed with 2 conflicts: conflicts with \"hpa\" with subresource \"scale\" using apps/v1:\n\
             - .spec.paused\nconflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.replicas"
        );
        // Equal values are shared.
        stage.apply("sharer", replicas(1));
        stage.try_apply("kubectl", two, true).unwrap();
        assert_eq!(stage.owners(), ["kubectl(A): .spec.paused .spec.replicas"]);
        assert_eq!(stage.object()["spec"], json!({"replicas": 2, "paused": false}));
        assert_eq!(stage.refused("other", replicas(3)).lines().count(), 1);
        // An update takes over without asking.
        stage.update("late", |object| object["spec"]["replicas"] = json!(3));
        assert_eq!(
            stage.owners(),
            ["kubectl(A): .spec.paused", "late(U): .spec.replicas"]
        );
    });
}

#[test]
fn list_items_have_owners_of_their_own() {
    on("apps/v1", "Deployment", |stage| {
        let with = |containers: Value| json!({"metadata": {"name": "x"}, "spec": {"template": {"spec": {"containers": containers}}}});
        let containers = |stage: &Stage<'_>| stage.object()["spec"]["template"]["spec"]["containers"].clone();
        stage.apply("a", with(json!([{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}, {"name": "d", "image": "i"}])));
        stage.apply(
            "b",
            with(
                json!([{"name": "e"}, {"name": "c", "env": [{"name": "E", "value": "1"}],
            "ports": [{"containerPort": 80, "protocol": "UDP"}]}]),
            ),
        );
        let names = |list: &Value| -> Vec<String> {
            list.as_array()
                .unwrap()
                .iter()
                .map(|one| one["name"].as_str().unwrap().to_string())
                .collect()
        };
        assert_eq!(names(&containers(stage)), ["e", "c", "d"]);
        assert_eq!(containers(stage)[1]["ports"].as_array().unwrap().len(), 2);
        let path = ".spec.template.spec.containers[name=\"c\"]";
        let port = format!("{path}.ports[containerPort=80,protocol=\"UDP\"]");
        let owners = stage.owners();
        assert!(
            owners[1].contains(&format!("{port} "))
                && owners[1].contains(&format!("{path}.env[name=\"E\"].value")),
            "{owners:?}"
        );
        // `a` leaves the container to `b`, who never said which image.
        stage.apply("a", with(json!([{"name": "d", "image": "i"}])));
        assert_eq!(names(&containers(stage)), ["e", "c", "d"]);
        assert_eq!(containers(stage)[1]["image"], Value::Null);
        assert_eq!(
            containers(stage)[1]["ports"],
            json!([{"containerPort": 80, "protocol": "UDP"}])
        );
        stage.apply("b", with(json!([])));
        assert_eq!(names(&containers(stage)), ["d"]);
        let twice = with(json!([{"name": "d"}, {"name": "d"}]));
        let refused = stage.refused("a", twice);
        assert!(
            refused.contains(".spec.template.spec.containers: duplicate entries for key [name=\"d\"]"),
            "{refused}"
        );
    });
}

#[test]
fn sets_and_atomic_values() {
    on("v1", "Service", |stage| {
        let with = |finalizers: Value, selector: Value| json!({"metadata": {"name": "x", "finalizers": finalizers}, "spec": {"selector": selector}});
        stage.apply("a", with(json!(["a/x", "a/y"]), json!({"app": "w"})));
        stage.apply("b", json!({"metadata": {"finalizers": ["b/z", "a/y"]}}));
        assert_eq!(
            stage.object()["metadata"]["finalizers"],
            json!(["a/x", "b/z", "a/y"])
        );
        assert!(
            stage.owners()[1].contains(".metadata.finalizers[=\"a/y\"]"),
            "{:?}",
            stage.owners()
        );
        stage.apply("a", with(json!(["a/x"]), json!({"app": "w"})));
        assert_eq!(
            stage.object()["metadata"]["finalizers"],
            json!(["a/x", "b/z", "a/y"])
        );
        // A selector of a Service has one owner.
        let refused = stage.refused("b", json!({"spec": {"selector": {"tier": "1"}}}));
        assert_eq!(
            refused,
            "Apply failed with 1 conflict: conflict with \"a\": .spec.selector"
        );
        stage
            .try_apply("b", json!({"spec": {"selector": {"tier": "1"}}}), true)
            .unwrap();
        assert_eq!(stage.object()["spec"]["selector"], json!({"tier": "1"}));
    });
}

#[test]
fn updates_are_tracked_by_manager_version_and_subresource() {
    on("v1", "Pod", |stage| {
        stage.update("kubectl-run", |pod| {
            pod["metadata"]["labels"] = json!({"run": "x"});
            pod["spec"] = json!({"containers": [{"name": "c", "image": "i"}]});
            pod["status"] = json!({"phase": "Pending"});
        });
        let created = ".metadata.labels .metadata.labels.run .spec.containers[name=\"c\"] \
                       .spec.containers[name=\"c\"].image .spec.containers[name=\"c\"].name";
        assert_eq!(stage.owners(), [format!("kubectl-run(U): {created}")]);
        let fields = json!({
            "f:metadata": {"f:labels": {".": {}, "f:run": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}},
        });
        let entry = &stage.object()["metadata"]["managedFields"][0];
        assert_eq!(entry["fieldsV1"], fields);
        assert_eq!(
            (&entry["fieldsType"], &entry["apiVersion"]),
            (&json!("FieldsV1"), &json!("v1"))
        );
        stage.update_through("kubelet", "status", |pod| {
            pod["spec"]["nodeName"] = json!("ignored");
            pod["status"]["phase"] = json!("Running");
            pod["metadata"]["managedFields"] = json!([]);
        });
        assert_eq!(stage.owners()[1], "kubelet/status(U): .status.phase");
        stage.update_through("kubelet", "status", |_| {});
        assert_eq!(stage.times(), ["01", "02"]);
        stage.update("kubectl-run", |pod| {
            pod["spec"]["containers"][0]["image"] = json!("j")
        });
        assert_eq!(
            stage.owners(),
            [
                "kubelet/status(U): .status.phase",
                &format!("kubectl-run(U): {created}")
            ]
        );
        // A client clears the list: nobody is tracked until the next apply.
        stage.update("x", |pod| pod["metadata"]["managedFields"] = json!([{}]));
        stage.update("x", |pod| pod["spec"]["nodeName"] = json!("n"));
        assert_eq!(stage.object()["metadata"].get("managedFields"), None);
        stage.apply("a", json!({"metadata": {"labels": {"l": "1"}}}));
        assert!(
            stage.owners()[1].starts_with("before-first-apply(U): "),
            "{:?}",
            stage.owners()
        );
        assert_eq!(
            stage
                .refused(
                    "a",
                    json!({"spec": {"containers": [{"name": "c", "image": "z"}]}})
                )
                .lines()
                .count(),
            1
        );
    });
}

#[test]
fn old_updates_are_joined() {
    on("v1", "ConfigMap", |stage| {
        for n in 0..13 {
            stage.update(&format!("m{n:02}"), |object| {
                object["data"][format!("k{n}")] = json!("v")
            });
        }
        let owners = stage.owners();
        assert_eq!(owners.len(), UPDATE_MANAGERS_MAX);
        assert_eq!(
            owners[0],
            "ancient-changes(U): .data .data.k0 .data.k1 .data.k2 .data.k3"
        );
        assert_eq!(owners[1], "m04(U): .data.k4");
    });
}

#[test]
fn an_apply_that_changes_nothing_is_none() {
    on("v1", "ConfigMap", |stage| {
        stage.apply("a", data(&[("k", "1")]));
        let before = stage.object().clone();
        stage.apply("a", data(&[("k", "1")]));
        assert_eq!(stage.object(), &before);
        // With an update in between, too.
        stage.update("u", |object| object["data"]["l"] = json!("1"));
        let before = stage.object().clone();
        stage.apply("a", data(&[("k", "1")]));
        assert_eq!(stage.object(), &before);
    });
}

#[test]
fn client_side_apply_goes_over() {
    on("v1", "ConfigMap", |stage| {
        let last =
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"k":"1","l":"1"}}"#;
        stage.update("kubectl-client-side-apply", |object| {
            object["metadata"]["annotations"] =
                json!({"kubectl.kubernetes.io/last-applied-configuration": last});
            object["data"] = json!({"k": "1", "l": "1", "m": "1"});
        });
        assert!(stage.refused("other", data(&[("k", "2")])).contains(".data.k"));
        let refused = stage.refused("kubectl", data(&[("k", "2"), ("m", "2")]));
        assert!(
            refused.contains(".data.m") && !refused.contains(".data.k"),
            "{refused}"
        );
        stage.apply("kubectl", data(&[("k", "2")]));
        let annotation =
            &stage.object()["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
        assert!(
            annotation.as_str().unwrap().contains(r#""data":{"k":"2"}"#),
            "{annotation}"
        );
    });
}

#[test]
fn what_does_not_fit_is_named() {
    on("apps/v1", "Deployment", |stage| {
        let cases = [
            (
                json!({"spec": {"replicaz": 1}}),
                ".spec.replicaz: field not declared in schema",
            ),
            (
                json!({"spec": {"replicas": "1"}}),
                ".spec.replicas: expected numeric (int or float), got \"1\"",
            ),
            (
                json!({"spec": {"template": []}}),
                ".spec.template: expected map, got []",
            ),
            (
                json!({"metadata": {"managedFields": []}}),
                "metadata.managedFields must be nil",
            ),
        ];
        for (config, expected) in cases {
            let refused = stage.refused("a", config);
            assert!(refused.contains(expected), "{refused}");
        }
    });
}

#[test]
fn custom_kinds_follow_their_schema() {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
            "rules": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {"port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}, "to": {"type": "string"}}}},
        }},
    }});
    let versions = Custom(CustomSchema::compile(&schema));
    let resource = Resource {
        group: "example.com".into(),
        version: "v1".into(),
        plural: "boxes".into(),
        kind: "Box".into(),
        ..Resource::default()
    };
    let mut stage = Stage {
        versions: &versions,
        resource: std::sync::Arc::new(resource.custom()),
        live: None,
        clock: 0,
    };
    stage.apply("a", json!({"metadata": {"name": "x", "labels": {"l": "1"}}, "spec": {"size": 1, "open": {"deep": {"x": [1]}},
        "whole": {"a": "1"}, "rules": [{"port": 1, "to": "a"}]}}));
    assert_eq!(
        stage.owners(),
        [
            "a(A): .metadata.labels.l .spec.size .spec.whole .spec.open.deep .spec.open.deep.x \
        .spec.rules[port=1,protocol=\"TCP\"] .spec.rules[port=1,protocol=\"TCP\"].port .spec.rules[port=1,protocol=\"TCP\"].to"
        ]
    );
    let refused = stage.refused("b", json!({"spec": {"whole": {"b": "1"}, "open": {"deep": {"x": [2]}}, "rules": [{"port": 1, "protocol": "TCP", "to": "b"}, {"port": 1, "protocol": "UDP"}]}}));
    assert!(
        refused.starts_with("Apply failed with 3 conflicts: conflicts with \"a\":\n- .spec.whole\n"),
        "{refused}"
    );
    assert!(
        stage
            .refused("b", json!({"spec": {"sizes": 1}}))
            .contains("field not declared")
    );
    let nameless = stage.refused(
        "b",
        json!({"spec": {"rules": [{"to": "b"}, {"protocol": "UDP"}, 1]}}),
    );
    assert!(
        nameless.contains(".spec.rules: element 2: associative list with keys may not have non-map elements"),
        "{nameless}"
    );
}

#[test]
fn versions_of_one_kind_share_their_owners() {
    on("autoscaling/v2", "HorizontalPodAutoscaler", |stage| {
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        stage.apply("a", json!({"metadata": {"name": "x"}, "spec": {"maxReplicas": 3, "minReplicas": 1, "metrics": [metric]}}));
        stage.resource = find_kind("autoscaling/v1", "HorizontalPodAutoscaler").unwrap();
        let live = crate::convert::to_version(&stage.resource, stage.live.take().unwrap());
        stage.live = Some(live);
        let refused = stage.refused("b", json!({"spec": {"maxReplicas": 4}}));
        assert_eq!(
            refused,
            "Apply failed with 1 conflict: conflict with \"a\": .spec.maxReplicas"
        );
        stage.apply(
            "a",
            json!({"metadata": {"name": "x"}, "spec": {"maxReplicas": 5}}),
        );
        assert_eq!(stage.object()["spec"], json!({"maxReplicas": 5}));
    });
}

#[test]
fn fields_are_written_and_read_as_the_original_does() {
    let fields = json!({
        "f:a": {}, "f:b": {".": {}, "f:c": {}}, "f:d": {"k:{\"n\":1,\"p\":\"x\"}": {}, "v:\"y\"": {}, "v:2": {}, "i:0": {}},
    });
    let set = Set::from_fields(&fields).unwrap();
    assert_eq!(set.to_fields(), fields);
    let paths: Vec<String> = set
        .paths()
        .iter()
        .map(|path| path.iter().map(Element::to_string).collect())
        .collect();
    assert_eq!(
        paths,
        [
            ".a",
            ".b",
            ".b.c",
            ".d[n=1,p=\"x\"]",
            ".d[=2]",
            ".d[=\"y\"]",
            ".d[0]"
        ]
    );
    assert!(Set::from_fields(&json!({"z:future": {}, "f:a": {}})).is_ok());
    for bad in [
        json!({"x": {}}),
        json!({"k:1": {}}),
        json!({"v:{": {}}),
        json!({"f:a": 1}),
        json!([]),
    ] {
        assert!(Set::from_fields(&bad).is_err(), "{bad}");
    }
}

#[test]
fn sets_have_an_algebra() {
    let set = |paths: &[&[&str]]| Set::of_fields(paths);
    let a = set(&[&["x"], &["x", "y"], &["z", "w"]]);
    let b = set(&[&["x"], &["z"]]);
    assert_eq!(a.clone().difference(&b), set(&[&["x", "y"], &["z", "w"]]));
    assert_eq!(a.clone().recursive_difference(&b), Set::default());
    assert_eq!(a.intersection(&b), set(&[&["x"]]));
    assert!(a.intersects(&b) && !a.intersects(&set(&[&["z"]])));
    let mut all = a.clone();
    all.union(&b);
    assert_eq!(all, set(&[&["x"], &["x", "y"], &["z"], &["z", "w"]]));
    assert!(all.has(&[Element::field("z"), Element::field("w")]));
}

#[test]
fn managers_have_names() {
    assert_eq!(name_of_agent("kubectl/v1.36.0 (linux/amd64)"), "kubectl");
    assert_eq!(name_of_agent("a\u{7}b/1"), "ab");
    assert_eq!(name_of_agent(&"x".repeat(300)).len(), 128);
    assert!(
        name_problem("a\nb")
            .unwrap_err()
            .contains("invalid character U+000A (at position 1)")
    );
    assert!(name_problem(&"x".repeat(129)).is_err());
    assert_eq!(
        problem(Some(&json!([{"operation": "Sing"}]))).unwrap(),
        "metadata.managedFields[0].operation: Invalid value: \"Sing\": must be `Apply` or `Update`"
    );
    assert_eq!(
        problem(Some(
            &json!([{"operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}, "manager": "m"}])
        )),
        None
    );
}
