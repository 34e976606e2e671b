use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use super::load::{Span, closed_loop};
use super::report::Figures;
use super::requests::{connect, get, kv, prefix, put, update, value};
use super::subject::Members;
use super::watching;

/// Keys that puts and gets go over.
const KEYS: u64 = 100_000;

const VALUE_BYTES: usize = 256;

/// Objects of a list, and the bytes of each.
const LIST: (u64, usize) = (10_000, 1_024);

pub(crate) type Tell<'a> = dyn FnMut(&str, Figures) + 'a;

/// Every load on fresh members, in an order in which each leaves what the next needs.
pub(crate) async fn run(members: &Members, on: &str, quick: bool, tell: &mut Tell<'_>) -> anyhow::Result<()> {
    let span = Span::new(quick);
    for clients in [1, 32, 1_000] {
        let figures = puts(members, clients, span).await?;
        tell(&format!("{on}: put 256 B, {clients} clients"), figures);
    }
    tell(
        &format!("{on}: conditional update, 64 clients"),
        updates(members, 64, span).await?,
    );
    for clients in [1, 256] {
        let figures = gets(members, clients, span).await?;
        tell(&format!("{on}: linearizable get, {clients} clients"), figures);
    }
    tell(
        &format!("{on}: list of 10,000 x 1 kB"),
        lists(members, span).await?,
    );
    let events = if quick { 50 } else { 300 };
    tell(
        &format!("{on}: events to 1,000 watchers"),
        watching::fan_out(members, events).await?,
    );
    tell(
        &format!("{on}: after all of these"),
        Figures::of_usage(members.usage()?),
    );
    Ok(())
}

fn key(number: u64) -> Bytes {
    format!("/registry/pods/default/pod-{number:08}").into()
}

async fn puts(members: &Members, clients: usize, span: Span) -> anyhow::Result<Figures> {
    let channels = connect(&members.endpoints, clients).await?;
    let clients_of: Vec<_> = channels.iter().map(kv).collect();
    let value = value(VALUE_BYTES);
    closed_loop(members, clients, span, move |client, number| {
        let mut kv = clients_of[client % clients_of.len()].clone();
        let key = key((client as u64 * 7_919 + number) % KEYS);
        let value = value.clone();
        async move {
            kv.put(put(key, value)).await?;
            Ok(())
        }
    })
    .await
}

/// Each client updates an object of its own, and knows its revision from its last update.
async fn updates(members: &Members, clients: usize, span: Span) -> anyhow::Result<Figures> {
    let channels = connect(&members.endpoints, clients).await?;
    let clients_of: Vec<_> = channels.iter().map(kv).collect();
    let value = value(VALUE_BYTES);
    let revisions = Rc::new(RefCell::new(vec![0; clients]));
    closed_loop(members, clients, span, move |client, _| {
        let mut kv = clients_of[client % clients_of.len()].clone();
        let (value, revisions) = (value.clone(), Rc::clone(&revisions));
        let key = Bytes::from(format!("/registry/leases/node-{client:05}"));
        async move {
            let known = revisions.borrow()[client];
            let answer = kv.txn(update(key, value, known)).await?.into_inner();
            anyhow::ensure!(answer.succeeded, "somebody else changed the object");
            revisions.borrow_mut()[client] = answer.header.map_or(0, |header| header.revision);
            Ok(())
        }
    })
    .await
}

async fn gets(members: &Members, clients: usize, span: Span) -> anyhow::Result<Figures> {
    let channels = connect(&members.endpoints, clients).await?;
    let clients_of: Vec<_> = channels.iter().map(kv).collect();
    closed_loop(members, clients, span, move |client, number| {
        let mut kv = clients_of[client % clients_of.len()].clone();
        let key = key((client as u64 * 31 + number) % 1_000);
        async move {
            kv.range(get(key)).await?;
            Ok(())
        }
    })
    .await
}

async fn lists(members: &Members, span: Span) -> anyhow::Result<Figures> {
    let (count, bytes) = LIST;
    let channels = connect(&members.endpoints, 16).await?;
    let clients_of: Vec<_> = channels.iter().map(kv).collect();
    fill(&clients_of, "/list/", count, bytes).await?;
    let first = clients_of[0].clone();
    closed_loop(members, 1, span, move |_, _| {
        let mut kv = first.clone();
        async move {
            let answer = kv.range(prefix("/list/", 0)).await?.into_inner();
            anyhow::ensure!(
                answer.kvs.len() as u64 == count,
                "{} of {count} objects",
                answer.kvs.len()
            );
            Ok(())
        }
    })
    .await
}

/// Puts so many objects under a prefix, by all these connections at once.
pub(crate) async fn fill(
    connections: &[super::requests::Kv],
    prefix: &str,
    count: u64,
    bytes: usize,
) -> anyhow::Result<()> {
    const CLIENTS: usize = 64;
    let next = Rc::new(RefCell::new(0..count));
    let value = value(bytes);
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (next, value) = (Rc::clone(&next), value.clone());
            let mut kv = connections[client % connections.len()].clone();
            let prefix = prefix.to_owned();
            local.spawn_local(async move {
                loop {
                    let Some(number) = next.borrow_mut().next() else {
                        return anyhow::Ok(());
                    };
                    kv.put(put(format!("{prefix}{number:08}").into(), value.clone()))
                        .await?;
                }
            })
        })
        .collect();
    local
        .run_until(async move {
            for task in tasks {
                task.await??;
            }
            Ok(())
        })
        .await
}
