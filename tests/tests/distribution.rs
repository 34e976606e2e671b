//! Components on their way into a cluster: by a real registry with a password, by a file without any registry, and from
//! the author's desk, with `capstan plugin push | pull | bundle | load | watch`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use capstan_tests::{Answer, Cluster, Registry, binary, component, root, until_within};
use serde_json::{Value, json};

/// How long a project may take to build and load.
const BUILD_BOUND: Duration = Duration::from_secs(180);

/// An author with a key, a login and a cluster.
struct Author<'a> {
    cluster: &'a Cluster,
    login: PathBuf,
}

impl Author<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("plugin").args(arguments);
        command
            .current_dir(self.cluster.scratch())
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("DOCKER_CONFIG", &self.login)
            .env("XDG_CACHE_HOME", self.cluster.scratch().join("cache"))
            .stdin(Stdio::null());
        command
    }

    fn plugin(&self, arguments: &[&str]) -> Answer {
        let output = self.command(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("capstan: {error}"));
        Answer::new(format!("capstan plugin {}", arguments.join(" ")), &output)
    }
}

/// A policy that allows images of one registry only.
fn manifest(cluster: &Cluster, secrets: &Value) -> PathBuf {
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
    let object = json!({
        "apiVersion": "plugins.capstan.dev/v1", "kind": "Plugin", "metadata": {"name": "policy"},
        "spec": {
            "source": {"pullSecrets": secrets},
            "config": {"allowedRegistries": ["registry.example"]},
            "bind": {"admission": {"rules": [rule]}},
        },
    });
    cluster.file("policy.yaml", &object.to_string())
}

fn trust(cluster: &Cluster, key: &Path) {
    let public = fs::read_to_string(key).expect("a public key");
    let spec = json!({"keys": [{"name": "release", "publicKey": public}], "worlds": ["admission"]});
    let object = json!({"apiVersion": "plugins.capstan.dev/v1", "kind": "PluginTrust",
                        "metadata": {"name": "platform"}, "spec": spec});
    cluster.apply(&object.to_string()).clean();
}

/// A Secret with the registry's password, which the plugin host may read.
fn password(cluster: &Cluster, registry: &Registry) -> Value {
    let name = json!({"namespace": "kube-system", "name": "registry"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": name,
                        "type": "kubernetes.io/dockerconfigjson",
                        "stringData": {".dockerconfigjson": registry.login().to_string()}});
    cluster.apply(&secret.to_string()).clean();
    let kubectl = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        cluster.kubectl(&arguments).clean();
    };
    kubectl("create role plugin-pull -n kube-system --verb=get --resource=secrets --resource-name=registry");
    kubectl(
        "create rolebinding plugin-pull -n kube-system --role=plugin-pull --serviceaccount=kube-system:plugin-host",
    );
    json!([name])
}

fn enforces(cluster: &Cluster) {
    let refused = cluster
        .kubectl(&["run", "x", "--image=elsewhere.example/x:1", "--dry-run=server"])
        .refused();
    assert!(refused.contains("registry.example"), "{refused}");
}

/// What another tool finds in the registry: the layout of Wasm artifacts, and signatures in both forms.
fn layout(registry: &Registry) -> String {
    let manifest = registry.document("team/policy/manifests/1").expect("a manifest");
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1));
    let tags = registry.document("team/policy/tags/list").expect("tags");
    let tags: Vec<&str> = tags["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let statement = tags
        .iter()
        .find(|tag| tag.ends_with(".sig"))
        .expect("a signed statement");
    let digest = statement.trim_end_matches(".sig").to_owned();
    let referrers = registry
        .document(&format!("team/policy/manifests/{digest}"))
        .expect("referrers");
    assert_eq!(
        referrers["manifests"][0]["artifactType"],
        "application/vnd.dev.sigstore.bundle.v0.3+json"
    );
    digest.replacen('-', ":", 1)
}

#[test]
fn a_signed_component_travels_by_a_registry_and_without_one() {
    let Some(mut registry) = Registry::start() else {
        return;
    };
    let mut cluster = Cluster::start();
    let login = registry.docker_config();
    let author = Author {
        cluster: &cluster,
        login: login.clone(),
    };
    let policy = component("admission-image-policy");
    let policy = policy.to_str().expect("text");
    let reference = format!("{}/team/policy:1", registry.address());
    author.plugin(&["keygen", "release"]).clean();
    let pushed = author.plugin(&["push", policy, &reference, "--key", "release"]);
    pushed.says("with its signature").says("source: { oci: ");
    let digest = layout(&registry);

    // Without the password the cluster gets nothing, and says so.
    trust(&cluster, &cluster.scratch().join("release.pub"));
    let file = manifest(&cluster, &json!([]));
    let load = ["load", &reference, "-f", file.to_str().expect("text")];
    let refused = author.plugin(&load);
    assert!(!refused.ok, "{}", refused.all());
    refused.says("FetchFailed").says("not ready");

    manifest(&cluster, &password(&cluster, &registry));
    author.plugin(&load).clean();
    enforces(&cluster);
    let object = cluster.get(&["plugin", "policy"]).expect("the API serves");
    let oci = object["spec"]["source"]["oci"].as_str().unwrap_or_default();
    assert!(oci.ends_with(&format!("team/policy:1@{digest}")), "{object}");

    // Back on the author's desk, with its signature.
    author.plugin(&["pull", &reference, "-o", "back.wasm"]).clean();
    author
        .plugin(&["verify", "back.wasm", "--key", "release.pub"])
        .clean();
    author
        .plugin(&["inspect", &reference])
        .says("admission-image-policy");
    author
        .plugin(&["bundle", &reference, "-o", "policy.tar"])
        .says("1 signature");

    // The registry is away: what was fetched serves after a restart as well.
    registry.stop();
    assert!(cluster.stop(), "it stops when asked");
    cluster.up();
    enforces(&cluster);

    // A cluster that never saw the registry takes the file.
    cluster.kubectl(&["delete", "plugin", "policy"]).clean();
    let author = Author {
        cluster: &cluster,
        login,
    };
    let file = manifest(&cluster, &json!([]));
    author
        .plugin(&["load", "policy.tar", "-f", file.to_str().expect("text")])
        .clean();
    enforces(&cluster);
    let object = cluster.get(&["plugin", "policy"]).expect("the API serves");
    assert_eq!(
        object["spec"]["source"]["configMap"]["name"], "plugin-policy",
        "{object}"
    );
}

/// A save is a swap: nothing but the editor is touched.
#[test]
fn a_save_is_a_hot_swap() {
    let cluster = Cluster::start();
    let author = Author {
        cluster: &cluster,
        login: cluster.scratch(),
    };
    author.plugin(&["new", "watched"]).clean();
    let project = cluster.scratch().join("watched");
    fs::copy(root().join("Cargo.lock"), project.join("Cargo.lock")).expect("a lock file");
    let log = fs::File::create(cluster.scratch().join("watch.log")).expect("a log file");
    let mut watching = author.command(&["watch", "watched"]);
    watching.env("CARGO_TARGET_DIR", root().join("target/authoring"));
    let mut watching = watching
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("it starts");
    let says = |wanted: &str| {
        until_within(BUILD_BOUND, wanted, || {
            let refused = cluster.kubectl(&["run", "x", "--image=nginx", "--dry-run=server"]);
            let text = refused.all();
            let log = fs::read_to_string(cluster.scratch().join("watch.log")).unwrap_or_default();
            text.contains(wanted).then_some(()).ok_or(text + &log)
        });
    };
    let source = project.join("src/lib.rs");
    let text = fs::read_to_string(&source).expect("the source");
    says("has no tag");
    // What cannot be built leaves what runs alone; the next save is built.
    fs::write(&source, "no Rust").expect("the source");
    fs::write(&source, text.replace("has no tag", "wants a tag")).expect("the source");
    says("wants a tag");
    watching.kill().and_then(|()| watching.wait()).expect("it ends");
}
