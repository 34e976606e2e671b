//! Pages in each form, and what they become.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::{
    Config, Fault, Plugin,
    sidecar::{Adapter, Page, StreamContext},
};
use sidecar_metrics_adapter::MetricsAdapter;

fn translate(extra: &str, body: &str) -> Result<String, Fault> {
    let config = format!(r#"{{"endpoints": [{{"listenPort": 9100, "upstreamPort": 8080}}]{extra}}}"#);
    let mut adapter = MetricsAdapter::new(Config::read(&config).unwrap()).unwrap();
    let context = StreamContext {
        namespace: "n".into(),
        pod: "p".into(),
        container: "c".into(),
        labels: vec![],
    };
    adapter
        .translate(
            &context,
            Page {
                content_type: String::new(),
                body: body.into(),
            },
        )
        .map(|page| page.body)
}

#[test]
fn every_form_becomes_prometheus_text() {
    for (extra, body, page) in [
        (
            r#", "prefix": "app_", "types": {"hits": "counter"}, "help": {"hits": "Hits so far."}"#,
            "# stats\nhits 12\nqueue.depth: 3.5\n",
            "# HELP app_hits Hits so far.\n# TYPE app_hits counter\napp_hits 12\n\
             # HELP app_queue_depth queue.depth as the workload reports it\n# TYPE app_queue_depth gauge\napp_queue_depth 3.5\n",
        ),
        (
            r#", "labels": {"team": "a"}"#,
            "req:1|c|#code:200\nreq:2|c|@0.5|#code:200\nreq:1|c|#code:500",
            "# HELP req req as the workload reports it\n# TYPE req counter\nreq{code=\"200\",team=\"a\"} 5\nreq{code=\"500\",team=\"a\"} 1\n",
        ),
        (
            "",
            r#"{"cache": {"hits": 3, "warm": true, "name": "x"}, "2xx": 1}"#,
            "# HELP _2xx 2xx as the workload reports it\n# TYPE _2xx gauge\n_2xx 1\n\
             # HELP cache_hits cache_hits as the workload reports it\n# TYPE cache_hits gauge\ncache_hits 3\n\
             # HELP cache_warm cache_warm as the workload reports it\n# TYPE cache_warm gauge\ncache_warm 1\n",
        ),
        ("", "# TYPE a gauge\na 1\n", "# TYPE a gauge\na 1\n"),
    ] {
        assert_eq!(translate(extra, body).unwrap(), page);
    }
}

#[test]
fn what_is_no_metric_is_named() {
    assert_eq!(
        translate("", "a 1\nhello there").unwrap_err().message,
        "line 2 is no metric: \"hello there\""
    );
}
