//! The clients of a run: each a task with a number, a seed, and one thing at a time to ask.

mod leases;
mod registers;
mod upkeep;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::field::Field;

pub use upkeep::burst;
pub use watches::whole_once;

/// How many clients write and read keys.
const WRITERS: u32 = 7;

/// How many hold leases.
const HOLDERS: u32 = 3;

/// The mean pause between two requests of one client; two cores carry members, clients and the checks.
const PAUSE: Duration = Duration::from_millis(25);

/// How long after an answer that left its outcome open, before the next member is asked.
const AFTER_TROUBLE: Duration = Duration::from_millis(100);

/// Starts all clients; they end when the field is stopped.
pub fn start(field: &Arc<Field>, seed: u64) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    let mut random = fastrand::Rng::with_seed(seed);
    for client in 0..WRITERS {
        clients.spawn(registers::run(Arc::clone(field), client, random.fork()));
    }
    for client in 0..HOLDERS {
        clients.spawn(leases::run(Arc::clone(field), 100 + client, random.fork()));
    }
    clients.spawn(upkeep::compact(Arc::clone(field), 200, random.fork()));
    clients
}

/// Starts the watches; they go on until everything up to the revision in `until` was told.
pub fn watch(field: &Arc<Field>, seed: u64, until: &tokio::sync::watch::Receiver<i64>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    let mut random = fastrand::Rng::with_seed(seed ^ 0x77a7);
    for place in field.present() {
        let client = 300 + u32::try_from(place).unwrap_or(0);
        clients.spawn(watches::whole(Arc::clone(field), client, place, until.clone()));
    }
    for client in 0..2 {
        clients.spawn(watches::shared(Arc::clone(field), 400 + client, random.fork()));
    }
    clients
}

/// A member of the cluster at random.
fn any(field: &Field, random: &mut fastrand::Rng) -> usize {
    let present = field.present();
    present[random.usize(..present.len())]
}

async fn pause(random: &mut fastrand::Rng) {
    tokio::time::sleep(PAUSE.mul_f64(2.0 * random.f64())).await;
}
