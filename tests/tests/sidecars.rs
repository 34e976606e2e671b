//! Sidecar logic without a sidecar container: structured, redacted logs and a translated metrics page.

use capstan_tests::{Cluster, get, until};

#[test]
fn log_lines_are_redacted_and_structured() {
    let cluster = Cluster::start();
    let plugin = "
apiVersion: plugins.capstan.dev/v1
kind: Plugin
metadata: { name: structure }
spec:
  source: { bundled: sidecar-log-structure }
  config: { redact: [{ pattern: 'token=\\S+' }] }
  bind: { pods: { selector: { matchLabels: { logs: structured } } } }
";
    cluster.apply(plugin).clean();
    cluster
        .kubectl(&[
            "wait",
            "--for=condition=Ready",
            "plugin/structure",
            "--timeout=60s",
        ])
        .clean();
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: talker, labels: { logs: structured } }
spec:
  restartPolicy: Never
  containers: [{ name: main, image: 'capstan.dev/hello-cli:1', args: [say, 'token=abc123'] }]
";
    cluster.apply(pod).clean();
    cluster
        .kubectl(&[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            "pod/talker",
            "--timeout=60s",
        ])
        .clean();
    let log = until("the log", || {
        let log = cluster.kubectl(&["logs", "talker"]).out;
        if log.contains("msg") { Ok(log) } else { Err(log) }
    });
    assert!(!log.contains("abc123"), "{log}");
    for line in log.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["msg"].is_string() && line["stream"].is_string(), "{line}");
    }
    let containers = cluster.get(&["pod", "talker"]).unwrap()["spec"]["containers"]
        .as_array()
        .map(Vec::len);
    assert_eq!(containers, Some(1), "no container was added");
}

#[test]
fn a_metrics_page_is_served_in_the_prometheus_form() {
    let cluster = Cluster::start();
    let plugin = "
apiVersion: plugins.capstan.dev/v1
kind: Plugin
metadata: { name: metrics }
spec:
  source: { bundled: sidecar-metrics-adapter }
  config: { prefix: hello_, endpoints: [{ listenPort: 9090, upstreamPort: 8080, upstreamPath: /stats }] }
  bind: { pods: { selector: { matchLabels: { metrics: adapted } } } }
";
    cluster.apply(plugin).clean();
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: counted, labels: { metrics: adapted } }
spec:
  containers: [{ name: main, image: 'capstan.dev/hello-http:1', ports: [{ containerPort: 8080 }] }]
";
    cluster.apply(pod).clean();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/counted", "--timeout=60s"])
        .clean();
    let ip = cluster.get(&["pod", "counted"]).unwrap()["status"]["podIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    let page = until("the translated page", || get(&format!("{ip}:9090"), "/metrics"));
    assert!(page.contains("# TYPE hello_requests"), "{page}");
}
