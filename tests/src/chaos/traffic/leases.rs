//! Holds leases: grants one, puts a key with it, keeps it alive for a while through whatever happens, and then
//! gives it up or revokes it.

use std::sync::Arc;
use std::time::Duration;

use capstan_etcd::proto::etcdserverpb as pb;

use crate::chaos::client::{Client, within};
use crate::chaos::field::Field;
use crate::chaos::history::{Lease, Outcome, Request, Step};

use super::{AFTER_TROUBLE, any};

/// Seconds asked for; above the least that the original grants with these timeouts.
const TTL: i64 = 4;

pub(super) async fn run(field: Arc<Field>, client: u32, mut random: fastrand::Rng) {
    while !field.is_stopped() {
        let place = any(&field, &mut random);
        match hold(&field, client, place, &mut random).await {
            Some(lease) => field.history().leases.push(lease),
            None => tokio::time::sleep(AFTER_TROUBLE).await,
        }
    }
}

async fn hold(field: &Field, client: u32, place: usize, random: &mut fastrand::Rng) -> Option<Lease> {
    let connection = field.client(place);
    let asked = field.now();
    let request = pb::LeaseGrantRequest { ttl: TTL, id: 0 };
    let granted = within(connection.leases().lease_grant(request)).await.ok()?;
    let key = format!("lease/{}", granted.id);
    let mut lease = Lease {
        id: granted.id,
        key: key.clone(),
        granted: (asked, granted.ttl),
        renewals: Vec::new(),
        revoked: None,
        abandoned: None,
    };
    let step = Step::Put {
        key,
        value: field.value(),
        lease: granted.id,
        previous: false,
    };
    let put = field
        .perform(client, place, connection, Request::single(step), true)
        .await;
    if matches!(put, Outcome::Refused(_)) {
        lease.abandoned = Some(field.now());
        return Some(lease);
    }
    for _ in 0..random.u8(2..12) {
        tokio::time::sleep(Duration::from_millis(random.u64(800..1_600))).await;
        if field.is_stopped() {
            break;
        }
        let asked = field.now();
        let member = if random.bool() { place } else { any(field, random) };
        match keep_alive(field.client(member), lease.id).await {
            Some(0) => break,
            Some(ttl) => lease.renewals.push((asked, field.now(), ttl)),
            None => {}
        }
    }
    if random.u8(..3) == 0 {
        lease.revoked = Some(field.now());
        let request = pb::LeaseRevokeRequest { id: lease.id };
        let _ = within(field.client(any(field, random)).leases().lease_revoke(request)).await;
    }
    lease.abandoned = Some(field.now());
    Some(lease)
}

/// One keep-alive on a stream of its own; the seconds granted, 0 when the lease is over, none without answer.
async fn keep_alive(connection: &Client, id: i64) -> Option<i64> {
    let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id }]);
    let mut answers = within(connection.leases().lease_keep_alive(requests))
        .await
        .ok()?;
    let answer = tokio::time::timeout(crate::chaos::client::ANSWER_WITHIN, answers.message()).await;
    Some(answer.ok()?.ok()??.ttl)
}
