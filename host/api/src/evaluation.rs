//! Evaluating CEL without keeping other requests waiting.
//!
//! A short evaluation runs where the request is. One that costs more than [`PATIENCE`] is given up there and runs
//! anew aside of the async workers, a bounded number at a time; more of them wait without a thread. Called by the
//! write path for custom kinds, and by policies and conditions. What expressions cost is `capstan_kinds::cel`'s.

use std::sync::LazyLock;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Units that are evaluated on an async worker, about a millisecond.
const PATIENCE: u64 = 20_000;

/// Long evaluations at a time: as many as leave other requests half of the processors.
static ASIDE: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new((processors / 2).max(1))
});

/// What `work` makes, which may be begun twice.
pub(crate) async fn evaluate<T>(work: impl Fn() -> T) -> T {
    if let Some(made) = capstan_kinds::cel::within(PATIENCE, &work) {
        return made;
    }
    // It is never closed.
    let _turn = ASIDE.acquire().await;
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}
