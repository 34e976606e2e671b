//! The library of policies as its users meet it: each manifest of `plugins/` loads as it stands, refuses a
//! configuration that its schema does not know, and the built components say what `docs/policies.md` says.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use capstan_kinds::plugin::Plugin;
use capstan_plugin::{Bundled, Host, Options};
use capstan_points::admission::{Operation, Review, Verdict};
use capstan_points::problem::{ConditionStatus, Finding, Line};
use capstan_points::remedy::{self, Action, Case};
use capstan_points::sidecar::{self, Stream, StreamContext};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    paths.sort();
    paths
}

struct Bench {
    host: Arc<Host>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let components = files(&root().join("target/components"), "wasm");
        assert!(
            !components.is_empty(),
            "there are no components: run `cargo xtask components`"
        );
        let read = |path: PathBuf| {
            let name = path
                .file_stem()
                .expect("it has a name")
                .to_string_lossy()
                .into_owned();
            (name, Cow::Owned(std::fs::read(path).expect("it can be read")))
        };
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            cache_dir: folder.path().join("cache"),
            bundled: components.into_iter().map(read).collect::<Bundled>(),
            name: "test".into(),
            ..Default::default()
        };
        Self {
            host: Host::open(options).expect("the host opens"),
            _folder: folder,
        }
    }

    /// Loads the manifest, perhaps with another configuration, under the name `p`.
    fn load(&self, manifest: &str, config: Option<Value>) {
        let mut plugin = manifest_of(&root().join("plugins").join(manifest));
        plugin.metadata.name = "p".into();
        if config.is_some() {
            plugin.spec.config = config;
        }
        self.host
            .load(&plugin)
            .unwrap_or_else(|error| panic!("{manifest}: {error}"));
    }

    async fn verdict(&self, kind: &str, object: &Value) -> Result<Option<String>, String> {
        let row = self.host.admission_seats().borrow().clone();
        match row[0].policy.validate(review(kind, object)).await {
            Ok(Verdict::Allow(_)) => Ok(None),
            Ok(Verdict::Deny(denial) | Verdict::Warn(denial) | Verdict::Audit(denial)) => {
                Ok(Some(denial.message))
            }
            Err(fault) => Err(fault.to_string()),
        }
    }
}

fn manifest_of(path: &Path) -> Plugin {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn review(kind: &str, object: &Value) -> Arc<Review> {
    Arc::new(Review {
        uid: "u".into(),
        operation: Operation::Create,
        group: String::new(),
        version: "v1".into(),
        resource: format!("{}s", kind.to_lowercase()),
        subresource: String::new(),
        kind: kind.into(),
        namespace: "default".into(),
        namespace_labels: vec![("pod-security.kubernetes.io/enforce".into(), "restricted".into())],
        name: "a".into(),
        user: "alice".into(),
        groups: Vec::new(),
        dry_run: false,
        now_ms: 1,
        object: Some(Arc::new(object.clone())),
        old: None,
    })
}

#[test]
fn every_manifest_loads_and_every_schema_is_kept() {
    let bench = Bench::new();
    let mut components = BTreeSet::new();
    let book = std::fs::read_to_string(root().join("docs/policies.md")).expect("the catalogue is there");
    let folders = std::fs::read_dir(root().join("plugins")).expect("there are policies");
    for folder in folders.map(|entry| entry.expect("an entry").path()) {
        let name = folder
            .file_name()
            .expect("it has a name")
            .to_string_lossy()
            .into_owned();
        let mut manifests = files(&folder, "yaml");
        manifests.retain(|path| !path.ends_with("cases.yaml"));
        assert!(!manifests.is_empty(), "{name} has no manifest");
        for path in manifests {
            let plugin = manifest_of(&path);
            let loaded = bench
                .host
                .load(&plugin)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            println!("{}: {}", plugin.metadata.name, loaded.title);
            assert_eq!(
                plugin.spec.source.bundled.as_deref(),
                Some(name.as_str()),
                "{}",
                path.display()
            );
            let mut wrong = plugin;
            wrong.metadata.name = "wrong".into();
            wrong.spec.config = Some(json!({"noSuchField": 1}));
            let error = bench.host.load(&wrong).expect_err("it has no such field");
            assert_eq!(error.reason(), "ConfigInvalid", "{name}: {error}");
            assert!(error.to_string().contains("spec.config"), "{name}: {error}");
        }
        // The scheduler's own policies are listed there together.
        let told = name.starts_with("scheduler-") || book.contains(&format!("`{name}`"));
        assert!(told, "docs/policies.md does not speak of {name}");
        components.insert(name);
    }
    assert!(components.len() > 20, "{components:?}");
}

#[test]
fn a_wrong_configuration_is_refused_with_the_path_of_its_field() {
    let bench = Bench::new();
    for (manifest, config, field) in [
        (
            "admission-replicas/example.yaml",
            json!({"minimum": "two"}),
            "spec.config.minimum",
        ),
        (
            "admission-host-access/example.yaml",
            json!({"hostPaths": {"allowed": [{"path": "var"}]}}),
            "spec.config.hostPaths.allowed[0].path",
        ),
        (
            "admission-host-access/example.yaml",
            json!({"hostPorts": {"allowed": [{"from": 0, "to": 70000}]}}),
            "spec.config.hostPorts.allowed[0]",
        ),
        (
            "admission-ingress/example.yaml",
            json!({"uniqueHosts": "planet"}),
            "spec.config.uniqueHosts",
        ),
        (
            "admission-env-secrets/example.yaml",
            json!({"secretWords": [""]}),
            "spec.config.secretWords[0]",
        ),
        (
            "problem-clock/example.yaml",
            json!({"interval": "soon"}),
            "spec.config.interval",
        ),
        (
            "problem-node-state/example.yaml",
            json!({"fullPercent": 101}),
            "spec.config.fullPercent",
        ),
        (
            "problem-log-monitor/gpu.yaml",
            json!({"rules": [{"type": "temporary", "reason": "R", "pattern": "p", "count": 1, "window": "1m"}]}),
            "spec.config.rules[0].count",
        ),
        (
            "remedy-taint/drain.yaml",
            json!({"rules": [{"condition": "C", "action": "reboot"}]}),
            "spec.config.rules[0].action",
        ),
        (
            "sidecar-log-flow/example.yaml",
            json!({"sample": [{"pattern": "p", "oneOf": 0}]}),
            "spec.config.sample[0].oneOf",
        ),
    ] {
        let mut plugin = manifest_of(&root().join("plugins").join(manifest));
        plugin.spec.config = Some(config);
        let error = bench.host.load(&plugin).expect_err(manifest);
        println!("{error}");
        assert_eq!(error.reason(), "ConfigInvalid", "{error}");
        assert!(error.to_string().contains(field), "{manifest}: {error}");
    }
}

#[tokio::test]
async fn admission_policies_say_what_the_catalogue_says() {
    let bench = Bench::new();
    let container = |more: Value| {
        let mut container = json!({"name": "a", "image": "nginx:1.29"});
        container
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        json!({"metadata": {"name": "a"}, "spec": {"containers": [container]}})
    };
    let ingress = |class: &str| json!({"spec": {"ingressClassName": class, "rules": []}});
    for (manifest, config, kind, object, said) in [
        (
            "admission-replicas/example.yaml",
            None,
            "Deployment",
            json!({"spec": {"replicas": 1}}),
            Some("spec.replicas: 1 is too few; ask for at least 2, or 0 to switch it off"),
        ),
        (
            "admission-replicas/example.yaml",
            None,
            "Deployment",
            json!({"spec": {"replicas": 3}}),
            None,
        ),
        (
            "admission-host-access/example.yaml",
            None,
            "Pod",
            json!({"spec": {"hostPID": true, "containers": []}}),
            Some("spec.hostPID: the node's pid namespace must not be shared"),
        ),
        (
            "admission-host-access/example.yaml",
            None,
            "Pod",
            container(json!({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"], "drop": ["ALL"]}}})),
            Some(
                "spec.containers[0].securityContext.capabilities.add[0]: SYS_ADMIN is not allowed; allowed: NET_BIND_SERVICE",
            ),
        ),
        (
            "admission-env-secrets/example.yaml",
            None,
            "Pod",
            container(json!({"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]})),
            Some(
                "spec.containers[0].env[0].value: DB_PASSWORD holds what by its name is a secret as plain text; keep \
                 it in a Secret and refer to it by valueFrom.secretKeyRef",
            ),
        ),
        (
            "admission-env-secrets/example.yaml",
            None,
            "Pod",
            container(json!({})),
            None,
        ),
        (
            "admission-ingress/example.yaml",
            None,
            "Ingress",
            ingress("other"),
            Some("spec.ingressClassName: \"other\" is not allowed; it must be one of: nginx, internal"),
        ),
        (
            "admission-ingress/example.yaml",
            None,
            "Ingress",
            ingress("nginx"),
            None,
        ),
        (
            "admission-image-policy/example.yaml",
            Some(json!({"denyTags": ["latest"]})),
            "Pod",
            container(json!({"image": "nginx"})),
            Some(
                "spec.containers[0].image: image \"nginx\" is not allowed: tag \"latest\" is denied; name a fixed version",
            ),
        ),
        (
            "admission-limits/example.yaml",
            Some(json!({"require": {"requests": ["cpu"]}})),
            "Pod",
            container(json!({})),
            Some("spec.containers[0].resources/requests: cpu is required"),
        ),
        (
            "admission-labels/example.yaml",
            Some(json!({"required": [{"key": "team"}]})),
            "Pod",
            container(json!({})),
            Some("metadata.labels: label \"team\" is required"),
        ),
        (
            "admission-pod-security/plugin.yaml",
            None,
            "Pod",
            container(json!({"securityContext": {"privileged": true}})),
            Some("violates PodSecurity \"restricted:latest\": privileged"),
        ),
    ] {
        bench.load(manifest, config);
        let verdict = bench
            .verdict(kind, &object)
            .await
            .unwrap_or_else(|fault| panic!("{manifest}: {fault}"));
        // A part of a field's path may be written with `.` or `/`: what is wrong comes after it.
        let told = |said: &str| {
            verdict
                .as_deref()
                .is_some_and(|told| told.replace('/', ".").starts_with(&said.replace('/', ".")))
        };
        assert!(said.map_or(verdict.is_none(), told), "{manifest}: {verdict:?}");
        bench.host.unload("p");
    }
    // What needs the cluster is a fault without it, and never a verdict.
    bench.load("admission-ingress/example.yaml", None);
    let object = json!({"spec": {"ingressClassName": "nginx", "rules": [{"host": "a.example"}]}});
    let fault = bench
        .verdict("Ingress", &object)
        .await
        .expect_err("there is no cluster");
    assert!(
        fault.contains("ingresses could not be read: no cluster yet"),
        "{fault}"
    );
}

#[test]
fn problem_daemons_report_what_the_catalogue_says() {
    let bench = Bench::new();
    bench.load("problem-log-monitor/gpu.yaml", None);
    let line = |text: &str| Line {
        time_ms: 1,
        text: text.into(),
    };
    let daemon = bench.host.problem_seats().borrow()[0].policy.clone();
    let fell = "NVRM: Xid (PCI:0000:3b:00): 79, pid=71, GPU has fallen off the bus.";
    let often = "NVRM: Xid (PCI:0000:3b:00): 31, pid=71, name=python, Ch 00000008";
    let lines: Vec<Line> = std::iter::once(fell).chain([often; 5]).map(line).collect();
    let found = daemon.on_lines(0, &lines, 0, 1_000).expect("it answers");
    let set = |name: &str| {
        found.iter().any(|finding| {
            matches!(finding, Finding::Condition(c) if c.type_name == name && c.status == ConditionStatus::True)
        })
    };
    assert!(set("GpuFailed") && set("GpuErrorsFrequent"), "{found:?}");
    let events = found
        .iter()
        .filter(|finding| matches!(finding, Finding::Event(_)));
    assert_eq!(events.count(), 2, "one for each: {found:?}");

    bench.host.unload("p");

    // The real files of this machine, by the grants of the manifest.
    bench.load("problem-node-state/example.yaml", None);
    let daemon = bench.host.problem_seats().borrow()[0].policy.clone();
    let found = daemon.on_tick(1_000).expect("it answers");
    println!("{found:?}");
    assert!(
        found
            .iter()
            .any(|finding| matches!(finding, Finding::Condition(c) if c.type_name == "FileHandlesLow")),
        "{found:?}"
    );
    bench.host.unload("p");
    bench.load("problem-clock/example.yaml", None);
    let daemon = bench.host.problem_seats().borrow()[0].policy.clone();
    let fault = daemon
        .on_tick(1_000)
        .expect_err("there is no cluster")
        .to_string();
    assert!(
        fault.contains("leases could not be read: no cluster yet"),
        "{fault}"
    );
}

#[test]
fn a_drain_and_a_flow_do_what_the_catalogue_says() {
    let bench = Bench::new();
    bench.load("remedy-taint/drain.yaml", None);
    let mut case = Case {
        budget: 1,
        now_ms: 60_000,
        ..Case::default()
    };
    case.conditions.push(remedy::Condition {
        type_name: "GpuFailed".into(),
        status: remedy::ConditionStatus::True,
        reason: "GpuFellOffTheBus".into(),
        message: "m".into(),
        since_ms: 1_000,
    });
    let decide = |case: &Case| -> Vec<Action> {
        let remedy = bench.host.remedy_seats().borrow()[0].policy.clone();
        let decisions = remedy.decide(case).expect("it answers");
        decisions.into_iter().map(|decision| decision.action).collect()
    };
    assert_eq!(decide(&case), [Action::Cordon]);
    case.node.unschedulable = true;
    assert_eq!(decide(&case), [Action::Drain]);

    bench.load("sidecar-log-flow/example.yaml", None);
    let sidecar = bench.host.sidecar_seats().borrow()[0].policy.clone();
    let mut stream = sidecar.open(&StreamContext::default()).expect("it opens");
    let lines = ["panic: oops", "  at main", "done"].map(|text| sidecar::Line {
        time_ms: 1,
        stream: Stream::Stderr,
        text: text.into(),
    });
    let texts =
        |lines: Vec<sidecar::Line>| -> Vec<String> { lines.into_iter().map(|line| line.text).collect() };
    assert_eq!(
        texts(stream.on_lines(lines.to_vec()).expect("it answers")),
        ["panic: oops |   at main"]
    );
    assert_eq!(texts(stream.flush().expect("it answers")), ["done"]);
}
