//! Who the cluster's own parts are to the API server, by its audit log: each acts under the identity that the
//! original's part has, none but the installer is in `system:masters`, and none is refused what it asks for. The
//! flags of audit and of admission go through the binary with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use capstan_tests::{Cluster, ClusterOptions, until};
use serde_json::Value;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{ level: Metadata }]
";

/// Work for most of the parts; the namespace is deleted in the end.
const WORK: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: work }
---
apiVersion: v1
kind: ResourceQuota
metadata: { name: some, namespace: work }
spec: { hard: { pods: 20 } }
---
apiVersion: v1
kind: LimitRange
metadata: { name: some, namespace: work }
spec: { limits: [{ type: Container, default: { memory: 16Mi } }] }
---
apiVersion: v1
kind: Secret
metadata: { name: key, namespace: work }
stringData: { a: b }
---
apiVersion: v1
kind: Secret
metadata: { name: token, namespace: work, annotations: { kubernetes.io/service-account.name: default } }
type: kubernetes.io/service-account-token
---
apiVersion: v1
kind: ConfigMap
metadata: { name: settings, namespace: work }
data: { a: b }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: work }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      volumes:
      - { name: key, secret: { secretName: key } }
      - { name: settings, configMap: { name: settings } }
      containers:
      - name: main
        image: capstan.dev/hello-http:1
        envFrom: [{ secretRef: { name: key } }]
        volumeMounts: [{ name: key, mountPath: /key }, { name: settings, mountPath: /settings }]
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: work }
spec: { selector: { app: web }, ports: [{ port: 8080 }] }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: web, namespace: work }
spec: { minAvailable: 1, selector: { matchLabels: { app: web } } }
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: db, namespace: work }
spec:
  serviceName: web
  selector: { matchLabels: { app: db } }
  template:
    metadata: { labels: { app: db } }
    spec: { terminationGracePeriodSeconds: 1, containers: [{ name: main, image: capstan.dev/hello-http:1 }] }
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: each, namespace: work }
spec:
  selector: { matchLabels: { app: each } }
  template:
    metadata: { labels: { app: each } }
    spec: { terminationGracePeriodSeconds: 1, containers: [{ name: main, image: capstan.dev/hello-http:1 }] }
---
apiVersion: batch/v1
kind: CronJob
metadata: { name: often, namespace: work }
spec:
  schedule: '* * * * *'
  jobTemplate: { spec: { template: { spec: { restartPolicy: Never, containers: [{ name: main, image: capstan.dev/hello-cli:1 }] } } } }
---
apiVersion: batch/v1
kind: Job
metadata: { name: once, namespace: work }
spec:
  ttlSecondsAfterFinished: 0
  template: { spec: { restartPolicy: Never, containers: [{ name: main, image: capstan.dev/hello-cli:1 }] } }
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: disk, namespace: work }
spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: 1Mi } } }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: more-view, labels: { rbac.authorization.k8s.io/aggregate-to-view: 'true' } }
rules: [{ apiGroups: [example.com], resources: [things], verbs: [get] }]
";

/// A part's work, by its user, verb and resource.
const ACTS: [&str; 22] = [
    "system:node:capstan create nodes",
    "system:node:capstan patch nodes/status",
    "system:node:capstan create leases",
    "system:node:capstan watch pods",
    "system:node:capstan watch secrets",
    "system:node:capstan patch pods/status",
    "system:node:capstan create serviceaccounts/token",
    "system:node:capstan delete pods",
    "system:kube-scheduler create pods/binding",
    "system:kube-controller-manager update secrets",
    "system:kube-controller-manager create events",
    "system:serviceaccount:kube-system:deployment-controller create replicasets",
    "system:serviceaccount:kube-system:replicaset-controller create pods",
    "system:serviceaccount:kube-system:daemon-set-controller create pods",
    "system:serviceaccount:kube-system:statefulset-controller create pods",
    "system:serviceaccount:kube-system:job-controller create pods",
    "system:serviceaccount:kube-system:ttl-after-finished-controller delete jobs",
    "system:serviceaccount:kube-system:endpointslice-controller create endpointslices",
    "system:serviceaccount:kube-system:pvc-protection-controller update persistentvolumeclaims",
    "system:serviceaccount:kube-system:clusterrole-aggregation-controller patch clusterroles",
    "system:serviceaccount:kube-system:namespace-controller deletecollection pods",
    "system:serviceaccount:kube-system:plugin-host update plugins/status",
];

fn entries(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).expect("the audit log");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a line is an event"))
        .collect()
}

fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn act(event: &Value) -> String {
    let slash = match text(event, "/objectRef/subresource") {
        "" => String::new(),
        subresource => format!("/{subresource}"),
    };
    let [user, verb, resource] =
        ["/user/username", "/verb", "/objectRef/resource"].map(|pointer| text(event, pointer));
    format!("{user} {verb} {resource}{slash}")
}

fn done(cluster: &Cluster) {
    let ready = |kind: &str, path: &str, count: u64| {
        until(&format!("{kind} to have {path} {count}"), || {
            let seen = cluster.get(&["-n", "work", kind])?;
            match seen.pointer(path) == Some(&Value::from(count)) {
                true => Ok(()),
                false => Err(seen["status"].to_string()),
            }
        });
    };
    ready("deployment/web", "/status/readyReplicas", 2);
    ready("statefulset/db", "/status/readyReplicas", 1);
    ready("daemonset/each", "/status/numberReady", 1);
    ready("pdb/web", "/status/currentHealthy", 2);
    until("the job to be done and cleared", || {
        let jobs = cluster.get(&["-n", "work", "jobs"])?;
        let named = |job: &Value| job["metadata"]["name"] == "once";
        match jobs["items"].as_array().is_some_and(|all| all.iter().any(named)) {
            true => Err(jobs["items"].to_string()),
            false => Ok(()),
        }
    });
    until("the token", || {
        let secret = cluster.get(&["-n", "work", "secret/token"])?;
        match secret["data"]["token"].is_string() {
            true => Ok(()),
            false => Err(secret.to_string()),
        }
    });
    let pods = cluster
        .get(&["-n", "work", "pods", "-l", "app=web"])
        .expect("pods");
    let resources = &pods["items"][0]["spec"]["containers"][0]["resources"];
    assert_eq!(
        resources,
        &serde_json::json!({}),
        "the limit range is switched off"
    );
    cluster
        .kubectl(&["-n", "work", "delete", "pvc/disk", "--timeout=60s"])
        .clean();
    cluster
        .kubectl(&["delete", "namespace/work", "--timeout=90s"])
        .clean();
}

#[test]
fn the_parts_act_as_themselves_and_are_refused_nothing() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let (policy, log) = (
        scratch.path().join("policy.yaml"),
        scratch.path().join("audit.log"),
    );
    std::fs::write(&policy, POLICY).expect("a temporary file");
    let flags = [
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log.display()),
        "--disable-admission-plugins=LimitRanger".to_owned(),
    ];
    let mut cluster = Cluster::with(ClusterOptions {
        flags: flags.to_vec(),
        ..Default::default()
    });
    let node = cluster.get(&["node", "capstan"]).expect("the node");
    assert_eq!(
        node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"], "",
        "the control plane's node says so"
    );
    cluster.apply(WORK).clean_or_warned();
    done(&cluster);
    assert!(cluster.stop(), "it ends when asked");

    let events = entries(&log);
    let mut acts = BTreeSet::new();
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    let mut masters = BTreeSet::new();
    for event in &events {
        let user = text(event, "/user/username");
        let act = act(event);
        let groups = event["user"]["groups"].as_array().into_iter().flatten();
        if groups.into_iter().any(|group| group == "system:masters") {
            masters.insert(user.to_owned());
        }
        let message = text(event, "/responseStatus/message");
        let forbidden = text(event, "/annotations/authorization.k8s.io~1decision") == "forbid";
        // NodeRestriction is admission, and refuses later; so is the end of a namespace, which everybody may meet.
        let ending = message.ends_with("because it is being terminated");
        let restricted =
            event["responseStatus"]["code"] == 403 && user.starts_with("system:node:") && !ending;
        if forbidden || restricted {
            refused.insert(act.clone(), message.to_owned());
        }
        acts.insert(act);
    }
    println!(
        "{} requests, {} acts, masters {masters:?}",
        events.len(),
        acts.len()
    );
    assert_eq!(refused, BTreeMap::new(), "refused");
    let only = BTreeSet::from(["kubernetes-admin".to_owned()]);
    assert_eq!(masters, only, "in system:masters");
    let missing: Vec<_> = ACTS.iter().filter(|act| !acts.contains(**act)).collect();
    assert!(missing.is_empty(), "nobody did {missing:?} among {acts:#?}");
}
