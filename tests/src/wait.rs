use std::time::{Duration, Instant};

/// How long tests wait for a condition by default; generous, since two cores run everything.
const BOUND: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `condition` gives a value.
///
/// # Panics
/// When it has not after a minute; `what` and the last thing seen are told.
pub fn until<T>(what: &str, condition: impl FnMut() -> Result<T, String>) -> T {
    until_within(BOUND, what, condition)
}

/// As [`until`], with a bound of its own.
///
/// # Panics
/// When the bound is over.
pub fn until_within<T>(bound: Duration, what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(seen) if started.elapsed() > bound => {
                panic!("waited {bound:?} for {what}; last seen: {seen}")
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
