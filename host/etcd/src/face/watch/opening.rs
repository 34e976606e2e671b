//! Beginning a watch: what the client asked for, whether it may, and the store's answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use capstan_store::{Access, Error, KeyRange, Refusal, Store, Watch, WatchRequest};
use tonic::{Request, Status};

use super::super::caller::Host;
use crate::convert;
use crate::errors::status_of;
use crate::proto::etcdserverpb as pb;
use pb::watch_create_request::FilterType;

/// The least key, which stands for none.
const FIRST_KEY: &[u8] = &[0];

/// etcd's words.
pub(super) const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
pub(super) const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// What a client asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: i64,
    pub(super) request: WatchRequest,
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
    pub(super) progress_notify: bool,
    pub(super) fragment: bool,
    /// The client was told that there is such a watch.
    pub(super) is_announced: bool,
}

/// How it went; the reason is the client's to read.
pub(super) type Opened = Result<Watch, String>;
pub(super) type Opening = Pin<Box<dyn Future<Output = (Asked, Opened)> + Send>>;

impl Asked {
    /// # Errors
    /// etcd's reason why there can be no such watch.
    pub(super) fn new(create: &pb::WatchCreateRequest) -> Result<Self, &'static str> {
        let key = if create.key.is_empty() {
            FIRST_KEY
        } else {
            &create.key[..]
        };
        let range = convert::key_range(key, &create.range_end);
        if create.start_revision < 0 {
            return Err(Refusal::Compacted.message());
        }
        if matches!(&range, KeyRange::Span(start, end) if start >= end) {
            return Err(EMPTY_RANGE);
        }
        let has = |filter: FilterType| create.filters.contains(&i32::from(filter));
        Ok(Self {
            id: create.watch_id,
            request: WatchRequest {
                range,
                start_revision: create.start_revision,
                prev_kv: create.prev_kv,
                // The stream asks for progress itself, at etcd's pace.
                progress_notify: false,
            },
            no_put: has(FilterType::Noput),
            no_delete: has(FilterType::Nodelete),
            progress_notify: create.progress_notify,
            fragment: create.fragment,
            is_announced: false,
        })
    }
}

/// Begins a watch for a client.
pub(super) fn open(host: Arc<Host>, client: &Arc<Request<()>>, asked: Asked) -> Opening {
    let client = client.clone();
    Box::pin(async move {
        let opened = match permitted(&host, &client, &asked).await {
            Ok(()) => host
                .store
                .watch(asked.request.clone())
                .await
                .map_err(|error| reason(&error)),
            Err(reason) => Err(reason),
        };
        (asked, opened)
    })
}

async fn permitted(host: &Host, client: &Request<()>, asked: &Asked) -> Result<(), String> {
    let caller = host.caller(client).await.map_err(|status| in_go(&status))?;
    let state = host.store.auth_state();
    let checked = state.check(caller.as_ref(), Access::Read, &asked.request.range);
    checked.map_err(|refusal| in_go(&status_of(refusal)))
}

/// As Go prints an error of gRPC, which is what etcd gives as the reason here.
fn in_go(status: &Status) -> String {
    format!(
        "rpc error: code = {:?} desc = {}",
        status.code(),
        status.message()
    )
}

fn reason(error: &Error) -> String {
    match error.refusal() {
        Some(refusal) => refusal.message().to_owned(),
        None => error.to_string(),
    }
}
