//! Starts all controllers, once this process leads.

use std::sync::Arc;
use std::time::Duration;

use capstan_client::{Accounts, Election, Shared};
use capstan_points::Seats;
use capstan_points::remedy::Remedy;
use kube::Client;
use tokio::task::{JoinHandle, JoinSet};

use crate::certificates::{Authority, Certificates};
use crate::cron_job::CronJobs;
use crate::daemon_set::DaemonSets;
use crate::deployment::Deployments;
use crate::disruption::Disruptions;
use crate::endpoint_slice::EndpointSlices;
use crate::error::Error;
use crate::event::Recorder;
use crate::garbage::Garbage;
use crate::informers::Informers;
use crate::job::Jobs;
use crate::namespace::Namespaces;
use crate::node::Nodes;
use crate::pod_gc::PodGc;
use crate::remedy::Remedies;
use crate::replica_set::ReplicaSets;
use crate::resource_quota::ResourceQuotas;
use crate::role_aggregation::RoleAggregation;
use crate::secret_tokens::SecretTokens;
use crate::service_account::ServiceAccounts;
use crate::stateful_set::StatefulSets;
use crate::storage_protection::StorageProtection;
use crate::work::run;

/// Pause before the start is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Namespaces that wait to have their quotas recalculated; over it, all quotas are.
const GONE_MAX: usize = 4096;

/// What the composition root decides.
#[derive(Clone)]
pub struct Options {
    /// What other parts of this process watch, too; `None` where the controllers are alone.
    pub shared: Option<Shared>,
    /// Who each controller acts as; `None` where all of them act as the client that they were started with.
    pub accounts: Option<Accounts>,
    /// Stand for election first; `None` where there can be only one of us.
    pub election: Option<Election>,
    /// Published to every namespace as `kube-root-ca.crt`; empty publishes nothing.
    pub root_ca_pem: String,
    /// Signs certificate requests (`--cluster-signing-cert-file`, `--cluster-signing-key-file`); `None` signs none.
    pub authority: Option<Authority>,
    /// How long a node may be silent (`--node-monitor-grace-period`).
    pub node_monitor_grace: Duration,
    /// Ended pods that are kept (`--terminated-pod-gc-threshold`).
    pub terminated_pods_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shared: None,
            accounts: None,
            election: None,
            root_ca_pem: String::new(),
            authority: None,
            node_monitor_grace: Duration::from_secs(40),
            terminated_pods_max: 12_500,
        }
    }
}

/// The running controllers; they end when this is dropped.
#[derive(Debug)]
pub struct Controllers {
    task: JoinHandle<()>,
}

impl Controllers {
    /// Starts them, or starts to stand for election. Needs a tokio runtime.
    pub fn start(client: Client, options: Options, remedies: Seats<dyn Remedy>) -> Self {
        Self {
            task: tokio::spawn(lead(client, options, remedies)),
        }
    }

    /// Stops them and waits until they stopped. Whatever was under way is taken up at the next start.
    pub async fn shutdown(mut self) {
        self.task.abort();
        // It was aborted: that is no failure.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn lead(client: Client, options: Options, remedies: Seats<dyn Remedy>) {
    let Some(election) = options.election.clone() else {
        return keep_running(client, options, remedies).await;
    };
    let leadership = election.stand(client.clone());
    let mut leads = leadership.leads();
    loop {
        if leads.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        tracing::info!("leading: controllers start");
        tokio::select! {
            () = keep_running(client.clone(), options.clone(), remedies.clone()) => {}
            lost = leads.wait_for(|leads| !*leads) => {
                if lost.is_err() {
                    return;
                }
                tracing::warn!("leadership lost: controllers stop");
            }
        }
    }
}

async fn keep_running(client: Client, options: Options, remedies: Seats<dyn Remedy>) {
    loop {
        match run_all(client.clone(), &options, remedies.clone()).await {
            Ok(()) => tracing::error!("the controllers ended, starting them again"),
            Err(error) => tracing::warn!(%error, "the controllers could not start, trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Runs until dropped, or until one of them ends, which none should.
async fn run_all(client: Client, options: &Options, remedies: Seats<dyn Remedy>) -> Result<(), Error> {
    let shared = options.shared.clone().unwrap_or_else(|| Shared::start(&client));
    let informers = Informers::start(&client, shared);
    let catalog = crate::catalog::start(client.clone(), informers.definitions.clone());
    let events = Recorder::start(client.clone());
    let accounts = options.accounts.clone();
    let accounts = accounts.unwrap_or_else(|| Accounts::all(client.clone()));
    let of = |account| accounts.client(account);
    informers.synced().await?;

    let mut tasks = JoinSet::new();
    macro_rules! start {
        ($controller:expr) => {{
            let controller = Arc::new($controller);
            let wakes = controller.wakes();
            tasks.spawn(run(controller, wakes));
        }};
    }
    start!(ServiceAccounts::new(
        of("service-account-controller"),
        of("root-ca-cert-publisher"),
        &informers,
        &options.root_ca_pem
    ));
    start!(Namespaces::new(
        of("namespace-controller"),
        &informers,
        catalog.clone()
    ));
    start!(Deployments::new(of("deployment-controller"), &informers, &events));
    start!(ReplicaSets::new(of("replicaset-controller"), &informers, &events));
    start!(DaemonSets::new(of("daemon-set-controller"), &informers, &events));
    start!(StatefulSets::new(
        of("statefulset-controller"),
        &informers,
        &events
    ));
    start!(CronJobs::new(of("cronjob-controller"), &informers, &events));
    start!(Jobs::new(
        of("job-controller"),
        of("ttl-after-finished-controller"),
        &informers,
        &events
    ));
    start!(EndpointSlices::new(
        of("endpointslice-controller"),
        of("endpoint-controller"),
        &informers
    ));
    start!(Nodes::new(
        of("node-controller"),
        &informers,
        &events,
        options.node_monitor_grace
    ));
    start!(PodGc::new(
        of("pod-garbage-collector"),
        &informers,
        options.terminated_pods_max
    ));
    start!(Remedies::new(
        of("remedy-controller"),
        &informers,
        &events,
        remedies
    ));
    // Tokens of accounts are the manager's own work in the original, too.
    start!(SecretTokens::new(
        client.clone(),
        of("token-cleaner"),
        &informers,
        &options.root_ca_pem
    ));
    start!(Disruptions::new(of("disruption-controller"), &informers));
    start!(RoleAggregation::new(
        of("clusterrole-aggregation-controller"),
        &informers
    ));
    start!(StorageProtection::new(&accounts, &informers));
    start!(Certificates::new(
        of("certificate-controller"),
        &informers,
        options.authority.clone()
    ));
    let (gone, _) = tokio::sync::broadcast::channel(GONE_MAX);
    start!(ResourceQuotas::new(
        of("resourcequota-controller"),
        &informers,
        catalog.clone(),
        gone.clone()
    ));
    start!(Garbage::new(
        of("generic-garbage-collector"),
        &informers,
        catalog.clone(),
        gone
    ));
    tasks.join_next().await;
    Ok(())
}
