//! Whose signatures may load: what is unsigned, changed after signing, forged or beyond its trust is refused by name,
//! and what served before goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use capstan_tests::{Answer, Cluster, binary, component, until};
use serde_json::json;

/// `capstan plugin …`.
fn plugin(arguments: &[&str]) -> Answer {
    let output = Command::new(binary()).arg("plugin").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("capstan: {error}"));
    Answer::new(format!("capstan plugin {}", arguments.join(" ")), &output)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name is text")
}

/// Applies a Plugin that allows images of one registry only.
fn apply(cluster: &Cluster, name: &str, file: &Path, more: serde_json::Value) {
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
    let mut spec = json!({
        "source": {"file": file},
        "config": {"allowedRegistries": ["registry.example"]},
        "bind": {"admission": {"rules": [rule]}},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let object = json!({"apiVersion": "plugins.capstan.dev/v1", "kind": "Plugin", "metadata": {"name": name},
                        "spec": spec});
    cluster.apply(&object.to_string()).clean();
}

/// Waits until the plugin's condition has this status and reason, with this in its message.
fn condition(cluster: &Cluster, plugin: &str, wanted: [&str; 3], message: &str) {
    until(&format!("{plugin}: {wanted:?}"), || {
        let object = cluster.get(&["plugin", plugin])?;
        let conditions = object["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == wanted[0]);
        let found = found.ok_or("no conditions yet")?;
        let holds = found["status"] == wanted[1]
            && (wanted[2].is_empty() || found["reason"] == wanted[2])
            && found["message"]
                .as_str()
                .is_some_and(|said| said.contains(message));
        holds.then_some(()).ok_or_else(|| found.to_string())
    });
    println!("{plugin}: {wanted:?} {message}");
}

/// The policy decides, whichever revision of it.
fn enforces(cluster: &Cluster) {
    cluster
        .kubectl(&["run", "x", "--image=elsewhere.example/x:1", "--dry-run=server"])
        .refused();
}

fn trust(cluster: &Cluster, key: &Path) {
    let public = fs::read_to_string(key).expect("a public key");
    let object = json!({
        "apiVersion": "plugins.capstan.dev/v1", "kind": "PluginTrust", "metadata": {"name": "platform"},
        "spec": {"keys": [{"name": "release", "publicKey": public}], "worlds": ["admission"], "capabilities": ["clock"]},
    });
    cluster.apply(&object.to_string()).clean();
}

#[test]
fn only_what_a_trusted_key_signed_takes_a_seat() {
    let mut cluster = Cluster::start();
    let folder = cluster.scratch();
    let at = |name: &str| -> PathBuf { folder.join(name) };
    let copy = |from: &str, to: &str| {
        let path = at(to);
        fs::copy(component(from), &path).expect("a copy");
        path
    };
    let policy = copy("admission-image-policy", "policy.wasm");
    for key in ["release", "other"] {
        plugin(&["keygen", text(&at(key))]).clean();
    }
    let sign = |component: &Path, key: &str| {
        plugin(&["sign", text(component), "--key", text(&at(key))]).clean();
    };
    // Nobody is asked for a signature yet.
    apply(&cluster, "policy", &policy, json!({}));
    condition(&cluster, "policy", ["Ready", "True", ""], "");
    enforces(&cluster);

    trust(&cluster, &at("release.pub"));
    condition(
        &cluster,
        "policy",
        ["Verified", "False", "Unsigned"],
        "capstan plugin sign",
    );
    enforces(&cluster);
    // What is embedded in the binary is trusted with it.
    condition(&cluster, "scheduler-resources", ["Ready", "True", ""], "");

    sign(&policy, "other");
    condition(
        &cluster,
        "policy",
        ["Verified", "False", "SignatureInvalid"],
        "platform/release",
    );
    sign(&policy, "release");
    condition(&cluster, "policy", ["Ready", "True", ""], "");
    plugin(&["verify", text(&policy), "--key", text(&at("release.pub"))]).clean();
    let other = plugin(&["verify", text(&policy), "--key", text(&at("other.pub"))]).refused();
    assert!(other.contains("was not made by this key"), "{other}");

    // A byte more: a custom section, so that it still is a component.
    let mut changed = fs::read(&policy).expect("the component");
    changed.extend([0, 2, 1, b'x']);
    fs::write(&policy, &changed).expect("the component");
    condition(
        &cluster,
        "policy",
        ["Verified", "False", "SignatureInvalid"],
        "is not what was signed",
    );
    enforces(&cluster);
    let verified = plugin(&["verify", text(&policy), "--key", text(&at("release.pub"))]).refused();
    assert!(verified.contains("is not what was signed"), "{verified}");

    // The signature in the object, also as text; and what the key is not trusted with.
    sign(&policy, "release");
    let beside = at("policy.wasm.sigstore.json");
    let bundle = fs::read_to_string(&beside).expect("a bundle");
    fs::remove_file(&beside).expect("a bundle");
    apply(
        &cluster,
        "policy",
        &policy,
        json!({"signature": {"bundle": bundle}}),
    );
    condition(&cluster, "policy", ["Ready", "True", ""], "");
    let granted = |name: &str| json!({"signature": {"bundle": bundle}, "capabilities": [{"name": name}]});
    apply(&cluster, "policy", &policy, granted("log"));
    condition(
        &cluster,
        "policy",
        ["Verified", "False", "NotTrusted"],
        "the capability log",
    );
    apply(&cluster, "policy", &policy, granted("clock"));
    condition(&cluster, "policy", ["Ready", "True", ""], "");
    let monitor = copy("problem-pressure", "monitor.wasm");
    sign(&monitor, "release");
    apply(
        &cluster,
        "monitor",
        &monitor,
        json!({"bind": {"nodes": {}}, "config": {}}),
    );
    condition(
        &cluster,
        "monitor",
        ["Verified", "False", "NotTrusted"],
        "the problem world",
    );

    // A restart knows whom to trust before it loads anything.
    assert!(cluster.stop(), "it stops when asked");
    cluster.up();
    condition(&cluster, "policy", ["Ready", "True", ""], "");
    condition(
        &cluster,
        "monitor",
        ["Verified", "False", "NotTrusted"],
        "the problem world",
    );
    enforces(&cluster);

    cluster.kubectl(&["delete", "plugintrust", "platform"]).clean();
    apply(&cluster, "policy", &policy, json!({}));
    condition(&cluster, "policy", ["Ready", "True", ""], "");
    condition(&cluster, "monitor", ["Ready", "True", ""], "");
}
