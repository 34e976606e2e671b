//! What the controllers cost while nothing happens: watches, and memory that is printed.

#![allow(clippy::unwrap_used)]

mod rig;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capstan_api::UserInfo;
use capstan_controllers::{Controllers, Options};
use capstan_points::Seating;
use capstan_points::remedy::Remedy;
use tower::ServiceExt;

use rig::Rig;

/// How long until all that starts has started.
const SOON: Duration = Duration::from_secs(20);

/// Private memory of this process in kB.
fn anonymous_kb() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_kind_is_watched_once() {
    let rig = Rig::start().await;
    let watches: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let seen = Arc::clone(&watches);
    let service = rig.api.service(UserInfo::new("controllers", &["system:masters"]));
    let counted = service.map_request(move |request: http::Request<kube::client::Body>| {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default();
        if query.contains("watch=true") {
            // A part, such as the root CA of every namespace, is another matter.
            let part = query.split('&').find(|one| one.contains("fieldSelector"));
            let part = part.map(|selector| format!(" {selector}")).unwrap_or_default();
            *seen
                .lock()
                .unwrap()
                .entry(format!("{}{part}", uri.path()))
                .or_default() += 1;
        }
        request
    });
    let client = capstan_client::over(counted);
    let before = anonymous_kb();
    let remedies: Seating<dyn Remedy> = Seating::default();
    let controllers = Controllers::start(client, Options::default(), remedies.seats());
    let start = Instant::now();
    // Quiet for a while: all that starts has started.
    let (mut count, mut since) = (0, Instant::now());
    while count < 40 || since.elapsed() < Duration::from_millis(500) {
        assert!(start.elapsed() < SOON, "{:?}", watches.lock().unwrap());
        let now = watches.lock().unwrap().len();
        if now != count {
            (count, since) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{count} watches, {} kB", anonymous_kb() - before);
    let twice: Vec<_> = watches
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, count)| **count > 1)
        .map(|(path, count)| format!("{path} {count}"))
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
    controllers.shutdown().await;
    rig.stop().await;
}
