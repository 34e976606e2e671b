//! The node towards the cluster: registers it, beats its heart, keeps its status.
//!
//! Invariants: the Lease is renewed every ten seconds whatever the status does; the status is written when it
//! differs and otherwise every five minutes; the conditions of problem daemons are never touched. Not here:
//! pods.

pub(crate) mod machine;
pub(crate) mod object;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capstan_runtime::Cri;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};

use crate::error::{Error, Result};
use machine::{Disk, Machine};
use object::{Identity, Reading};

/// Pause between heartbeats, and between looks at the machine.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long the cluster believes a silent node.
const LEASE_SECONDS: i32 = 40;
/// The status is written at least this often.
const STATUS_MAX: Duration = Duration::from_secs(300);
/// Longest wait for the runtime's health.
const RUNTIME_MAX: Duration = Duration::from_secs(5);
/// Attempts to register, and the pause between them, while the API server comes up.
const REGISTER_TRIES: u32 = 100;
const REGISTER_PAUSE: Duration = Duration::from_millis(50);

/// Keeps one Node object.
pub(crate) struct Registration {
    pub(crate) client: Client,
    pub(crate) cri: Arc<dyn Cri>,
    pub(crate) identity: Identity,
    pub(crate) machine: Machine,
    pub(crate) root: PathBuf,
}

impl Registration {
    /// Creates the Node, or takes up the one that is there. Waits for an API server that is coming up.
    pub(crate) async fn register(&self) -> Result<Node> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let status = object::status(
            &self.identity,
            &self.machine,
            &self.read().await,
            &[],
            Timestamp::now(),
        );
        let wanted = object::registration(&self.identity, status);
        let mut tries = 0;
        loop {
            tries += 1;
            let failed = match self.create_or_update(&nodes, &wanted).await {
                Ok(node) => return Ok(node),
                Err(error) => error,
            };
            let refused = matches!(&failed, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429);
            if refused || tries >= REGISTER_TRIES {
                return Err(Error::Register {
                    node: self.identity.name.clone(),
                    source: Box::new(failed),
                });
            }
            tokio::time::sleep(REGISTER_PAUSE).await;
        }
    }

    async fn create_or_update(&self, nodes: &Api<Node>, wanted: &Node) -> kube::Result<Node> {
        let name = &self.identity.name;
        if nodes.get_opt(name).await?.is_some() {
            let labels = json!({ "metadata": { "labels": object::labels(&self.identity) } });
            return nodes
                .patch(name, &PatchParams::default(), &Patch::Strategic(labels))
                .await;
        }
        match nodes.create(&PostParams::default(), wanted).await {
            Err(kube::Error::Api(status)) if status.code == 409 => nodes.get(name).await,
            created => created,
        }
    }

    async fn read(&self) -> Reading {
        let runtime = match tokio::time::timeout(RUNTIME_MAX, self.cri.status()).await {
            Ok(status) => status.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {RUNTIME_MAX:?}")),
        };
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Reading {
            runtime,
            images: self.cri.list_images().await.unwrap_or_default(),
            memory: machine::memory(&text("/proc/meminfo")),
            disk: Disk::of(&self.root).ok(),
            tasks: machine::tasks(&text("/proc/loadavg"), &text("/proc/sys/kernel/pid_max")),
        }
    }

    /// Runs for ever: heartbeat and status.
    pub(crate) async fn run(self, node: Node) {
        let mut node = node;
        let mut written: Option<(NodeStatus, Instant)> = None;
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            if let Err(error) = self.renew(&node).await {
                tracing::warn!(%error, "heartbeat not written");
            }
            match self.write_status(&written).await {
                Ok(Some((status, now))) => {
                    written = Some((status, Instant::now()));
                    node = now;
                }
                Ok(None) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    tracing::warn!("the Node object is gone, registering again");
                    written = None;
                    match self.register().await {
                        Ok(fresh) => node = fresh,
                        Err(error) => tracing::warn!(%error, "node not registered"),
                    }
                }
                Err(error) => tracing::warn!(%error, "node status not written"),
            }
        }
    }

    /// Writes the status where that is due.
    async fn write_status(
        &self,
        written: &Option<(NodeStatus, Instant)>,
    ) -> kube::Result<Option<(NodeStatus, Node)>> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let reading = self.read().await;
        let make = |before: &NodeStatus| {
            let conditions = before.conditions.as_deref().unwrap_or(&[]);
            object::status(
                &self.identity,
                &self.machine,
                &reading,
                conditions,
                Timestamp::now(),
            )
        };
        if let Some((before, at)) = written
            && at.elapsed() < STATUS_MAX
            && !object::differs(before, &make(before))
        {
            return Ok(None);
        }
        let now = nodes.get(&self.identity.name).await?;
        let status = make(now.status.as_ref().unwrap_or(&NodeStatus::default()));
        let name = &self.identity.name;
        let patch = Patch::Strategic(json!({ "status": &status }));
        let node = nodes.patch_status(name, &PatchParams::default(), &patch).await?;
        Ok(Some((status, node)))
    }

    async fn renew(&self, node: &Node) -> kube::Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let name = &self.identity.name;
        let renewed = MicroTime(Timestamp::now());
        let patch = Patch::Merge(json!({ "spec": { "renewTime": &renewed } }));
        match leases.patch(name, &PatchParams::default(), &patch).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: name.clone(),
                    uid: node.metadata.uid.clone().unwrap_or_default(),
                    ..Default::default()
                }]),
                ..Default::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                renew_time: Some(renewed),
                ..Default::default()
            }),
        };
        leases.create(&PostParams::default(), &lease).await.map(drop)
    }
}
