//! Some thousands of malformed requests, from a seed that is printed. The example of the same name sends a million.
#![allow(clippy::unwrap_used)]

mod malformed;
mod rig;

/// How many.
const REQUESTS: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_answered() {
    let seed = std::env::var("CAPSTAN_MALFORMED_SEED")
        .map_or_else(|_| fastrand::u64(..1_000_000), |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let rig = rig::Rig::start().await;
    let came = malformed::run(&rig, seed, REQUESTS, |_| ()).await;
    rig.stop().await;
    let statuses = came.unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{statuses:?}");
}
