//! One connection to one member on the bare stubs of etcd's protocol, and the words between them and the
//! history. It retries nothing, so that an answer is to the request that was sent.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use capstan_etcd::proto::etcdserverpb as pb;
use capstan_etcd::proto::mvccpb;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::history::{Answer, Compare, Event, KeyValue, Mode, Outcome, Request, Step, Target};

/// How long a request may take; longer than an election, so that most survive one.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(4);

const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Every so many values one is large, and every so many huge.
const LARGE: (u64, usize) = (16, 2_000);
const HUGE: (u64, usize) = (100, 60_000);

/// A member as clients reach it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

/// The bytes of a value: its number, and for some a long tail.
fn encode(value: u64) -> Bytes {
    let mut text = value.to_string();
    let length = [HUGE, LARGE]
        .iter()
        .find(|(every, _)| value.is_multiple_of(*every))
        .map_or(0, |(_, length)| *length);
    if length > 0 {
        text.push('.');
        text.extend(std::iter::repeat_n('.', length));
    }
    text.into()
}

/// The number of a value; 0 for bytes that nobody wrote.
fn decode(bytes: &[u8]) -> u64 {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let number = text.trim_end_matches('.').parse().unwrap_or(0);
    if encode(number) == bytes { number } else { 0 }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn key_value(kv: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        value: decode(&kv.value),
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// A change as the history has it.
pub fn event(event: &mvccpb::Event) -> Event {
    let kv = event.kv.clone().unwrap_or_default();
    Event {
        revision: kv.mod_revision,
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        put: (event.r#type == mvccpb::event::EventType::Put as i32).then(|| key_value(&kv)),
        previous: event.prev_kv.as_ref().map(key_value),
    }
}

fn compare(compare: &Compare) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let (target, union) = match compare.by {
        Target::Modified => (CompareTarget::Mod, TargetUnion::ModRevision(compare.seen.0)),
        Target::Value => (CompareTarget::Value, TargetUnion::Value(encode(compare.seen.1))),
    };
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: target as i32,
        key: bytes(&compare.key),
        target_union: Some(union),
        ..Default::default()
    }
}

fn range(key: &str, end: &str, mode: Mode) -> pb::RangeRequest {
    pb::RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        serializable: mode == Mode::Serializable,
        revision: if let Mode::At(revision) = mode {
            revision
        } else {
            0
        },
        ..Default::default()
    }
}

fn put(key: &str, value: u64, lease: i64, previous: bool) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(key),
        value: encode(value),
        lease,
        prev_kv: previous,
        ..Default::default()
    }
}

fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: true,
    }
}

fn operation(step: &Step, mode: Mode) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match step {
        Step::Put {
            key,
            value,
            lease,
            previous,
        } => Request::RequestPut(put(key, *value, *lease, *previous)),
        Step::Get { key, end } => Request::RequestRange(range(key, end, mode)),
        Step::Delete { key, end } => Request::RequestDeleteRange(delete(key, end)),
    };
    pb::RequestOp {
        request: Some(request),
    }
}

fn answer(response: &pb::ResponseOp) -> Answer {
    use pb::response_op::Response;
    match &response.response {
        Some(Response::ResponsePut(put)) => Answer::Put(put.prev_kv.as_ref().map(key_value)),
        Some(Response::ResponseRange(range)) => Answer::Got(range.kvs.iter().map(key_value).collect()),
        Some(Response::ResponseDeleteRange(delete)) => {
            Answer::Deleted(delete.prev_kvs.iter().map(key_value).collect())
        }
        Some(Response::ResponseTxn(_)) | None => Answer::Got(Vec::new()),
    }
}

fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// What a refusal leaves open. Anything that is not surely without effect is unknown.
fn outcome(status: &Status) -> Outcome {
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => Outcome::Refused(text),
        _ => Outcome::Unknown(text),
    }
}

/// A request's answer, or that none came in time.
///
/// # Errors
/// When the member refuses, or does not answer within [`ANSWER_WITHIN`].
pub async fn within<T>(
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

impl Client {
    /// A client of the member at `url`; it connects when first used, and again when it must.
    ///
    /// # Errors
    /// When `url` is none.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| url.to_owned())?;
        Ok(Self {
            channel: endpoint
                .connect_timeout(CONNECT_WITHIN)
                .tcp_nodelay(true)
                .connect_lazy(),
        })
    }

    /// Keys.
    pub fn keys(&self) -> pb::kv_client::KvClient<Channel> {
        pb::kv_client::KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Watches.
    pub fn watches(&self) -> pb::watch_client::WatchClient<Channel> {
        pb::watch_client::WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Leases.
    pub fn leases(&self) -> pb::lease_client::LeaseClient<Channel> {
        pb::lease_client::LeaseClient::new(self.channel.clone())
    }

    /// Members.
    pub fn cluster(&self) -> pb::cluster_client::ClusterClient<Channel> {
        pb::cluster_client::ClusterClient::new(self.channel.clone())
    }

    /// Status and upkeep.
    pub fn maintenance(&self) -> pb::maintenance_client::MaintenanceClient<Channel> {
        pb::maintenance_client::MaintenanceClient::new(self.channel.clone())
    }

    /// Sends a request; `plain` sends a single step by its own call instead of in a transaction.
    pub async fn perform(&self, request: &Request, plain: bool) -> Outcome {
        let single = plain || request.mode != Mode::Linearizable;
        let (succeeded, answer) = match request.then.as_slice() {
            [step] if single && request.compares.is_empty() => (true, self.step(step, request.mode).await),
            _ => return self.transaction(request).await,
        };
        match answer {
            Ok((revision, answer)) => Outcome::Ok {
                revision,
                succeeded,
                answers: vec![answer],
            },
            Err(status) => outcome(&status),
        }
    }

    async fn step(&self, step: &Step, mode: Mode) -> Result<(i64, Answer), Status> {
        let mut keys = self.keys();
        Ok(match step {
            Step::Put {
                key,
                value,
                lease,
                previous,
            } => {
                let told = within(keys.put(put(key, *value, *lease, *previous))).await?;
                (
                    revision(told.header.as_ref()),
                    Answer::Put(told.prev_kv.as_ref().map(key_value)),
                )
            }
            Step::Get { key, end } => {
                let told = within(keys.range(range(key, end, mode))).await?;
                (
                    revision(told.header.as_ref()),
                    Answer::Got(told.kvs.iter().map(key_value).collect()),
                )
            }
            Step::Delete { key, end } => {
                let told = within(keys.delete_range(delete(key, end))).await?;
                let before = told.prev_kvs.iter().map(key_value).collect();
                (revision(told.header.as_ref()), Answer::Deleted(before))
            }
        })
    }

    async fn transaction(&self, request: &Request) -> Outcome {
        let steps = |steps: &[Step]| steps.iter().map(|step| operation(step, request.mode)).collect();
        let message = pb::TxnRequest {
            compare: request.compares.iter().map(compare).collect(),
            success: steps(&request.then),
            failure: steps(&request.otherwise),
        };
        match within(self.keys().txn(message)).await {
            Ok(told) => Outcome::Ok {
                revision: revision(told.header.as_ref()),
                succeeded: told.succeeded,
                answers: told.responses.iter().map(answer).collect(),
            },
            Err(status) => outcome(&status),
        }
    }

    /// What a member says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<pb::StatusResponse, Status> {
        within(self.maintenance().status(pb::StatusRequest {})).await
    }

    /// Asks nothing but that a quorum stands behind the member.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn linearizable(&self) -> Result<i64, Status> {
        let told = within(self.keys().range(range("health", "", Mode::Linearizable))).await?;
        Ok(revision(told.header.as_ref()))
    }
}
