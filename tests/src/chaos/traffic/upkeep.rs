//! Compactions while all else goes on, and bursts of writes that leave a stopped member behind.

use std::sync::Arc;
use std::time::Duration;

use capstan_etcd::proto::etcdserverpb as pb;
use tokio::task::JoinSet;

use crate::chaos::client::within;
use crate::chaos::field::Field;
use crate::chaos::history::{Request, Step};

use super::any;

/// How often old revisions are given up.
const EVERY: Duration = Duration::from_secs(4);

/// How many revisions behind the slowest watch are kept.
const KEPT: i64 = 300;

/// Clients of a burst.
const BURST_CLIENTS: usize = 16;

pub(super) async fn compact(field: Arc<Field>, _client: u32, mut random: fastrand::Rng) {
    while !field.is_stopped() {
        tokio::time::sleep(EVERY).await;
        // Only a watch that reads on holds it back: that of a member which is down goes elsewhere.
        let slowest = field
            .present()
            .into_iter()
            .map(|place| field.watched(place))
            .filter(|at| *at > 0)
            .min();
        let revision = slowest.unwrap_or(0) - KEPT;
        if revision <= field.compacted() {
            continue;
        }
        field.compacting(revision);
        let place = any(&field, &mut random);
        let request = pb::CompactionRequest {
            revision,
            physical: random.bool(),
        };
        let _ = within(field.client(place).keys().compact(request)).await;
    }
}

/// Writes `count` keys as fast as the cluster takes them.
pub async fn burst(field: &Arc<Field>, places: Vec<usize>, count: usize) {
    let mut writers = JoinSet::new();
    for writer in 0..BURST_CLIENTS {
        let (field, place) = (Arc::clone(field), places[writer % places.len()]);
        writers.spawn(async move {
            for turn in 0..count / BURST_CLIENTS {
                let key = format!("b/{writer}/{}", turn % 8);
                let step = Step::Put {
                    key,
                    value: field.value(),
                    lease: 0,
                    previous: false,
                };
                let client = 500 + u32::try_from(writer).unwrap_or(0);
                field
                    .perform(client, place, field.client(place), Request::single(step), true)
                    .await;
            }
        });
    }
    while writers.join_next().await.is_some() {}
}
