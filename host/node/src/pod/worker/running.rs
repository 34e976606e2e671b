//! The part of a worker that follows running containers: their probes, their sidecars, and what is said when
//! one begins to wait for its next attempt.
//!
//! Invariant: probe tasks belong to one container id and end with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use capstan_runtime::{ContainerState, ContainerStatus as Run};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use tokio::task::JoinSet;

use super::{Event, Worker};
use crate::pod::seen::{self, PodRuntime};
use crate::pod::spec;
use crate::probe::{self, Asked, Kind};

impl Worker {
    /// Tells of containers that begin to wait for their next attempt.
    pub(super) fn say_pauses(&self, before: &PodStatus, after: &PodStatus) {
        let reason = |status: &PodStatus, name: &str| {
            let all = status
                .container_statuses
                .iter()
                .chain(&status.init_container_statuses)
                .flatten();
            let waiting = all
                .filter(|shown| shown.name == name)
                .find_map(|shown| shown.state.as_ref()?.waiting.clone());
            waiting.map(|waiting| {
                (
                    waiting.reason.unwrap_or_default(),
                    waiting.message.unwrap_or_default(),
                )
            })
        };
        for container in spec::all_containers(&self.pod) {
            let Some((now, _)) = reason(after, &container.name) else {
                continue;
            };
            if reason(before, &container.name).is_some_and(|(before, _)| before == now) {
                continue;
            }
            let name = &container.name;
            match now.as_str() {
                "CrashLoopBackOff" => {
                    let pod = spec::full_name(&self.pod);
                    let message = format!("Back-off restarting failed container {name} in pod {pod}");
                    self.say(Some(name), true, "BackOff", message);
                }
                "ImagePullBackOff" => {
                    let image = container.image.as_deref().unwrap_or_default();
                    self.say(
                        Some(name),
                        false,
                        "BackOff",
                        format!("Back-off pulling image \"{image}\""),
                    );
                    self.say(Some(name), true, "Failed", "Error: ImagePullBackOff".into());
                }
                _ => {}
            }
        }
    }

    /// Begins and ends verdicts, probe tasks and sidecar work with the containers that they belong to.
    pub(super) fn follow_probes(&mut self, runtime: &PodRuntime) {
        let pod = Arc::clone(&self.pod);
        let mut running: BTreeSet<&str> = BTreeSet::new();
        for container in spec::all_containers(&pod) {
            let latest = runtime.latest(&container.name);
            let Some(run) = latest.filter(|run| run.state == ContainerState::Running) else {
                continue;
            };
            running.insert(&container.name);
            if self.verdicts.id(&container.name) != Some(run.id.as_str()) {
                self.verdicts.begin(container, &run.id);
                self.probes.remove(&container.name);
                let kinds: &[Kind] = if container.startup_probe.is_some() {
                    &[Kind::Startup]
                } else {
                    &[Kind::Liveness, Kind::Readiness]
                };
                self.probe(kinds, container, run, runtime);
            } else if container.startup_probe.is_some()
                && self.verdicts.started(&container.name)
                && self
                    .probes
                    .get(&container.name)
                    .is_some_and(|tasks| tasks.len() == 1)
            {
                self.probes.remove(&container.name);
                self.probe(&[Kind::Liveness, Kind::Readiness], container, run, runtime);
            }
        }
        let ended: Vec<String> = spec::all_containers(&pod)
            .filter(|container| !running.contains(container.name.as_str()))
            .map(|container| container.name.clone())
            .collect();
        for name in ended {
            self.verdicts.end(&name);
            self.probes.remove(&name);
        }
        let address = runtime.sandbox().map(|sandbox| sandbox.ip.clone());
        self.node
            .sidecars
            .follow(&self.node, &self.pod, runtime.containers(), address.as_deref());
    }

    fn probe(
        &mut self,
        kinds: &[Kind],
        container: &k8s_openapi::api::core::v1::Container,
        run: &Run,
        runtime: &PodRuntime,
    ) {
        let host = runtime
            .sandbox()
            .map(|sandbox| sandbox.ip.clone())
            .unwrap_or_default();
        let pod_ip = if spec::host_network(&self.pod) {
            self.node.ip.clone()
        } else {
            host
        };
        let age = seen::timestamp(run.started_at_ns)
            .and_then(|started| Duration::try_from(Timestamp::now().duration_since(started)).ok())
            .unwrap_or_default();
        let mut tasks = JoinSet::new();
        for kind in kinds {
            let asked = Asked {
                pod: Arc::clone(&self.pod),
                container: container.clone(),
                id: run.id.clone(),
                pod_ip: pod_ip.clone(),
                kind: *kind,
                age,
            };
            let sender = self.sender.clone();
            let report = move |report| {
                let sender = sender.clone();
                async move {
                    let _ = sender.send(Event::Probe(report)).await;
                }
            };
            tasks.spawn(probe::run(
                asked,
                Arc::clone(&self.node.cri),
                self.node.recorder.clone(),
                report,
            ));
        }
        self.probes.insert(container.name.clone(), tasks);
    }
}
