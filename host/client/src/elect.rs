//! Leader election by a Lease, as the original's `leaderelection`: one active, others warm.
//!
//! Invariants: two candidates never both hold [`Leadership`] while clocks run at the same rate, because a
//! holder gives up `renew_deadline` after its last success, before `lease_duration` lets another take over.
//! Called by scheduler and controllers. Not here: what a leader does.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

/// Who stands for election to what.
#[derive(Debug, Clone)]
pub struct Election {
    /// Name of the Lease, in `kube-system`.
    pub lease: String,
    /// This candidate, unique in the cluster.
    pub identity: String,
    /// How long a silent holder is respected.
    pub lease_duration: Duration,
    /// How long a holder goes on without a successful renewal.
    pub renew_deadline: Duration,
    /// Pause between attempts.
    pub retry_period: Duration,
}

impl Election {
    /// The original's default periods: 15 s, 10 s, 2 s.
    pub fn new(lease: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            lease: lease.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// Starts standing; the returned handle tells whether we lead.
    pub fn stand(self, client: Client) -> Leadership {
        let (tell, leads) = watch::channel(false);
        let task = tokio::spawn(self.run(client, tell));
        Leadership {
            leads,
            task: task.abort_handle(),
        }
    }

    async fn run(self, client: Client, tell: watch::Sender<bool>) {
        let leases: Api<Lease> = Api::namespaced(client, "kube-system");
        let mut rival: Option<(Option<String>, Instant)> = None;
        let mut renewed = Instant::now();
        loop {
            let attempt = tokio::time::timeout(self.renew_deadline, self.attempt(&leases, &mut rival)).await;
            match attempt {
                Ok(Ok(true)) => {
                    renewed = Instant::now();
                    tell.send_if_modified(|leads| !std::mem::replace(leads, true));
                }
                Ok(Ok(false)) => {
                    tell.send_if_modified(|leads| std::mem::replace(leads, false));
                }
                Ok(Err(error)) => tracing::debug!(lease = self.lease, %error, "election attempt failed"),
                Err(_) => tracing::debug!(lease = self.lease, "election attempt timed out"),
            }
            if renewed.elapsed() >= self.renew_deadline {
                tell.send_if_modified(|leads| std::mem::replace(leads, false));
            }
            tokio::time::sleep(self.retry_period).await;
        }
    }

    /// Takes or renews the lease; `false` when another holds it. `rival` is what we saw of the other, and
    /// since when by our own clock: its clock is not trusted.
    async fn attempt(
        &self,
        leases: &Api<Lease>,
        rival: &mut Option<(Option<String>, Instant)>,
    ) -> Result<bool, ElectionError> {
        let Some(mut lease) = leases.get_opt(&self.lease).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.lease.clone()),
                    ..Default::default()
                },
                spec: Some(self.spec(None)),
            };
            leases.create(&PostParams::default(), &lease).await?;
            return Ok(true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let held_by_other = spec
            .holder_identity
            .as_deref()
            .is_some_and(|holder| !holder.is_empty() && holder != self.identity);
        if held_by_other {
            let seen = lease.metadata.resource_version.clone();
            match rival {
                Some((version, since)) if *version == seen => {
                    if since.elapsed() < self.lease_duration {
                        return Ok(false);
                    }
                }
                _ => {
                    *rival = Some((seen, Instant::now()));
                    return Ok(false);
                }
            }
        }
        lease.spec = Some(self.spec(Some(&spec)));
        leases
            .replace(&self.lease, &PostParams::default(), &lease)
            .await?;
        *rival = None;
        Ok(true)
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let ours = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.lease_duration.as_secs()).ok(),
            acquire_time: before
                .filter(|_| ours)
                .and_then(|spec| spec.acquire_time.clone())
                .or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if ours || before.is_none() {
                transitions
            } else {
                transitions + 1
            }),
            ..Default::default()
        }
    }
}

/// One attempt did not come through; the next may.
#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    /// The API server refused or could not be reached.
    #[error("lease: {0}")]
    Lease(#[from] kube::Error),
}

/// Whether this candidate leads; standing ends when it is dropped.
#[derive(Debug)]
pub struct Leadership {
    leads: watch::Receiver<bool>,
    task: tokio::task::AbortHandle,
}

impl Leadership {
    /// Changes when leadership is won or lost.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.task.abort();
    }
}
