//! LIST: which state is asked for (resourceVersion, its match rule, pages), and the answer as a stream of
//! slices of the cached bytes, or of what they are in protobuf.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use capstan_kinds::status::Status;
use capstan_store::Revision;
use serde_json::{Value, json};

use super::page::{INCONSISTENT, Token};
use super::{Filter, ListOptions};
use crate::answer::{self, Answer};
use crate::body::Body;
use crate::call::Call;
use crate::conversion;
use crate::negotiate::{Format, View};
use crate::present::{Presenter, partial, to_bytes};
use crate::protobuf::Codec;
use crate::refusal::{self, Refusal};
use crate::registry::{Entry, ReadError, Registry, keys};

/// Slices of a list are gathered to about so many bytes.
const SLICE_BYTES: usize = 64 << 10;

const EXPIRED: &str = "The resourceVersion for the provided list is too old.";
const INCONSISTENT_CONTINUE: &str = "The provided continue parameter is too old to display a consistent list \
    result. You can start a new list without the continue parameter, or use the continue token in this \
    response to retrieve the remainder of the results. Continuing with the provided token results in an \
    inconsistent list - objects that were created, modified, or deleted between the time the first chunk was \
    returned and now may show up in the list.";

/// A list before it is written.
struct Selection {
    revision: Revision,
    entries: Vec<Arc<Entry>>,
    next: Option<Token>,
    remaining: Option<i64>,
}

pub(crate) async fn list(registry: &Registry, call: &Call) -> Answer {
    let presenter = call.presenter()?;
    let options = ListOptions::read(&call.query, false)?;
    let filter = Filter::of(&call.resource, &call.query)?;
    let mut selection = select(registry, call, &options, &filter).await?;
    selection.entries = conversion::entries(registry, &call.resource, selection.entries).await?;
    let mut metadata = json!({ "resourceVersion": selection.revision.to_string() });
    if let Some(token) = &selection.next {
        let below = keys::below(&call.resource, call.namespace());
        metadata["continue"] = json!(token.encode(&below));
        if let Some(remaining) = selection.remaining.filter(|_| filter.is_empty()) {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    match presenter.codec() {
        Some(codec) => write_protobuf(&presenter, &codec, &selection.entries, &metadata).await,
        None => Ok(write(&presenter, &selection.entries, metadata)),
    }
}

async fn select(
    registry: &Registry,
    call: &Call,
    options: &ListOptions,
    filter: &Filter,
) -> Result<Selection, Refusal> {
    let limit = options.limit;
    let below = keys::below(&call.resource, call.namespace());
    if !options.continue_token.is_empty() {
        let token = Token::decode(&options.continue_token, &below)?;
        if options.list_revision()?.is_some_and(|revision| revision != 0) {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(message).into());
        }
        return next_page(registry, call, filter, token, limit).await;
    }
    match options.list_revision()? {
        Some(revision) if options.exact() => {
            let page = from_store(registry, call, filter, (&below, None), revision, limit).await;
            return page.map_err(|status| match status.code {
                410 => Status::expired(EXPIRED).into(),
                _ => status,
            });
        }
        None => registry.newest().await?,
        Some(0) => registry.applied(),
        Some(revision) => registry.reach(revision).await?,
    };
    Ok(from_cache(registry, call, filter, limit))
}

fn from_cache(registry: &Registry, call: &Call, filter: &Filter, limit: usize) -> Selection {
    // Read before the cache: everything up to here is in it.
    let applied = registry.applied();
    let cache = registry.cache(&call.resource);
    if let (Some(name), true) = (
        filter.name(),
        !call.resource.namespaced || !call.namespace().is_empty(),
    ) {
        let entry = cache.get(&keys::within(&call.resource, call.namespace(), name));
        let revision = applied.max(entry.as_ref().map_or(0, |entry| entry.revision));
        let entries = entry.into_iter().filter(|entry| filter.matches(entry)).collect();
        return Selection {
            revision,
            entries,
            next: None,
            remaining: None,
        };
    }
    let (changed, objects) = cache.list(&keys::below(&call.resource, call.namespace()));
    let total = objects.len();
    let mut selection = cut(objects, filter, limit, changed.max(applied));
    if let Some((position, _)) = &selection.1 {
        selection.0.remaining = Some((total - position) as i64);
    }
    selection.0
}

/// Takes what matches, up to the limit; says after how many objects it stopped if something is left.
fn cut(
    objects: Vec<(Arc<str>, Arc<Entry>)>,
    filter: &Filter,
    limit: usize,
    revision: Revision,
) -> (Selection, Option<(usize, Arc<str>)>) {
    let everything = filter.is_empty();
    let mut entries = Vec::with_capacity(if limit > 0 {
        limit.min(objects.len())
    } else {
        objects.len()
    });
    let mut stop: Option<(usize, Arc<str>)> = None;
    let mut last: Option<(usize, Arc<str>)> = None;
    for (position, (key, entry)) in objects.into_iter().enumerate() {
        if !everything && !filter.matches(&entry) {
            continue;
        }
        if limit > 0 && entries.len() == limit {
            stop = last.take();
            break;
        }
        entries.push(entry);
        if limit > 0 {
            last = Some((position + 1, key));
        }
    }
    let next = stop.as_ref().map(|(_, key)| Token {
        revision,
        after: key.to_string(),
    });
    (
        Selection {
            revision,
            entries,
            next,
            remaining: None,
        },
        stop,
    )
}

async fn next_page(
    registry: &Registry,
    call: &Call,
    filter: &Filter,
    token: Token,
    limit: usize,
) -> Result<Selection, Refusal> {
    let below = keys::below(&call.resource, call.namespace());
    let revision = match token.revision {
        INCONSISTENT => registry.newest().await?,
        revision => revision,
    };
    let position = (below.as_str(), Some(token.after.as_str()));
    let answer = from_store(registry, call, filter, position, revision, limit).await;
    answer.map_err(|status| {
        if status.code != 410 {
            return status;
        }
        let mut status = Status::expired(INCONSISTENT_CONTINUE);
        let anew = Token {
            revision: INCONSISTENT,
            after: token.after.clone(),
        };
        status.continue_token = Some(anew.encode(&below));
        status.into()
    })
}

/// A state of the past, read from the store page by page until the limit is filled.
async fn from_store(
    registry: &Registry,
    call: &Call,
    filter: &Filter,
    (below, after): (&str, Option<&str>),
    revision: Revision,
    limit: usize,
) -> Result<Selection, Refusal> {
    let mut entries = Vec::new();
    let mut after = after.map(str::to_owned);
    loop {
        let page = registry
            .at(&call.resource, below, after.as_deref(), revision, limit)
            .await;
        let (objects, more, count) = page.map_err(|error| match error {
            capstan_store::Error::FutureRevision { revision: current } => {
                Refusal::from(ReadError::TooLarge {
                    asked: revision,
                    current,
                })
            }
            error => Refusal::from(refusal::of_store(&error)),
        })?;
        let read = objects.len();
        let wanted = if limit > 0 { limit - entries.len() } else { 0 };
        let (selection, stop) = cut(objects, filter, wanted, revision);
        let last = selection
            .entries
            .last()
            .map(|entry| keys::within(&call.resource, &entry.index.namespace, &entry.index.name));
        let position = stop.as_ref().map_or(read, |(position, _)| *position);
        entries.extend(selection.entries);
        let full = limit > 0 && entries.len() >= limit;
        if stop.is_some() || (full && more) {
            let after = last.or(after).unwrap_or_default();
            let next = Some(Token { revision, after });
            return Ok(Selection {
                revision,
                entries,
                next,
                remaining: Some(count - position as i64),
            });
        }
        if !more || read == 0 {
            return Ok(Selection {
                revision,
                entries,
                next: None,
                remaining: None,
            });
        }
        after = last.or(after);
    }
}

fn write(presenter: &Presenter, entries: &[Arc<Entry>], metadata: Value) -> http::Response<Body> {
    let content_type = presenter.content_type();
    let resource = &presenter.resource;
    let document = match presenter.form.view {
        View::Table => presenter.table(entries, metadata, true),
        View::Metadata => {
            let items: Vec<Value> = entries.iter().map(|entry| partial(&entry.decode())).collect();
            json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata, "items": items,
            })
        }
        View::Object => {
            let head = format!(
                "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
                resource.list_kind,
                resource.api_version()
            );
            let slices = gather(
                head.into_bytes(),
                entries.iter().map(|entry| presenter.object(entry)),
            );
            if presenter.form.format == Format::Json {
                return answer::with_type(200, content_type, Body::slices(slices));
            }
            let whole: BytesMut = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            return answer::bytes(200, presenter.form, content_type, whole.freeze());
        }
    };
    answer::bytes(200, presenter.form, content_type, to_bytes(&document))
}

/// A list in protobuf. The length stands before the items, so all are encoded before the first is sent;
/// other tasks get their turn in between.
async fn write_protobuf(
    presenter: &Presenter,
    codec: &Codec,
    entries: &[Arc<Entry>],
    metadata: &Value,
) -> Answer {
    let resource = &presenter.resource;
    let list = Codec::of(&resource.api_version(), &resource.list_kind);
    let list = list.ok_or_else(|| Status::internal(format!("{} is in no table", resource.list_kind)))?;
    let mut slices = VecDeque::new();
    let mut bytes = 0;
    let mut open = Vec::with_capacity(SLICE_BYTES);
    for entry in entries {
        let appended = codec.append_item(&mut open, &presenter.object(entry));
        appended.map_err(|error| Status::internal(format!("{}: {error}", entry.index.name)))?;
        if open.len() >= SLICE_BYTES - SLICE_BYTES / 4 {
            bytes += open.len();
            slices.push_back(std::mem::replace(&mut open, Vec::with_capacity(SLICE_BYTES)).into());
            tokio::task::yield_now().await;
        }
    }
    bytes += open.len();
    slices.push_back(open.into());
    let (head, tail) = list.around_items(metadata, bytes).map_err(Status::internal)?;
    slices.push_front(head);
    slices.push_back(tail);
    slices.retain(|slice| !slice.is_empty());
    Ok(answer::with_type(
        200,
        presenter.content_type(),
        Body::slices(slices),
    ))
}

/// Joins the items with commas into slices: small ones are gathered, large ones go as they are.
fn gather(head: Vec<u8>, items: impl Iterator<Item = Bytes>) -> Vec<Bytes> {
    let mut slices = Vec::new();
    let mut open = head;
    for (position, item) in items.enumerate() {
        if position > 0 {
            open.push(b',');
        }
        if item.len() >= SLICE_BYTES / 2 {
            slices.push(Bytes::from(std::mem::take(&mut open)));
            slices.push(item);
            continue;
        }
        if open.capacity() < SLICE_BYTES {
            open.reserve(SLICE_BYTES - open.len());
        }
        open.extend_from_slice(&item);
        if open.len() >= SLICE_BYTES - (SLICE_BYTES / 4) {
            slices.push(Bytes::from(std::mem::take(&mut open)));
        }
    }
    open.extend_from_slice(b"]}");
    slices.push(open.into());
    slices.retain(|slice| !slice.is_empty());
    slices
}
