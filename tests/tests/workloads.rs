//! Workloads through kubectl: StatefulSet, CronJob, DaemonSet and Job, of real pods.

use std::time::Duration;

use capstan_tests::{Cluster, ClusterOptions, until, until_within};
use serde_json::Value;

const STATEFUL: &str = "
apiVersion: v1
kind: Service
metadata: { name: peers }
spec: { clusterIP: None, selector: { app: db }, ports: [{ port: 8080 }] }
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: db }
spec:
  serviceName: peers
  replicas: 3
  selector: { matchLabels: { app: db } }
  template:
    metadata: { labels: { app: db } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: capstan.dev/hello-http:1
          ports: [{ containerPort: 8080 }]
          env: [{ name: VERSION, value: one }]
";

/// The pods of a selector by name: the value of VERSION, and the uid.
fn versions(cluster: &Cluster, selector: &str) -> Vec<(String, String, String)> {
    let pods = cluster.get(&["pods", "-l", selector]).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = pods["items"].as_array().into_iter().flatten();
    let mut all: Vec<_> = items
        .map(|pod| {
            let version = &pod["spec"]["containers"][0]["env"][0]["value"];
            (
                text(&pod["metadata"]["name"]),
                text(version),
                text(&pod["metadata"]["uid"]),
            )
        })
        .collect();
    all.sort();
    all
}

fn summary(all: &[(String, String, String)]) -> String {
    let each: Vec<_> = all
        .iter()
        .map(|(name, version, _)| format!("{name} {version}"))
        .collect();
    each.join(", ")
}

#[test]
fn a_stateful_set_keeps_names_and_order() {
    let cluster = Cluster::start();
    cluster.apply(STATEFUL).clean();
    cluster
        .kubectl(&["rollout", "status", "statefulset/db", "--timeout=60s"])
        .clean();
    let first = versions(&cluster, "app=db");
    assert_eq!(summary(&first), "db-0 one, db-1 one, db-2 one");
    let pods = cluster.get(&["pods", "-l", "app=db"]).unwrap();
    let created = |index: usize| {
        pods["items"][index]["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(created(0) <= created(1) && created(1) <= created(2));
    assert_eq!(pods["items"][1]["spec"]["hostname"], "db-1");

    // A partition holds back those below it; without it all follow, the last first.
    let partition = r#"{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}}}}"#;
    cluster
        .kubectl(&["patch", "statefulset", "db", "-p", partition])
        .clean();
    cluster
        .kubectl(&["set", "env", "statefulset/db", "VERSION=two"])
        .clean();
    cluster
        .kubectl(&["rollout", "status", "statefulset/db", "--timeout=60s"])
        .clean();
    assert_eq!(
        summary(&versions(&cluster, "app=db")),
        "db-0 one, db-1 one, db-2 two"
    );
    cluster.delete("pod", "db-0");
    until("db-0 to be there again, of the old revision", || {
        let now = versions(&cluster, "app=db");
        let again = summary(&now) == "db-0 one, db-1 one, db-2 two" && now[0].2 != first[0].2;
        if again { Ok(()) } else { Err(summary(&now)) }
    });
    let partition = partition.replace('2', "0");
    cluster
        .kubectl(&["patch", "statefulset", "db", "-p", &partition])
        .clean();
    cluster
        .kubectl(&["rollout", "status", "statefulset/db", "--timeout=60s"])
        .clean();
    assert_eq!(
        summary(&versions(&cluster, "app=db")),
        "db-0 two, db-1 two, db-2 two"
    );
    cluster.kubectl(&["rollout", "undo", "statefulset/db"]).clean();
    cluster
        .kubectl(&["rollout", "status", "statefulset/db", "--timeout=60s"])
        .clean();
    assert_eq!(
        summary(&versions(&cluster, "app=db")),
        "db-0 one, db-1 one, db-2 one"
    );

    cluster
        .kubectl(&["scale", "statefulset/db", "--replicas=1"])
        .clean();
    until("the last to go first", || {
        let now = summary(&versions(&cluster, "app=db"));
        assert!(!now.is_empty() && now.starts_with("db-0"), "{now}");
        if now == "db-0 one" { Ok(()) } else { Err(now) }
    });
    let table = cluster.kubectl(&["get", "statefulsets"]).clean();
    assert!(table.contains("READY") && table.contains("1/1"), "{table}");
    cluster.delete("statefulset", "db");
    until("pods and revisions to go with the set", || {
        cluster.none(&["pods,controllerrevisions"])
    });
}

#[test]
fn a_parallel_stateful_set_claims_volumes() {
    let cluster = Cluster::start();
    let set = "
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: kv }
spec:
  serviceName: kv
  replicas: 2
  podManagementPolicy: Parallel
  selector: { matchLabels: { app: kv } }
  template:
    metadata: { labels: { app: kv } }
    spec: { containers: [{ name: main, image: 'capstan.dev/hello-http:1' }] }
  volumeClaimTemplates:
    - metadata: { name: data }
      spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: 1Mi } } }
";
    cluster.apply(set).clean();
    until("both pods at once, and their claims", || {
        let pods = cluster.get(&["pods", "-l", "app=kv"])?;
        let claims = cluster.get(&["persistentvolumeclaims", "-l", "app=kv"])?;
        let names = |list: &Value| -> Vec<String> {
            let items = list["items"].as_array().into_iter().flatten();
            items
                .filter_map(|item| Some(item["metadata"]["name"].as_str()?.to_owned()))
                .collect()
        };
        let seen = (names(&pods), names(&claims));
        let wanted = (
            vec!["kv-0".to_owned(), "kv-1".to_owned()],
            vec!["data-kv-0".to_owned(), "data-kv-1".to_owned()],
        );
        if seen == wanted {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    cluster.delete("statefulset", "kv");
    let claims = cluster.get(&["persistentvolumeclaims"]).unwrap();
    assert_eq!(
        claims["items"].as_array().map(Vec::len),
        Some(2),
        "claims outlive the set"
    );
}

#[test]
fn a_cron_job_starts_jobs_at_its_time() {
    let cluster = Cluster::start();
    cluster
        .kubectl(&[
            "create",
            "cronjob",
            "tick",
            "--schedule=* * * * *",
            "--image=capstan.dev/hello-cli:1",
            "--",
            "say",
            "tock",
        ])
        .clean();
    // `--` gives a command; hello-cli takes arguments.
    let arguments = r#"[{"op":"move","from":"/spec/jobTemplate/spec/template/spec/containers/0/command",
        "path":"/spec/jobTemplate/spec/template/spec/containers/0/args"}]"#;
    cluster
        .kubectl(&["patch", "cronjob", "tick", "--type=json", "-p", arguments])
        .clean();
    // It ran long ago: it is due.
    let then = cluster.get(&["cronjob", "tick"]).unwrap()["metadata"]["creationTimestamp"].clone();
    let then = then.as_str().expect("a time").replacen("20", "19", 1);
    let status = format!(r#"{{"status":{{"lastScheduleTime":"{then}"}}}}"#);
    cluster
        .kubectl(&[
            "patch",
            "cronjob",
            "tick",
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ])
        .clean();
    let job = until_within(Duration::from_secs(90), "a job that is complete", || {
        let jobs = cluster.get(&["jobs"])?;
        let done = jobs["items"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|job| job["status"]["succeeded"] == 1);
        done.and_then(|job| Some(job["metadata"]["name"].as_str()?.to_owned()))
            .ok_or(jobs.to_string())
    });
    let minute = job
        .strip_prefix("tick-")
        .and_then(|minute| minute.parse::<u64>().ok());
    assert!(minute.is_some(), "{job} tells its minute");
    let log = cluster.kubectl(&["logs", &format!("job/{job}")]).clean();
    assert!(log.contains("tock"), "{log}");
    until("its last success to be told", || {
        let cron = cluster.get(&["cronjob", "tick"])?;
        if cron["status"]["lastSuccessfulTime"].is_string() {
            Ok(())
        } else {
            Err(cron["status"].to_string())
        }
    });
    cluster
        .kubectl(&["create", "job", "now", "--from=cronjob/tick"])
        .clean();
    cluster
        .kubectl(&["wait", "--for=condition=Complete", "job/now", "--timeout=60s"])
        .clean();
    cluster.delete("cronjob", "tick");
    until("its jobs and their pods to go with it", || {
        cluster.none(&["jobs,pods"])
    });
}

#[test]
fn jobs_complete_in_parallel_or_fail_after_their_limit() {
    let cluster = Cluster::start();
    let job = "
apiVersion: batch/v1
kind: Job
metadata: { name: NAME }
spec:
  SPEC
  template:
    spec:
      restartPolicy: Never
      containers: [{ name: main, image: 'capstan.dev/hello-cli:1', args: ARGS }]
---
";
    let with = |name: &str, spec: &str, args: &str| {
        job.replace("NAME", name)
            .replace("SPEC", spec)
            .replace("ARGS", args)
    };
    let indexed = with(
        "good",
        "completions: 3\n  parallelism: 2\n  completionMode: Indexed",
        "[say, done]",
    );
    cluster
        .apply(&(indexed + &with("bad", "backoffLimit: 0", "[fail]")))
        .clean();
    cluster
        .kubectl(&["wait", "--for=condition=Complete", "job/good", "--timeout=60s"])
        .clean();
    cluster
        .kubectl(&["wait", "--for=condition=Failed", "job/bad", "--timeout=60s"])
        .clean();
    let good = cluster.get(&["job", "good"]).unwrap();
    assert_eq!(
        (&good["status"]["succeeded"], &good["status"]["completedIndexes"]),
        (&3.into(), &"0-2".into()),
        "{good}"
    );
    let described = cluster.kubectl(&["describe", "job", "bad"]).clean();
    assert!(described.contains("BackoffLimitExceeded"), "{described}");
    let table = cluster.kubectl(&["get", "jobs"]).clean();
    assert!(table.contains("3/3") && table.contains("Failed"), "{table}");
}

#[test]
fn a_daemon_runs_on_every_node_and_is_rolled() {
    let cluster = Cluster::with(ClusterOptions {
        nodes: 2,
        ..Default::default()
    });
    let set = "
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: agent }
spec:
  selector: { matchLabels: { app: agent } }
  template:
    metadata: { labels: { app: agent } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: capstan.dev/hello-http:1
          env: [{ name: VERSION, value: one }]
";
    cluster.apply(set).clean();
    cluster
        .kubectl(&["rollout", "status", "daemonset/agent", "--timeout=60s"])
        .clean();
    let pods = cluster.get(&["pods", "-l", "app=agent"]).unwrap();
    let mut nodes: Vec<_> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pod| pod["spec"]["nodeName"].as_str())
        .collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["capstan", "capstan-2"]);
    cluster
        .kubectl(&["set", "env", "daemonset/agent", "VERSION=two"])
        .clean();
    cluster
        .kubectl(&["rollout", "status", "daemonset/agent", "--timeout=60s"])
        .clean();
    let now = versions(&cluster, "app=agent");
    assert!(
        now.len() == 2 && now.iter().all(|(_, version, _)| version == "two"),
        "{now:?}"
    );
}
