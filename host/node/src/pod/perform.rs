//! Carries out what the planner decided, each action a task of its own that reports one [`Outcome`].
//!
//! Invariants: every action ends, with a bound where the other side may be silent; a container that was
//! created but did not start is removed again. The worker holds an action's key busy until its outcome.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_runtime::{LinuxContainerResources, PodSandboxConfig, PodSandboxMetadata};
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::container_config::{self, Parts, container_config};
use super::environment::{Referred, environment, service_variables};
use super::image::{self, PullPolicy};
use super::memory::FailureKind;
use super::spec;
use crate::context::Node;
use crate::references::{Hold, Reference};
use crate::volume::{self, Made};

/// Longest run of a lifecycle command.
const HOOK_SECONDS_MAX: i64 = 30;

/// Why a container did not start.
#[derive(Debug)]
pub(crate) struct StartFailure {
    pub(crate) kind: FailureKind,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl StartFailure {
    fn new(kind: FailureKind, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// How an action ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Volumes(Result<Made, String>),
    Sandbox(Result<(), String>),
    Started {
        container: String,
        result: Result<(), StartFailure>,
        /// What it was started with.
        resources: Option<LinuxContainerResources>,
    },
    Resized {
        container: String,
        result: Result<LinuxContainerResources, String>,
    },
    /// Stopped or removed; the runtime says the rest.
    Done(Result<(), String>),
    /// The API server's view after a status patch.
    Status(Box<Result<Pod, kube::Error>>),
    /// Files and object are gone, or why not.
    Finished(Result<(), String>),
}

/// The objects that a pod refers to, watched while it lives.
pub(crate) type Holds = BTreeMap<Reference, Hold>;

/// Starts watching everything that the pod's spec names.
pub(crate) fn hold_references(node: &Node, pod: &Pod) -> Holds {
    let namespace = spec::namespace(pod).to_owned();
    let (mut maps, mut secrets) = volume::references(pod);
    for container in spec::all_containers(pod) {
        let (more_maps, more_secrets) = super::environment::references(container);
        maps.extend(more_maps);
        secrets.extend(more_secrets);
    }
    secrets.extend(
        spec::spec(pod)
            .image_pull_secrets
            .iter()
            .flatten()
            .map(|secret| secret.name.clone()),
    );
    let maps = maps.into_iter().map(|name| Reference::ConfigMap {
        namespace: namespace.clone(),
        name,
    });
    let secrets = secrets.into_iter().map(|name| Reference::Secret {
        namespace: namespace.clone(),
        name,
    });
    maps.chain(secrets)
        .map(|reference| (reference.clone(), node.references.hold(&reference)))
        .collect()
}

/// The objects as they are now.
async fn gather(holds: &Holds) -> Result<Referred, String> {
    let mut referred = Referred::default();
    for (reference, hold) in holds {
        match reference {
            Reference::ConfigMap { name, .. } => {
                referred
                    .config_maps
                    .insert(name.clone(), hold.config_map().await?);
            }
            Reference::Secret { name, .. } => {
                referred.secrets.insert(name.clone(), hold.secret().await?);
            }
        }
    }
    Ok(referred)
}

pub(crate) async fn make_volumes(node: Arc<Node>, pod: Arc<Pod>, holds: Arc<Holds>) -> Outcome {
    let made = async {
        // The first gathering waits for first lists, so that the mark is set on objects that are there.
        gather(&holds).await?;
        holds.values().for_each(Hold::mark_read);
        let referred = gather(&holds).await?;
        let folder = node.folders.volumes(&pod);
        volume::make(&node.client, &pod, &node.facts(""), &referred, &folder).await
    };
    Outcome::Volumes(made.await)
}

pub(crate) async fn run_sandbox(node: Arc<Node>, pod: Arc<Pod>, attempt: u32) -> Outcome {
    let config = PodSandboxConfig {
        metadata: PodSandboxMetadata {
            name: spec::name(&pod).to_owned(),
            uid: spec::uid(&pod).to_owned(),
            namespace: spec::namespace(&pod).to_owned(),
            attempt,
        },
        hostname: spec::spec(&pod)
            .hostname
            .clone()
            .unwrap_or_else(|| spec::name(&pod).chars().take(63).collect()),
        log_directory: node.folders.pod_logs(&pod),
        labels: pod
            .metadata
            .labels
            .clone()
            .into_iter()
            .flatten()
            .chain(container_config::labels(&pod, ""))
            .collect(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        host_network: spec::host_network(&pod),
        runtime_handler: spec::spec(&pod).runtime_class_name.clone().unwrap_or_default(),
    };
    let ran = node.cri.run_pod_sandbox(config).await;
    Outcome::Sandbox(ran.map(drop).map_err(|error| error.to_string()))
}

/// Everything that a container's start needs.
pub(crate) struct Start {
    pub(crate) node: Arc<Node>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) holds: Arc<Holds>,
    pub(crate) container: Container,
    pub(crate) attempt: u32,
    pub(crate) sandbox: String,
    pub(crate) pod_ip: String,
    pub(crate) volumes: BTreeMap<String, PathBuf>,
    /// The container whose processes it is to see, as the runtime knows it.
    pub(crate) target: Option<String>,
}

impl Start {
    pub(crate) async fn run(self) -> Outcome {
        let result = self.start().await;
        if let Err(failure) = &result
            && failure.kind != FailureKind::Image
        {
            self.say(true, "Failed", format!("Error: {}", failure.message));
        }
        Outcome::Started {
            resources: container_config::resources(&self.container).ok(),
            container: self.container.name,
            result,
        }
    }

    fn say(&self, warning: bool, reason: &str, message: String) {
        self.node
            .recorder
            .pod(&self.pod, Some(&self.container.name), warning, reason, message);
    }

    async fn start(&self) -> Result<(), StartFailure> {
        let config_failure =
            |message: String| StartFailure::new(FailureKind::Config, "CreateContainerConfigError", message);
        let referred = gather(&self.holds).await.map_err(config_failure)?;
        let image = self.image(&referred).await?;
        let services = service_variables(&self.pod, &self.node.services.list());
        let facts = self.node.facts(&self.pod_ip);
        let environment =
            environment(&self.pod, &self.container, &facts, &referred, &services).map_err(config_failure)?;
        let log_path = self
            .node
            .sidecars
            .log_path(&self.pod, &self.container.name, self.attempt);
        let parts = Parts {
            attempt: self.attempt,
            image: &image,
            environment: &environment,
            volumes: &self.volumes,
            log_path: &log_path,
            target: self.target.as_deref(),
        };
        let config = container_config(&self.pod, &self.container, parts).map_err(config_failure)?;
        self.make_sub_paths(&config.mounts).map_err(config_failure)?;
        let cri = &self.node.cri;
        let refused = |reason, error: capstan_runtime::Error| {
            StartFailure::new(FailureKind::Runtime, reason, error.to_string())
        };
        let id = cri
            .create_container(&self.sandbox, config)
            .await
            .map_err(|error| refused("CreateContainerError", error))?;
        self.say(
            false,
            "Created",
            format!("Created container: {}", self.container.name),
        );
        if let Err(error) = cri.start_container(&id).await {
            let _ = cri.remove_container(&id).await;
            return Err(refused("RunContainerError", error));
        }
        self.say(
            false,
            "Started",
            format!("Started container {}", self.container.name),
        );
        self.post_start(&id).await;
        Ok(())
    }

    /// A sub path that is not there yet becomes a folder, as in the original.
    fn make_sub_paths(&self, mounts: &[capstan_runtime::Mount]) -> Result<(), String> {
        for (mount, asked) in mounts.iter().zip(self.container.volume_mounts.iter().flatten()) {
            let is_sub = asked.sub_path.is_some() || asked.sub_path_expr.is_some();
            if is_sub && !mount.host_path.exists() {
                std::fs::create_dir_all(&mount.host_path).map_err(|error| {
                    format!(
                        "failed to prepare subPath for volumeMount {:?}: {error}",
                        asked.name
                    )
                })?;
            }
        }
        Ok(())
    }

    async fn post_start(&self, id: &str) {
        let hook = self
            .container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(command) = hook
            .and_then(|hook| hook.exec.as_ref())
            .and_then(|exec| exec.command.clone())
        else {
            return;
        };
        let failed = match self.node.cri.exec_sync(id, &command, HOOK_SECONDS_MAX).await {
            Ok(done) if done.exit_code == 0 => return,
            Ok(done) => format!("exit code {}", done.exit_code),
            Err(error) => error.to_string(),
        };
        self.say(
            true,
            "FailedPostStartHook",
            format!("PostStartHook failed: {failed}"),
        );
        let _ = self
            .node
            .cri
            .stop_container(id, spec::grace_seconds(&self.pod))
            .await;
    }

    /// Makes sure of the image; the reference under which the runtime has it.
    async fn image(&self, referred: &Referred) -> Result<String, StartFailure> {
        let cri = &self.node.cri;
        let name = self.container.image.clone().unwrap_or_default();
        let failure = |error: capstan_runtime::Error| {
            let reason = match &error {
                capstan_runtime::Error::Image { reason, .. } => reason,
                _ => "ErrImagePull",
            };
            StartFailure::new(FailureKind::Image, reason, error.to_string())
        };
        let policy = image::pull_policy(&self.container);
        if policy != PullPolicy::Always
            && let Some(present) = cri.image_status(&name).await.map_err(failure)?
        {
            self.say(
                false,
                "Pulled",
                format!("Container image \"{name}\" already present on machine"),
            );
            return Ok(if present.id.is_empty() { name } else { present.id });
        }
        if policy == PullPolicy::Never {
            let message = format!("Container image \"{name}\" is not present with pull policy of Never");
            self.say(true, "ErrImageNeverPull", message.clone());
            return Err(StartFailure::new(
                FailureKind::Image,
                "ErrImageNeverPull",
                message,
            ));
        }
        self.say(false, "Pulling", format!("Pulling image \"{name}\""));
        let began = Instant::now();
        let wanted = spec::spec(&self.pod).image_pull_secrets.iter().flatten();
        let secrets: Vec<&Secret> = wanted
            .filter_map(|secret| referred.secrets.get(&secret.name)?.as_deref())
            .collect();
        match cri.pull_image(&name, image::credentials(&name, secrets)).await {
            Ok(reference) => {
                let took = format!("{:.3}s", began.elapsed().as_secs_f64());
                let message =
                    format!("Successfully pulled image \"{name}\" in {took} ({took} including waiting)");
                self.say(false, "Pulled", message);
                Ok(reference)
            }
            Err(error) => {
                let failure = failure(error);
                let message = format!("Failed to pull image \"{name}\": {}", failure.message);
                self.say(true, "Failed", message);
                self.say(true, "Failed", format!("Error: {}", failure.reason));
                Err(failure)
            }
        }
    }
}

/// Changes what a running container may use.
pub(crate) async fn resize(
    node: Arc<Node>,
    container: String,
    id: String,
    resources: LinuxContainerResources,
) -> Outcome {
    let updated = node.cri.update_container_resources(&id, resources.clone()).await;
    Outcome::Resized {
        result: updated
            .map(|()| resources)
            .map_err(|error| format!("resizing container {container}: {error}")),
        container,
    }
}

/// Runs the preStop hook within the grace, then stops.
pub(crate) async fn stop(
    node: Arc<Node>,
    pod: Arc<Pod>,
    container: String,
    id: String,
    grace_seconds: i64,
    reason: String,
) -> Outcome {
    node.recorder
        .pod(&pod, Some(&container), false, "Killing", reason);
    let began = Instant::now();
    if grace_seconds > 0 {
        let bound = Duration::from_secs(grace_seconds.unsigned_abs());
        if tokio::time::timeout(bound, pre_stop(&node, &pod, &container, &id, grace_seconds))
            .await
            .is_err()
        {
            tracing::debug!(container, "preStop hook used up the grace");
        }
    }
    let spent = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
    // The original leaves a container two seconds at least after its hook.
    let left = if grace_seconds == 0 {
        0
    } else {
        grace_seconds.saturating_sub(spent).max(grace_seconds.min(2))
    };
    let stopped = node.cri.stop_container(&id, left).await;
    Outcome::Done(stopped.map_err(|error| format!("stopping container {container}: {error}")))
}

async fn pre_stop(node: &Node, pod: &Pod, container: &str, id: &str, grace_seconds: i64) {
    let lifecycle = spec::container(pod, container).and_then(|container| container.lifecycle.as_ref());
    let Some(hook) = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()) else {
        return;
    };
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
    }
    let Some(command) = hook.exec.as_ref().and_then(|exec| exec.command.clone()) else {
        return;
    };
    let failed = match node.cri.exec_sync(id, &command, grace_seconds).await {
        Ok(done) if done.exit_code == 0 => return,
        Ok(done) => format!("exit code {}", done.exit_code),
        Err(error) => error.to_string(),
    };
    node.recorder.pod(
        pod,
        Some(container),
        true,
        "FailedPreStopHook",
        format!("PreStopHook failed: {failed}"),
    );
}

/// Removes what the pod left on disk and, unless it is gone already, its object.
pub(crate) async fn finish(node: Arc<Node>, pod: Arc<Pod>, removed: bool) -> Outcome {
    let folders = [
        node.folders.pods().join(spec::uid(&pod)),
        node.folders.pod_logs(&pod),
    ];
    for folder in folders {
        if let Err(error) = tokio::fs::remove_dir_all(&folder).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Outcome::Finished(Err(format!("removing {}: {error}", folder.display())));
        }
    }
    if removed {
        return Outcome::Finished(Ok(()));
    }
    let pods: Api<Pod> = Api::namespaced(node.client.clone(), spec::namespace(&pod));
    let now = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        });
    Outcome::Finished(match pods.delete(spec::name(&pod), &now).await {
        Ok(_) => Ok(()),
        // Gone, or another of the same name by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(format!("deleting the pod's object: {error}")),
    })
}
