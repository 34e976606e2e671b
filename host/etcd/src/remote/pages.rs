//! A long read in pages, all of the revision that the first one had.
//!
//! Pages grow and shrink with what the keys turn out to weigh. Where an order or bounds on revisions are asked
//! for, the whole answer is one page: only the store can sort and sift it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use capstan_store::{Error, KeyRange, KeyValue, RangeRequest, RangeStream, Result, Store};
use tokio::sync::mpsc;

use super::connections::{Connections, Effect};
use super::{RemoteStore, unbounded, wire};
use crate::proto::etcdserverpb::kv_client::KvClient;

/// Keys of the first page.
const FIRST_KEYS: usize = 500;
/// Keys of any page.
const KEYS_MAX: usize = 10_000;
/// What a page should weigh.
const PAGE_BYTES: usize = 1024 * 1024;
/// Pages that wait for their reader.
const PAGES_MAX: usize = 2;

pub(super) async fn stream(store: &RemoteStore, request: RangeRequest) -> Result<RangeStream> {
    if request.sort.is_some() || request.count_only || is_narrowed(&request) {
        return Ok(store.range(request).await?.into());
    }
    let limit = if request.limit == 0 {
        usize::MAX
    } else {
        request.limit
    };
    let first = store
        .range(RangeRequest {
            limit: limit.min(FIRST_KEYS),
            ..request.clone()
        })
        .await?;
    if !first.more || first.kvs.len() >= limit {
        return Ok(first.into());
    }
    let revision = if request.revision > 0 {
        request.revision
    } else {
        first.revision
    };
    let (pages, receiver) = mpsc::channel(PAGES_MAX);
    let answer = RangeStream {
        revision: first.revision,
        count: first.count,
        more: usize::try_from(first.count).is_ok_and(|count| count > limit),
        kvs_wire_bytes: None,
        pages: receiver,
    };
    let (_, end) = wire::bounds(&request.range);
    let rest = Rest {
        connections: store.connections.clone(),
        request: RangeRequest {
            revision,
            // At a fixed revision any member's answer is the same, once it has that revision.
            serializable: false,
            ..request
        },
        end,
        limit,
        pages,
    };
    tokio::spawn(rest.send(first.kvs));
    Ok(answer)
}

struct Rest {
    connections: Arc<Connections>,
    request: RangeRequest,
    /// As on the wire: `\0` is no end.
    end: Bytes,
    limit: usize,
    pages: mpsc::Sender<Result<Vec<KeyValue>>>,
}

impl Rest {
    async fn send(mut self, first: Vec<KeyValue>) {
        let mut page = first;
        let mut has_more = true;
        loop {
            let (Some(last), count) = (page.last().map(|kv| kv.key.clone()), page.len()) else {
                return;
            };
            let next_keys = next_keys(&page);
            self.limit = self.limit.saturating_sub(count);
            if self.pages.send(Ok(page)).await.is_err() || !has_more || self.limit == 0 {
                return;
            }
            match self.page(&last, next_keys).await {
                Ok((kvs, more)) => (page, has_more) = (kvs, more),
                Err(error) => {
                    let _ = self.pages.send(Err(error)).await;
                    return;
                }
            }
        }
    }

    async fn page(&self, last: &Bytes, keys: usize) -> Result<(Vec<KeyValue>, bool)> {
        let mut message = wire::range(&self.request);
        message.key = successor(last);
        message.range_end = self.end.clone();
        message.limit = i64::try_from(self.limit.min(keys)).unwrap_or(i64::MAX);
        let call = self.connections.call(Effect::Read, |link, headers| {
            let request = headers.on(message.clone());
            async move { unbounded!(KvClient::new(link)).range(request).await }
        });
        let answer = wire::range_answer(call.await.map_err(|error| match error {
            // The rest of a read that was begun in time was compacted away.
            Error::Compacted { .. } => Error::Compacted {
                compact_revision: self.request.revision.saturating_add(1),
            },
            other => other,
        })?);
        Ok((answer.kvs, answer.more))
    }
}

/// One key, or keys by their revisions: then pages would say nothing of what is left.
fn is_narrowed(request: &RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    matches!(request.range, KeyRange::Key(_)) || bounds.iter().any(|bound| *bound != 0)
}

/// The first key after this one.
fn successor(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

fn next_keys(page: &[KeyValue]) -> usize {
    let bytes: usize = page.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    let average = (bytes / page.len().max(1)).max(1);
    (PAGE_BYTES / average).clamp(1, KEYS_MAX)
}
