//! One informer a kind, shared by all controllers of the process.
//!
//! Not here: metadata of other kinds, which the garbage collector watches for itself.

use std::time::Duration;

use capstan_client::{Informer, Shared};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota,
    Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::runtime::watcher::Config;
use kube::{Api, Client};

use crate::Error;
use crate::catalog::Definition;
use crate::secret_tokens::{ACCOUNT_TOKEN, BOOTSTRAP_TOKEN};

/// Longest wait for the first lists.
const SYNC_MAX: Duration = Duration::from_secs(60);

/// All informers.
#[derive(Clone)]
pub(crate) struct Informers {
    pub(crate) account_tokens: Informer<Secret>,
    pub(crate) attributes_classes: Informer<VolumeAttributesClass>,
    pub(crate) bootstrap_tokens: Informer<Secret>,
    pub(crate) budgets: Informer<PodDisruptionBudget>,
    pub(crate) certificate_requests: Informer<CertificateSigningRequest>,
    pub(crate) claims: Informer<PersistentVolumeClaim>,
    pub(crate) cluster_roles: Informer<ClusterRole>,
    pub(crate) config_maps: Informer<ConfigMap>,
    pub(crate) controller_revisions: Informer<ControllerRevision>,
    pub(crate) cron_jobs: Informer<CronJob>,
    pub(crate) daemon_sets: Informer<DaemonSet>,
    pub(crate) definitions: Informer<Definition>,
    pub(crate) deployments: Informer<Deployment>,
    pub(crate) endpoint_slices: Informer<EndpointSlice>,
    pub(crate) endpoints: Informer<Endpoints>,
    pub(crate) jobs: Informer<Job>,
    pub(crate) leases: Informer<Lease>,
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) replica_sets: Informer<ReplicaSet>,
    pub(crate) resource_quotas: Informer<ResourceQuota>,
    pub(crate) service_accounts: Informer<ServiceAccount>,
    pub(crate) services: Informer<Service>,
    pub(crate) stateful_sets: Informer<StatefulSet>,
    pub(crate) volumes: Informer<PersistentVolume>,
}

impl Informers {
    /// Starts those that are not shared with other parts of the process.
    pub(crate) fn start(client: &Client, shared: Shared) -> Self {
        macro_rules! all {
            () => {
                Informer::start(Api::all(client.clone()), Config::default())
            };
        }
        let root_ca = Config::default().fields("metadata.name=kube-root-ca.crt");
        let secrets = |kind: &str| {
            let of_type = Config::default().fields(&format!("type={kind}"));
            Informer::start(Api::all(client.clone()), of_type)
        };
        Self {
            account_tokens: secrets(ACCOUNT_TOKEN),
            attributes_classes: all!(),
            bootstrap_tokens: secrets(BOOTSTRAP_TOKEN),
            budgets: all!(),
            certificate_requests: all!(),
            claims: all!(),
            cluster_roles: all!(),
            config_maps: Informer::start(Api::all(client.clone()), root_ca),
            controller_revisions: all!(),
            cron_jobs: all!(),
            daemon_sets: all!(),
            definitions: all!(),
            deployments: all!(),
            endpoint_slices: shared.endpoint_slices,
            endpoints: all!(),
            jobs: all!(),
            leases: Informer::start(
                Api::namespaced(client.clone(), "kube-node-lease"),
                Config::default(),
            ),
            namespaces: shared.namespaces,
            nodes: shared.nodes,
            pods: shared.pods,
            replica_sets: all!(),
            resource_quotas: all!(),
            service_accounts: all!(),
            services: shared.services,
            stateful_sets: all!(),
            volumes: all!(),
        }
    }

    /// Waits until every one has its first list.
    pub(crate) async fn synced(&self) -> Result<(), Error> {
        let Self {
            account_tokens,
            attributes_classes,
            bootstrap_tokens,
            budgets,
            certificate_requests,
            claims,
            cluster_roles,
            config_maps,
            controller_revisions,
            cron_jobs,
            daemon_sets,
            definitions,
            deployments,
            endpoint_slices,
            endpoints,
            jobs,
            leases,
            namespaces,
            nodes,
            pods,
            replica_sets,
            resource_quotas,
            service_accounts,
            services,
            stateful_sets,
            volumes,
        } = self;
        futures::try_join!(
            account_tokens.synced(SYNC_MAX),
            bootstrap_tokens.synced(SYNC_MAX),
            budgets.synced(SYNC_MAX),
            attributes_classes.synced(SYNC_MAX),
            certificate_requests.synced(SYNC_MAX),
            claims.synced(SYNC_MAX),
            cluster_roles.synced(SYNC_MAX),
            resource_quotas.synced(SYNC_MAX),
            volumes.synced(SYNC_MAX),
            config_maps.synced(SYNC_MAX),
            controller_revisions.synced(SYNC_MAX),
            cron_jobs.synced(SYNC_MAX),
            daemon_sets.synced(SYNC_MAX),
            definitions.synced(SYNC_MAX),
            deployments.synced(SYNC_MAX),
            endpoint_slices.synced(SYNC_MAX),
            endpoints.synced(SYNC_MAX),
            jobs.synced(SYNC_MAX),
            leases.synced(SYNC_MAX),
            namespaces.synced(SYNC_MAX),
            nodes.synced(SYNC_MAX),
            pods.synced(SYNC_MAX),
            replica_sets.synced(SYNC_MAX),
            service_accounts.synced(SYNC_MAX),
            services.synced(SYNC_MAX),
            stateful_sets.synced(SYNC_MAX),
        )?;
        Ok(())
    }
}
