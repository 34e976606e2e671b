//! Renewals of leases, all on one stream.
//!
//! A renewal that was sent on a stream that broke is sent again on the next: renewing twice does no harm.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use capstan_store::{Error, LeaseId, Result};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::connections::Effect;
use super::connections::{Connections, Endpoint};
use super::failure::{Failure, Next};
use super::session::Headers;
use crate::proto::etcdserverpb as pb;
use pb::lease_client::LeaseClient;

/// Renewals that wait for the stream's task, or on the stream.
const RENEWALS_MAX: usize = 4_096;
/// The pauses before a stream is begun again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<i64>>;

struct Renewal {
    id: LeaseId,
    answer: Answer,
}

/// The stream of renewals.
#[derive(Debug)]
pub(super) struct KeepAlives {
    renewals: mpsc::Sender<Renewal>,
    bound: Duration,
}

impl KeepAlives {
    /// Needs a runtime for the stream's task.
    pub(super) fn new(connections: &Arc<Connections>) -> Self {
        let (renewals, receiver) = mpsc::channel(RENEWALS_MAX);
        let stream = RenewalStream {
            connections: connections.clone(),
            waiting: HashMap::new(),
        };
        tokio::spawn(stream.run(receiver));
        Self {
            renewals,
            bound: connections.request_timeout,
        }
    }

    /// Renews a lease; returns its TTL in seconds.
    pub(super) async fn renew(&self, id: LeaseId) -> Result<i64> {
        let (answer, renewed) = oneshot::channel();
        let ended = || Error::Unavailable("the store is shut down".into());
        let asked = async {
            let renewal = Renewal { id, answer };
            self.renewals.send(renewal).await.map_err(|_| ended())?;
            renewed.await.map_err(|_| ended())?
        };
        let in_time = tokio::time::timeout(self.bound, asked).await;
        in_time.unwrap_or_else(|_| Err(Error::Unavailable("the lease was not renewed in time".into())))
    }
}

struct RenewalStream {
    connections: Arc<Connections>,
    waiting: HashMap<LeaseId, Vec<Answer>>,
}

struct Live {
    requests: mpsc::Sender<pb::LeaseKeepAliveRequest>,
    answers: Streaming<pb::LeaseKeepAliveResponse>,
}

impl RenewalStream {
    async fn run(mut self, mut renewals: mpsc::Receiver<Renewal>) {
        let mut pause = PAUSE_MIN;
        loop {
            self.waiting.retain(|_, answers| {
                answers.retain(|answer| !answer.is_closed());
                !answers.is_empty()
            });
            if self.waiting.is_empty() {
                let Some(renewal) = renewals.recv().await else {
                    return;
                };
                self.waiting.insert(renewal.id, vec![renewal.answer]);
            }
            let connections = self.connections.clone();
            let endpoint = connections.pick();
            let headers = connections.headers();
            let status = match self.open(endpoint, &headers).await {
                Ok(live) => match self.serve(live, &mut renewals).await {
                    Some((status, answered)) => {
                        if answered {
                            pause = PAUSE_MIN;
                        }
                        status
                    }
                    None => return,
                },
                Err(status) => status,
            };
            let failure = Failure::of(&status, Effect::Read);
            if failure.next == Next::GiveUp {
                // Refused, not failed: asking again would change nothing.
                for answer in self.waiting.drain().flat_map(|(_, answers)| answers) {
                    let _ = answer.send(Err(failure.error.clone()));
                }
            }
            connections.stream_failed(endpoint, &headers, &status).await;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn open(&mut self, endpoint: &Endpoint, headers: &Headers) -> Result<Live, Status> {
        let (requests, receiver) = mpsc::channel(RENEWALS_MAX);
        for id in self.waiting.keys() {
            let _ = requests.try_send(pb::LeaseKeepAliveRequest { id: *id });
        }
        let mut client = LeaseClient::new(endpoint.link.clone());
        let opened = client.lease_keep_alive(headers.on(ReceiverStream::new(receiver)));
        let opened = tokio::time::timeout(self.connections.request_timeout, opened).await;
        let answers = opened.map_err(|_| Status::unavailable("no stream in time"))??;
        Ok(Live {
            requests,
            answers: answers.into_inner(),
        })
    }

    /// Serves until the stream breaks (and tells whether it ever answered), or nobody can ask any more.
    async fn serve(
        &mut self,
        mut live: Live,
        renewals: &mut mpsc::Receiver<Renewal>,
    ) -> Option<(Status, bool)> {
        let mut has_answered = false;
        loop {
            tokio::select! {
                answer = live.answers.message() => match answer {
                    Ok(Some(answer)) => {
                        has_answered = true;
                        self.answer(&answer);
                    }
                    Ok(None) => return Some((Status::unavailable("the stream ended"), has_answered)),
                    Err(status) => return Some((status, has_answered)),
                },
                renewal = renewals.recv() => {
                    let Renewal { id, answer } = renewal?;
                    self.waiting.entry(id).or_default().push(answer);
                    if live.requests.try_send(pb::LeaseKeepAliveRequest { id }).is_err() {
                        return Some((Status::unavailable("the stream takes no more"), has_answered));
                    }
                }
            }
        }
    }

    /// An answer is to the oldest renewal of its lease.
    fn answer(&mut self, message: &pb::LeaseKeepAliveResponse) {
        self.connections.saw(message.header.as_ref());
        let Some(answers) = self.waiting.get_mut(&message.id) else {
            return;
        };
        let renewed = if message.ttl > 0 {
            Ok(message.ttl)
        } else {
            Err(Error::LeaseNotFound)
        };
        let _ = answers.remove(0).send(renewed);
        if answers.is_empty() {
            self.waiting.remove(&message.id);
        }
    }
}
