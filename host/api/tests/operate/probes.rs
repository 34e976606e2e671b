//! Health, check by check, and the names of the metrics.

use std::time::Duration;

use capstan_api::Body;
use http::Request;
use serde_json::json;
use tower::Service;

use crate::rig::Rig;
use crate::{MAPS, admin, ask, get, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_check_by_check() {
    let rig = Rig::start_with(|config| config.limits.shutdown_delay = Duration::from_millis(1500)).await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz/etcd", "/healthz/ping"] {
        assert_eq!(get(&rig, path).await, (200, "ok".to_owned()), "{path}");
    }
    assert_eq!(get(&rig, "/livez/nothing").await.0, 404);
    let (code, text) = get(&rig, "/readyz?verbose&exclude=etcd&exclude=odd").await;
    assert_eq!(code, 200);
    for line in [
        "[+]ping ok\n",
        "[+]etcd excluded: ok\n",
        "[+]informer-sync ok\n",
        "[+]shutdown ok\n",
        "warn: some health checks cannot be excluded: no matches for \"odd\"\nreadyz check passed\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (_, text) = get(&rig, "/livez?verbose").await;
    assert!(
        text.ends_with("livez check passed\n") && !text.contains("shutdown"),
        "{text}"
    );
    // While it stops it still serves, but says so.
    let mut service = rig.api.service(admin());
    let (stopping, looking) = tokio::join!(rig.api.shutdown(), async move {
        until("it is not ready", async || {
            let request = Request::get("/readyz").body(Body::empty()).unwrap();
            let response = service.call(request).await.unwrap();
            let code = response.status().as_u16();
            let body = response.into_body().collect(64 << 20).await.unwrap().unwrap();
            (code == 500).then(|| String::from_utf8_lossy(&body).into_owned())
        })
        .await
    });
    let () = stopping;
    assert!(
        looking.contains("[-]shutdown failed: reason withheld\n")
            && looking.ends_with("readyz check failed\n"),
        "{looking}"
    );
    rig.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_the_originals_names() {
    let rig = Rig::start().await;
    ask(
        &rig,
        admin(),
        ("POST", MAPS),
        &[],
        json!({"metadata": {"name": "a"}}),
    )
    .await;
    get(&rig, MAPS).await;
    get(&rig, &format!("{MAPS}/none")).await;
    get(&rig, "/api/v1/namespaces/default/oddities").await;
    get(&rig, &format!("{MAPS}?watch=1&timeoutSeconds=1")).await;
    let (_, text) = get(&rig, "/metrics").await;
    let place = "group=\"\",resource=\"configmaps\"";
    for row in [
        format!("apiserver_request_total{{code=\"201\",component=\"apiserver\",dry_run=\"\",{place},scope=\"resource\",subresource=\"\",verb=\"POST\",version=\"v1\"}} 1"),
        format!("apiserver_request_total{{code=\"404\",component=\"apiserver\",dry_run=\"\",{place},scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"}} 1"),
        format!("apiserver_request_duration_seconds_count{{component=\"apiserver\",dry_run=\"\",{place},scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"}} 1"),
        format!("apiserver_watch_events_total{{{place},version=\"v1\"}} 1"),
        "apiserver_storage_objects{resource=\"configmaps\"}".into(),
        format!("apiserver_resource_objects{{{place}}}"),
        format!("apiserver_longrunning_requests{{component=\"apiserver\",{place},scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"}} 0"),
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"}".into(),
        "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"false\",type=\"validate\"}".into(),
        "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"exempt\",priority_level=\"exempt\"}".into(),
        "process_resident_memory_bytes".into(),
    ] {
        assert!(text.contains(&row), "{row}\n{text}");
    }
    assert!(!text.contains("oddities"), "{text}");
    rig.stop().await;
}
