//! WATCH: the state's objects where asked for, then every change, as one JSON document a line or one
//! protobuf frame.
//!
//! A change is encoded once for all watchers that want the whole object in one of the two. With selectors, an object that
//! leaves the selection is DELETED with its last matching state, one that enters is ADDED. Bookmarks tell
//! idle watchers how far they are. A watcher that the ring has overtaken gets an ERROR of code 410.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capstan_kinds::status::Status;
use capstan_store::Revision;
use futures::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval};

use super::{Filter, ListOptions};
use crate::answer::{self, Answer};
use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::conversion;
use crate::metrics::WatchMeter;
use crate::negotiate::{Format, View};
use crate::present::{Presenter, partial, to_bytes};
use crate::protobuf::{self, Codec};
use crate::refusal::Refusal;
use crate::registry::{Change, Cursor, Entry, KindCache, Shared, TooOld, keys};
use crate::server::Server;

/// Changes taken from the ring at once.
const BATCH: usize = 256;
/// How often an idle watcher that asked for it learns of the newest revision.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);

/// One watcher's state.
struct Watcher {
    registry: Shared,
    cache: Arc<KindCache>,
    cursor: Cursor,
    presenter: Presenter,
    codec: Option<Codec>,
    filter: Filter,
    below: String,
    pending: VecDeque<Bytes>,
    bookmarks: Option<Interval>,
    bookmark_due: Option<Revision>,
    /// Changes up to here are not its business.
    after: Revision,
    /// Revision that the watcher has seen.
    seen: Revision,
    /// Table watches send their columns once.
    head_sent: bool,
    deadline: Instant,
    stop: tokio_util::sync::CancellationToken,
    ended: bool,
    meter: WatchMeter,
}

pub(crate) async fn watch(server: &Server, call: &Call) -> Answer {
    let registry = &server.registry;
    let presenter = call.presenter()?;
    let options = ListOptions::read(&call.query, true)?;
    let filter = Filter::of(&call.resource, &call.query)?;
    let (bookmarks, initial) = (options.bookmarks, options.initial_events);
    let asked = options.watch_revision()?;
    let cache = registry.cache(&call.resource);
    let below = keys::below(&call.resource, call.namespace());
    match asked {
        Some(0) => {}
        // A watch of what is yet to come just waits for it.
        Some(revision) if initial => {
            registry.reach(revision).await?;
        }
        Some(_) => {}
        None => {
            registry.newest().await?;
        }
    }
    let applied = registry.applied();
    let start = if initial {
        let (changed, objects, cursor) = cache.list_and_cursor(&below);
        Ok((changed.max(applied), objects, cursor))
    } else {
        let revision = asked.filter(|revision| *revision > 0).unwrap_or(applied);
        cache
            .cursor_after(revision)
            .map(|cursor| (revision, Vec::new(), cursor))
    };
    let content_type = match presenter.form.format {
        Format::Json => presenter.content_type().to_owned(),
        _ => format!("{};stream=watch", presenter.content_type()),
    };
    let (seen, objects, cursor) = match start {
        Ok(start) => start,
        Err(TooOld { floor }) => {
            let frame = error_frame(presenter.form.format, &too_old(asked.unwrap_or(0), floor));
            return Ok(answer::with_type(200, &content_type, Body::from(frame)));
        }
    };
    let mut watcher = Watcher {
        registry: registry.clone(),
        cache,
        cursor,
        codec: presenter.codec(),
        presenter,
        filter,
        below,
        pending: VecDeque::new(),
        bookmarks: bookmarks
            .then(|| tokio::time::interval_at(Instant::now() + BOOKMARK_PERIOD, BOOKMARK_PERIOD)),
        bookmark_due: None,
        after: seen,
        seen,
        head_sent: false,
        deadline: Instant::now() + timeout(&options, server.limits.min_request_timeout),
        stop: server.stop.clone(),
        meter: server.metrics.watch(
            &call.resource.group,
            &call.resource.version,
            &call.resource.plural,
        ),
        ended: false,
    };
    let mut matching: Vec<Arc<Entry>> = objects.into_iter().map(|(_, entry)| entry).collect();
    matching.retain(|entry| watcher.filter.matches(entry));
    for entry in conversion::entries(registry, &call.resource, matching).await? {
        let frame = watcher.frame("ADDED", &entry);
        watcher.pending.push_back(frame);
    }
    if initial && bookmarks {
        let frame = watcher.bookmark(true);
        watcher.pending.push_back(frame);
    }
    let slices = stream::unfold(watcher, |mut watcher| async move {
        let slice = watcher.next_slice().await?;
        watcher.meter.sent(slice.len());
        Some((Ok::<_, BoxError>(slice), watcher))
    });
    Ok(answer::with_type(200, &content_type, Body::stream(slices)))
}

/// How long the watch lasts; one that does not say lasts `least` and up to as much again.
fn timeout(options: &ListOptions, least: Duration) -> Duration {
    match options.timeout_seconds {
        0 => least + least.mul_f64(fastrand::f64()),
        seconds => Duration::from_secs(seconds),
    }
}

fn too_old(asked: Revision, floor: Revision) -> Status {
    Status::expired(format!("too old resource version: {asked} ({floor})"))
}

fn error_frame(format: Format, status: &Status) -> Bytes {
    encode(format, "ERROR", &to_bytes(&status.to_value()))
}

/// An event around an object of which the JSON is given.
fn encode(format: Format, event: &str, object: &[u8]) -> Bytes {
    match format {
        Format::Protobuf => {
            let body = protobuf::body(object);
            body.map_or_else(Bytes::new, |body| protobuf::frame(event, &body))
        }
        Format::Json | Format::Yaml => line(event, object),
    }
}

fn line(event: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(event.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}

impl Watcher {
    async fn next_slice(&mut self) -> Option<Bytes> {
        loop {
            if let Some(slice) = self.pending.pop_front() {
                return Some(slice);
            }
            if self.ended {
                return None;
            }
            match self.cache.next(&mut self.cursor, BATCH) {
                Err(TooOld { floor }) => {
                    self.ended = true;
                    let format = self.presenter.form.format;
                    return Some(error_frame(format, &too_old(self.seen, floor)));
                }
                Ok((changes, _)) if !changes.is_empty() => {
                    for change in changes {
                        if change.revision <= self.after {
                            continue;
                        }
                        self.seen = change.revision;
                        match self.change(&change).await {
                            Ok(Some(frame)) => self.pending.push_back(frame),
                            Ok(None) => {}
                            Err(refusal) => {
                                self.ended = true;
                                let format = self.presenter.form.format;
                                self.pending.push_back(error_frame(format, &refusal));
                                break;
                            }
                        }
                    }
                }
                Ok(_) => match self.bookmark_due.take() {
                    Some(revision) => {
                        self.seen = self.seen.max(revision);
                        return Some(self.bookmark(false));
                    }
                    None => self.idle().await,
                },
            }
        }
    }

    /// Waits for a change, a bookmark's time, or the end.
    async fn idle(&mut self) {
        let period = async {
            match &mut self.bookmarks {
                Some(period) => {
                    period.tick().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => self.ended = true,
            () = self.cursor.changed() => {}
            () = period => {
                // Sent once the ring has been read again: it holds everything up to this revision now.
                self.bookmark_due = Some(self.registry.applied());
            }
            () = tokio::time::sleep_until(self.deadline) => self.ended = true,
        }
    }

    async fn change(&mut self, change: &Change) -> Result<Option<Bytes>, Refusal> {
        let matching = |entry: &&Arc<Entry>| {
            let key_matches = self.below.is_empty()
                || entry.index.namespace.as_ref() == &self.below[..self.below.len() - 1];
            key_matches && self.filter.matches(entry)
        };
        let before = change.before.as_ref().filter(matching);
        let after = change.after.as_ref().filter(matching);
        let (event, entry) = match (before, after) {
            (None, None) => return Ok(None),
            (None, Some(entry)) => ("ADDED", entry.clone()),
            (Some(_), Some(entry)) => ("MODIFIED", entry.clone()),
            (Some(entry), None) => match entry.at(change.revision) {
                Some(gone) => ("DELETED", Arc::new(gone)),
                None => return Ok(None),
            },
        };
        // Watchers without selectors all see the same event; the others may see another type.
        let shared = self.filter.is_empty() && self.presenter.sends_stored(&entry);
        if shared {
            let protobuf = self.codec.is_some();
            return Ok(Some(change.frame(protobuf, || self.whole(event, &entry))));
        }
        let resource = self.presenter.resource.clone();
        let entry = match conversion::needs_webhook(&resource) {
            true => {
                let gone = event == "DELETED";
                let registry = self.registry.clone();
                let converted = conversion::entry(&registry, &resource, entry);
                change.in_version(resource.api_version(), gone, converted).await?
            }
            false => entry,
        };
        Ok(Some(self.frame(event, &entry)))
    }

    /// An event with the whole object.
    fn whole(&self, event: &str, entry: &Entry) -> Bytes {
        let object = self.presenter.object(entry);
        let Some(codec) = &self.codec else {
            return line(event, &object);
        };
        match codec.body(&object) {
            Ok(body) => protobuf::frame(event, &body),
            Err(error) => {
                let problem = format!("{}: {error}", entry.index.name);
                error_frame(Format::Protobuf, &Status::internal(problem))
            }
        }
    }

    fn frame(&mut self, event: &str, entry: &Entry) -> Bytes {
        let format = self.presenter.form.format;
        match self.presenter.form.view {
            View::Object => self.whole(event, entry),
            View::Metadata => encode(format, event, &to_bytes(&partial(&entry.decode()))),
            View::Table => {
                let metadata = json!({ "resourceVersion": entry.revision.to_string() });
                let head = !std::mem::replace(&mut self.head_sent, true);
                line(
                    event,
                    &to_bytes(&self.presenter.table(std::slice::from_ref(entry), metadata, head)),
                )
            }
        }
    }

    fn bookmark(&mut self, initial_events_end: bool) -> Bytes {
        let mut metadata = json!({ "resourceVersion": self.seen.to_string() });
        if initial_events_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let resource = &self.presenter.resource;
        let (kind, api_version): (&str, String) = match self.presenter.form.view {
            View::Object => (&resource.kind, resource.api_version()),
            View::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".into()),
            View::Table => ("Table", "meta.k8s.io/v1".into()),
        };
        let mut object = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        if self.presenter.form.view == View::Table {
            object["rows"] = Value::Array(Vec::new());
            object["columnDefinitions"] = Value::Array(Vec::new());
        }
        encode(self.presenter.form.format, "BOOKMARK", &to_bytes(&object))
    }
}
