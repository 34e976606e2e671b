//! The author's loop with the real binary: from an empty folder to a component that a live cluster enforces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capstan_tests::{Answer, Cluster, binary, installed, root, until};

/// A folder of the author's own, with a home for caches.
struct Desk {
    folder: tempfile::TempDir,
    /// Where the tools of the plugin's language are.
    tools: Vec<(&'static str, PathBuf)>,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tools = Vec::new();
        Self { folder, tools }
    }

    /// With the tools of another language; none where they are missing.
    fn with_tool(
        variable: &'static str,
        program: &str,
        name: &'static str,
        place: &'static str,
    ) -> Option<Self> {
        let found = installed(name, place, "CAPSTAN_NO_OTHER_TOOLS")?;
        let mut desk = Self::new();
        desk.tools.push((
            variable,
            if program.is_empty() {
                found.clone()
            } else {
                program.into()
            },
        ));
        desk.tools.push((
            "PYTHONPATH",
            found.ancestors().nth(2).expect("a folder of tools").to_owned(),
        ));
        Some(desk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `capstan plugin …` in the folder.
    fn plugin(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(binary());
        command
            .arg("plugin")
            .args(arguments)
            .current_dir(self.folder.path());
        command.env("XDG_CACHE_HOME", self.path("cache"));
        // The crates of the guest library are built once for all projects, by the workspace's own choice of versions.
        command.env("CARGO_TARGET_DIR", root().join("target/authoring"));
        command.envs(self.tools.iter().map(|(variable, path)| (variable, path)));
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("capstan: {error}"));
        Answer::new(format!("capstan plugin {}", arguments.join(" ")), &output)
    }

    /// A project from a template, built. Names are unique among the tests: they share one target folder.
    fn project(&self, name: &str, world: &str, language: &str) {
        let new = self.plugin(&["new", name, "--world", world, "--language", language]);
        new.says("wrote");
        if language == "rust" {
            fs::copy(root().join("Cargo.lock"), self.path(name).join("Cargo.lock")).expect("a lock file");
        }
        self.plugin(&["build", name]).says(&format!("{name}/{name}.wasm"));
    }

    /// The project's Plugin object, with the path of its component.
    fn manifest(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(name).join("plugin.yaml")).expect("a manifest");
        let file = self.path(name).join(name).with_extension("wasm");
        text.lines()
            .map(|line| match line.trim_start().starts_with("file: ") {
                true => format!("    file: {}\n", file.display()),
                false => format!("{line}\n"),
            })
            .collect()
    }
}

/// Applies the project's Plugin object, and waits until it decides.
fn load(cluster: &Cluster, desk: &Desk, name: &str) {
    cluster.apply(&desk.manifest(name)).clean();
    let ready = "--for=condition=Ready";
    let plugin = format!("plugin/{name}");
    cluster
        .kubectl(&["wait", ready, &plugin, "--timeout=120s"])
        .clean();
}

/// A pod without a tag meets a refusal of this policy, one with a tag does not.
fn refuses_images_without_a_tag(cluster: &Cluster, policy: &str) {
    let run = |image: &str| {
        let image = format!("--image={image}");
        cluster.kubectl(&["run", "x", &image, "--dry-run=server"])
    };
    let refused = run("nginx");
    assert!(!refused.ok, "{policy} allowed it: {}", refused.all());
    refused.says("has no tag");
    run("nginx:1.29").clean();
}

#[test]
fn from_an_empty_folder_to_a_policy_in_a_live_cluster() {
    let desk = Desk::new();
    let cluster = Cluster::start();
    for world in ["admission", "problem", "remedy", "scheduler", "sidecar"] {
        let name = format!("own-{world}");
        desk.project(&name, world, "rust");
        let tested = desk.plugin(&["test", &name]);
        println!("{}", tested.all());
        assert!(tested.ok, "{}", tested.all());
        tested.says(&format!("{name} 0.1.0: ")).says("cases passed");
    }
    load(&cluster, &desk, "own-admission");
    refuses_images_without_a_tag(&cluster, "own-admission");
    let reviewed = "spec: { containers: [{ name: main, image: nginx }] }";
    let pod = format!("apiVersion: v1\nkind: Pod\nmetadata: {{ name: web }}\n{reviewed}\n");
    fs::write(desk.path("pod.yaml"), pod).expect("a file");
    desk.plugin(&["run", "own-admission", "pod.yaml"])
        .says("verdict: deny")
        .says("spec.containers[0].image");

    a_recording_is_asked_again(&desk);
    let bench = desk.plugin(&["bench", "own-admission", "--seconds", "0.3"]);
    println!("{}", bench.all());
    bench.says("RATIO").says("an image without a tag is refused");
    desk.plugin(&["bench", "own-scheduler", "--seconds", "0.1"])
        .says("a node without taints is preferred");
}

/// Log lines with what they are to come to, and requests that an API server wrote down.
fn a_recording_is_asked_again(desk: &Desk) {
    let write = |name: &str, lines: &[&str]| fs::write(desk.path(name), lines.join("\n")).expect("a file");
    let set = r#"{"line": "sda: I/O error", "expect": {"conditions": {"DiskFailing": {"status": "True"}}}}"#;
    let nothing = r#"{"line": "sda: I/O error", "expect": {"steps": [[]]}}"#;
    write("disk.jsonl", &[set, nothing]);
    desk.plugin(&["test", "own-problem", "disk.jsonl"])
        .says("2 of 2 cases passed");
    write("disk.jsonl", &[set, set]);
    let failed = desk.plugin(&["test", "own-problem", "disk.jsonl"]);
    assert!(!failed.ok, "{}", failed.all());
    failed.says("disk.jsonl:2").says("1 of 2 cases passed");
    write("tidy.jsonl", &[r#"{"line": "DEBUG x", "expect": {"lines": []}}"#]);
    desk.plugin(&["test", "own-sidecar", "tidy.jsonl"])
        .says("1 of 1 cases passed");

    let request = |image: &str| {
        format!(
            r#"{{"apiVersion": "audit.k8s.io/v1", "kind": "Event", "stage": "ResponseComplete", "verb": "create",
                "requestObject": {{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "x"}},
                                   "spec": {{"containers": [{{"name": "x", "image": "{image}"}}]}}}}}}"#
        )
        .replace('\n', " ")
    };
    let read =
        r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Event", "stage": "ResponseComplete", "verb": "get"}"#;
    write("audit.jsonl", &[&request("nginx"), read, &request("nginx:1.29")]);
    desk.plugin(&["test", "own-admission", "audit.jsonl"])
        .says("--bless");
    desk.plugin(&["test", "own-admission", "audit.jsonl", "--bless"])
        .says("audit.jsonl.golden");
    desk.plugin(&["test", "own-admission", "audit.jsonl"])
        .says("2 of 2 cases passed");
    write("audit.jsonl", &[&request("nginx:1.29"), &request("nginx:1.29")]);
    desk.plugin(&["test", "own-admission", "audit.jsonl"])
        .says("audit.jsonl:1")
        .says("1 of 2 cases passed");
}

#[test]
fn what_is_wrong_is_said() {
    let desk = Desk::new();
    desk.project("own", "admission", "rust");
    let fails = |arguments: &[&str], wanted: &str| {
        let answer = desk.plugin(arguments);
        assert!(!answer.ok, "{}", answer.all());
        answer.says(wanted);
    };
    fails(&["new", "own"], "is not empty");
    fails(&["new", "Own"], "is not a plugin's name");
    fails(&["new", "other", "--world", "weather"], "rust/admission");
    fs::create_dir(desk.path("empty")).expect("a folder");
    fails(&["build", "empty"], "no plugin's project");
    fails(&["test", "empty"], "no plugin's project");
    let cases = |text: &str| fs::write(desk.path("cases.yaml"), text).expect("a file");
    let test = |wanted: &str| fails(&["test", "own", "cases.yaml"], wanted);
    test("No such file");
    cases("cases: [{ name: a, admision: {} }]");
    test("unknown field `admision`");
    cases("cases: [{ name: a, remedy: { node: {} }, expect: {} }]");
    test("asks the remedy world, but the component implements admission");
    cases("cases: [{ name: a, expect: {} }]");
    test("one of admission, problem");
    cases("{ spec: { config: { a: 1 } }, cases: [{ name: a, admission: { object: {} }, expect: {} }] }");
    test("spec.config");
    let pod = "apiVersion: v1, kind: Pod, metadata: { name: a }, spec: { containers: [{ image: x }] }";
    cases(&format!(
        "cases: [{{ name: a, admission: {{ object: {{ {pod} }} }}, expect: {{ verdict: allow }} }}]"
    ));
    test("expected \"allow\", got \"deny\"");
    fs::write(desk.path("text.wasm"), "hello").expect("a file");
    fails(&["inspect", "text.wasm"], "not a WebAssembly component");
}

#[test]
fn inspect_tells_what_a_version_newly_reaches() {
    let desk = Desk::new();
    let manifest = |name: &str, component: &str, grants: &str| {
        let file = component_path(component);
        let text = format!(
            "kind: Plugin\nspec:\n  source: {{ file: '{}' }}\n  capabilities: [{grants}]\n",
            file.display()
        );
        fs::write(desk.path(name), text).expect("a file");
    };
    manifest(
        "old.yaml",
        "admission-labels",
        "{ name: kube-read, resources: [pods] }",
    );
    manifest(
        "new.yaml",
        "admission-labels",
        "{ name: kube-read, resources: [pods, secrets] }",
    );
    let told = desk.plugin(&["inspect", "new.yaml", "--against", "old.yaml"]);
    println!("{}", told.all());
    told.says("worlds       admission")
        .says("admission/validate")
        .says("newly granted: reads secrets in all namespaces");
    let other = component_path("problem-pressure");
    let told = desk.plugin(&["inspect", &other.display().to_string(), "--against", "old.yaml"]);
    told.says("newly exports problem/monitor")
        .says("no longer exports admission/validate");
}

fn component_path(name: &str) -> PathBuf {
    let path = capstan_tests::component(name);
    assert!(Path::new(&path).is_absolute());
    path
}

/// The cluster sees what the author rebuilt, without being told.
#[test]
fn a_rebuilt_file_is_swapped_in() {
    let desk = Desk::new();
    let cluster = Cluster::start();
    desk.project("rebuilt", "admission", "rust");
    load(&cluster, &desk, "rebuilt");
    refuses_images_without_a_tag(&cluster, "rebuilt");
    let source = desk.path("rebuilt/src/lib.rs");
    let text = fs::read_to_string(&source).expect("the source");
    fs::write(&source, text.replace("has no tag", "wants a tag")).expect("the source");
    desk.plugin(&["build", "rebuilt"]).says("rebuilt.wasm");
    until("the new verdict", || {
        let refused = cluster.kubectl(&["run", "x", "--image=nginx", "--dry-run=server"]);
        let text = refused.all();
        text.contains("wants a tag").then_some(()).ok_or(text)
    });
}

/// Names the worlds whose templates are tried in other languages, besides admission: `all`, or some.
const WORLDS: &str = "CAPSTAN_TEMPLATE_WORLDS";

/// Builds a language's templates and asks them their cases. An interpreter takes long to build: CI tries one more world,
/// `CAPSTAN_TEMPLATE_WORLDS=all` all of them.
fn templates(desk: &Desk, language: &str, in_ci: &str) {
    let wanted = std::env::var(WORLDS).unwrap_or_else(|_| in_ci.to_owned());
    for world in ["problem", "remedy", "scheduler", "sidecar"] {
        if wanted != "all" && !wanted.split(',').any(|one| one == world) {
            continue;
        }
        let name = format!("own-{language}-{world}");
        desk.project(&name, world, language);
        let tested = desk.plugin(&["test", &name]);
        println!("{}", tested.all());
        assert!(tested.ok, "{}", tested.all());
        let inspected = desk.plugin(&["inspect", &name]);
        assert!(!inspected.out.contains("wasi:"), "{}", inspected.out);
    }
}

/// From an empty folder to a live cluster in another language.
fn speaks(desk: Option<Desk>, language: &str, in_ci: Option<&str>) {
    let Some(desk) = desk else { return };
    let cluster = Cluster::start();
    // An interpreter takes long to compile: once for both.
    fs::create_dir_all(desk.path("cache/capstan")).expect("a folder");
    std::os::unix::fs::symlink(
        cluster.data_dir().join("plugins"),
        desk.path("cache/capstan/components"),
    )
    .expect("a link");
    if let Some(in_ci) = in_ci {
        templates(&desk, language, in_ci);
    }
    let name = format!("own-{language}");
    desk.project(&name, "admission", language);
    let tested = desk.plugin(&["test", &name]);
    println!("{}", tested.all());
    assert!(tested.ok, "{}", tested.all());
    tested.says("2 of 2 cases passed");
    // Its imports are the request's own objects: nothing ambient.
    let inspected = desk.plugin(&["inspect", &name]);
    println!("{}", inspected.all());
    inspected.says("needs        nothing");
    assert!(!inspected.out.contains("wasi:"), "{}", inspected.out);
    load(&cluster, &desk, &name);
    refuses_images_without_a_tag(&cluster, &name);
}

#[test]
fn python_makes_a_policy() {
    let tool = "componentize-py/bin/componentize-py";
    speaks(
        Desk::with_tool("CAPSTAN_COMPONENTIZE_PY", "", "componentize-py", tool),
        "python",
        Some("problem"),
    );
}

#[test]
fn javascript_makes_a_policy() {
    let tool = "componentize-js/node_modules/@bytecodealliance";
    let desk = Desk::with_tool("CAPSTAN_NODE", "node", "componentize-js", tool);
    let desk = desk.map(|mut desk| {
        desk.tools.push((
            "CAPSTAN_NODE_MODULES",
            root().join("target/tools/componentize-js"),
        ));
        desk
    });
    speaks(desk, "javascript", Some("scheduler"));
}

#[test]
fn c_makes_a_policy() {
    let desk = Desk::with_tool("CAPSTAN_ZIG_PYTHON", "python3", "zig", "zig/ziglang/__init__.py");
    speaks(desk, "c", None);
}

/// The cases of the default policies are documentation that holds.
#[test]
fn the_default_policies_answer_their_cases() {
    let desk = Desk::new();
    let mut tested = 0;
    for entry in fs::read_dir(root().join("plugins")).expect("the plugins") {
        let folder = entry.expect("a folder").path();
        let cases = folder.join("cases.yaml");
        if !cases.exists() {
            continue;
        }
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let component = component_path(&name);
        let answer = desk.plugin(&[
            "test",
            &component.display().to_string(),
            &cases.display().to_string(),
        ]);
        println!("{}", answer.all());
        assert!(answer.ok, "{}", answer.all());
        tested += 1;
    }
    assert!(tested >= 9, "{tested} policies have cases");
}
