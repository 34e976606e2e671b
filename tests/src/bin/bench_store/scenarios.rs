use std::cell::RefCell;
use std::fmt;
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

/// Events to all watchers for each second of a load.
const EVENTS_PER_SECOND: usize = 50;

pub(crate) type Tell<'a> = dyn FnMut(&str, Figures) + 'a;

/// A load on running members. They come in an order in which each leaves what the next needs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scenario {
    Put(usize),
    Update(usize),
    Get(usize),
    List,
    Watch,
    /// No load: what all of these left.
    Afterwards,
}

impl Scenario {
    pub(crate) const ALL: [Self; 9] = [
        Self::Put(1),
        Self::Put(32),
        Self::Put(1_000),
        Self::Update(64),
        Self::Get(1),
        Self::Get(256),
        Self::List,
        Self::Watch,
        Self::Afterwards,
    ];

    pub(crate) async fn run(self, members: &Members, span: Span) -> anyhow::Result<Figures> {
        match self {
            Self::Put(clients) => puts(members, clients, span).await,
            Self::Update(clients) => updates(members, clients, span).await,
            Self::Get(clients) => gets(members, clients, span).await,
            Self::List => lists(members, span).await,
            Self::Watch => {
                watching::fan_out(members, EVENTS_PER_SECOND * span.counted.as_secs() as usize).await
            }
            Self::Afterwards => Ok(Figures::of_usage(members.usage()?)),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(1) => write!(to, "put 256 B, 1 client"),
            Self::Put(clients) => write!(to, "put 256 B, {clients} clients"),
            Self::Update(clients) => write!(to, "conditional update, {clients} clients"),
            Self::Get(1) => write!(to, "linearizable get, 1 client"),
            Self::Get(clients) => write!(to, "linearizable get, {clients} clients"),
            Self::List => write!(to, "list of 10,000 x 1 kB"),
            Self::Watch => write!(to, "events to 1,000 watchers"),
            Self::Afterwards => write!(to, "after all of these"),
        }
    }
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
