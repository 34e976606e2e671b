//! Helm on a chart with hooks, a test, a definition and an object of it: with server-side apply, its default, and
//! without; and its output given to kubectl.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use capstan_tests::{Answer, Cluster, installed, until};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/chart");

/// All that a release of the chart consists of.
const KINDS: &str = "deployments,services,configmaps,secrets,serviceaccounts,roles,pdb,shelves,jobs,pods";

struct Helm {
    program: PathBuf,
    cluster: Cluster,
}

impl Helm {
    fn run(&self, arguments: &[&str]) -> Answer {
        let home = self.cluster.scratch();
        let output = Command::new(&self.program)
            .args(arguments)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("HOME", &home)
            .env_remove("HELM_NAMESPACE")
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        Answer {
            command: format!("helm {}", arguments.join(" ")),
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs, and the output must hold all of this.
    fn says(&self, arguments: &[&str], wanted: &[&str]) {
        let command = arguments.join(" ");
        let said = self.run(arguments).clean();
        for text in wanted {
            assert!(
                said.contains(text),
                "helm {command}: {text:?} is missing in\n{said}"
            );
        }
    }

    /// What kubectl reads at a path of an object.
    fn read(&self, object: &str, path: &str) -> String {
        let path = format!("jsonpath={path}");
        self.cluster.kubectl(&["get", object, "-o", &path]).clean()
    }

    /// The names of the objects of a release, of all kinds.
    fn objects(&self, release: &str) -> Vec<String> {
        let all = self.cluster.kubectl(&["get", KINDS, "-o", "name"]).clean();
        let own = all.lines().filter(|name| {
            name.rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with(release))
        });
        own.map(str::to_owned).collect()
    }
}

#[test]
fn a_chart_is_installed_upgraded_rolled_back_and_uninstalled() {
    let Some(program) = installed("Helm", "layer/helm/helm", "CAPSTAN_HELM") else {
        return;
    };
    let helm = Helm {
        program,
        cluster: Cluster::start(),
    };
    life_of_a_release(&helm, "shop", &[]);
    life_of_a_release(&helm, "old", &["--server-side=false"]);
    what_another_changed(&helm);
    kubectl_applies_what_helm_renders(&helm);
}

/// Each step waits for what it made; the extra flags go to the writing ones.
fn life_of_a_release(helm: &Helm, name: &str, flags: &[&str]) {
    let step = |arguments: &[&str], wanted: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--wait", "--timeout=60s"]);
        all.extend(flags);
        helm.says(&all, wanted);
    };
    step(
        &["install", name, CHART],
        &["STATUS: deployed", "REVISION: 1", &format!("{name} is red.")],
    );
    let deployment = format!("deployment/{name}");
    assert_eq!(helm.read(&deployment, "{.status.readyReplicas}"), "1");
    assert_eq!(
        helm.read(&format!("shelf/{name}"), "{.spec}"),
        r#"{"boards":3,"color":"red"}"#
    );
    let manager = helm.read(&deployment, "{.metadata.managedFields[0].operation}");
    assert_eq!(manager, if flags.is_empty() { "Apply" } else { "Update" });
    helm.says(&["list"], &[name, "deployed", "shop-0.1.0"]);
    helm.says(&["status", name], &["v1/Deployment", "v1/Pod(related)", "1/1"]);

    let values = ["--set=replicas=2", "--set=color=blue", "--set=extra=true"];
    step(
        &[&["upgrade", name, CHART][..], &values].concat(),
        &["STATUS: deployed", "REVISION: 2", &format!("{name} is blue.")],
    );
    assert_eq!(helm.read(&deployment, "{.status.readyReplicas}"), "2");
    assert_eq!(helm.read(&format!("configmap/{name}"), "{.data.extra}"), "yes");
    assert_eq!(helm.read(&format!("shelf/{name}"), "{.spec.color}"), "blue");
    helm.says(
        &["test", name, "--logs"],
        &["Succeeded", "arguments main say blue"],
    );
    helm.says(&["get", "values", name], &["color: blue"]);

    step(&["rollback", name, "1"], &["Rollback was a success!"]);
    assert_eq!(
        helm.read(&format!("configmap/{name}"), "{.data}"),
        r#"{"color":"red","revision":"1"}"#
    );
    assert_eq!(helm.read(&deployment, "{.spec.replicas}"), "1");
    let left = helm.objects(name);
    let extra = |one: &String| one.starts_with("poddisruptionbudget");
    assert!(left.len() > 6 && !left.iter().any(extra), "{left:?}");
    helm.says(
        &["history", name],
        &["superseded", "Rollback to 1", "Upgrade complete"],
    );

    helm.says(&["uninstall", name, "--wait", "--timeout=60s"], &["uninstalled"]);
    // The test's pod stays by its own wish; the others end after what made them.
    let stays = format!("pod/{name}-test");
    until("the release's end", || {
        let left = helm.objects(name);
        if left.iter().eq([&stays]) {
            Ok(())
        } else {
            Err(left.join(" "))
        }
    });
    assert_eq!(helm.run(&["list", "-q"]).clean(), "");
}

/// A field that somebody else took is a conflict of server-side apply, until it is forced.
fn what_another_changed(helm: &Helm) {
    helm.says(&["install", "shared", CHART], &["STATUS: deployed"]);
    helm.cluster
        .kubectl(&["label", "deployment", "shared", "color=green", "--overwrite"])
        .clean();
    let upgrade = ["upgrade", "shared", CHART, "--set=color=blue"];
    let refused = helm.run(&upgrade).refused();
    assert!(
        refused.contains(r#"conflict with "kubectl-label" using apps/v1: .metadata.labels.color"#),
        "{refused}"
    );
    let forced = [&upgrade[..], &["--force-conflicts"]].concat();
    helm.says(&forced, &["REVISION: 3"]);
    assert_eq!(helm.read("deployment/shared", "{.metadata.labels.color}"), "blue");
    helm.says(&["uninstall", "shared", "--wait"], &["uninstalled"]);
}

fn kubectl_applies_what_helm_renders(helm: &Helm) {
    let rendered = helm
        .run(&["template", "plain", CHART, "--no-hooks", "--skip-tests"])
        .clean();
    let apply = |wanted: &str| {
        let said = helm
            .cluster
            .run(&["apply", "--server-side", "-f", "-"], &rendered)
            .clean();
        assert_eq!(
            said.lines().filter(|line| line.ends_with(wanted)).count(),
            7,
            "{said}"
        );
    };
    apply("serverside-applied");
    let version = helm.read("deployment/plain", "{.metadata.generation}");
    apply("serverside-applied");
    assert_eq!(helm.read("deployment/plain", "{.metadata.generation}"), version);
    let said = helm
        .cluster
        .run(&["delete", "-f", "-", "--timeout=60s"], &rendered)
        .clean();
    assert_eq!(said.lines().count(), 7, "{said}");
}
