//! The bounds of one request.

use std::time::{Duration, Instant};

use capstan_api::Body;
use http::Request;
use serde_json::{Value, json};
use tower::Service;

use crate::rig::Rig;
use crate::{MAPS, admin, ask, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_have_their_bounds() {
    let rig = Rig::start_with(|config| config.limits.min_request_timeout = Duration::from_millis(300)).await;
    let (code, text) = get(&rig, &format!("{MAPS}?timeout=soon")).await;
    assert_eq!(code, 400);
    assert!(
        text.contains("invalid timeout specified in the request URL - time: invalid duration \\\"soon\\\""),
        "{text}"
    );
    // A body that does not end in time.
    let endless = Request::post(format!("{MAPS}?timeout=100ms"))
        .body(Body::stream(futures::stream::pending()))
        .unwrap();
    let response = rig.api.service(admin()).call(endless).await.unwrap();
    assert_eq!(response.status(), 504);
    let body = response.into_body().collect(64 << 20).await.unwrap().unwrap();
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status["reason"].as_str(), status["message"].as_str()),
        (
            Some("Timeout"),
            Some("Timeout: request did not complete within the allotted timeout")
        )
    );
    // One that is too long, and a watch that did not say how long.
    let large = json!({"metadata": {"name": "a"}, "data": {"k": "x".repeat(4 << 20)}});
    let (code, _, text) = ask(&rig, admin(), ("POST", MAPS), &[], large).await;
    assert_eq!(code, 413, "{text}");
    let started = Instant::now();
    let (code, text) = get(&rig, &format!("{MAPS}?watch=1")).await;
    assert_eq!((code, text.as_str()), (200, ""));
    assert!(started.elapsed() >= Duration::from_millis(300));
    rig.stop().await;
}
