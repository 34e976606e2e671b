//! Fakes for tests: an API server in memory, and a runtime that does as a script says.

mod api;
mod cri;

use std::time::Duration;

pub(crate) use api::FakeApi;
pub(crate) use cri::FakeCri;

/// Longest wait for anything in a test.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Waits until `look` gives something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
