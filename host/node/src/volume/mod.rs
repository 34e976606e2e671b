//! A pod's volumes on the host: emptyDir, hostPath, configMap, secret, downwardAPI, projected.
//!
//! Making is idempotent: it is done again when an object that a volume shows has changed, or a token nears
//! its end. A volume of another kind, or one whose object is missing, fails with words for a `FailedMount`
//! event and is tried again by the worker. Not here: mounting into the container (`pod/container_config.rs`).

mod atomic;
mod host_path;
mod payload;
mod token;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::pod::downward::Facts;
use crate::pod::environment::Referred;
use crate::pod::spec;
use payload::{Files, MODE_DEFAULT, Tokens};

/// Volumes that were made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Host path of each, by name.
    pub(crate) paths: BTreeMap<String, PathBuf>,
    /// When a token among them should be renewed.
    pub(crate) refresh_at: Option<Timestamp>,
    /// What could not be had and is done without.
    pub(crate) warnings: Vec<String>,
}

/// Names of the ConfigMaps and of the Secrets that a pod's volumes show.
pub(crate) fn references(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for volume in spec::spec(pod).volumes.iter().flatten() {
        maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        secrets.extend(
            volume
                .secret
                .iter()
                .filter_map(|source| source.secret_name.clone()),
        );
        for source in volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten())
        {
            maps.extend(source.config_map.iter().map(|source| source.name.clone()));
            secrets.extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }
    (maps, secrets)
}

/// Makes or updates all of a pod's volumes under `folder`.
pub(crate) async fn make(
    client: &kube::Client,
    pod: &Pod,
    facts: &Facts,
    referred: &Referred,
    folder: &Path,
) -> Result<Made, String> {
    let mut made = Made::default();
    for volume in spec::spec(pod).volumes.iter().flatten() {
        let tokens = token::of_volume(client, pod, volume, folder).await;
        made.warnings.extend(tokens.warnings);
        made.refresh_at = made.refresh_at.into_iter().chain(tokens.refresh_at).min();
        let work = work(pod, facts, referred, volume, &tokens.by_path)
            .map_err(|error| failed(&volume.name, &error))?;
        let path = folder.join(work.folder()).join(&volume.name);
        let done = tokio::task::spawn_blocking(move || work.perform(&path)).await;
        let path = done
            .map_err(|error| error.to_string())
            .flatten()
            .map_err(|error| failed(&volume.name, &error))?;
        made.paths.insert(volume.name.clone(), path);
    }
    Ok(made)
}

fn failed(volume: &str, error: &str) -> String {
    format!("MountVolume.SetUp failed for volume \"{volume}\" : {error}")
}

/// What is to be done for one volume.
enum Work {
    Empty,
    Host { path: String, kind: Option<String> },
    Show { kind: &'static str, files: Files },
}

impl Work {
    fn folder(&self) -> &'static str {
        match self {
            Self::Empty | Self::Host { .. } => "kubernetes.io~empty-dir",
            Self::Show { kind, .. } => kind,
        }
    }

    fn perform(self, path: &Path) -> Result<PathBuf, String> {
        let words = |error: std::io::Error| error.to_string();
        match self {
            Self::Empty => {
                std::fs::create_dir_all(path).map_err(words)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).map_err(words)?;
                Ok(path.to_owned())
            }
            Self::Host { path, kind } => host_path::prepare(&path, kind.as_deref()),
            Self::Show { files, .. } => {
                atomic::write(path, &files).map_err(words)?;
                Ok(path.to_owned())
            }
        }
    }
}

fn work(
    pod: &Pod,
    facts: &Facts,
    referred: &Referred,
    volume: &Volume,
    tokens: &Tokens,
) -> Result<Work, String> {
    if volume.empty_dir.is_some() {
        return Ok(Work::Empty);
    }
    if let Some(source) = &volume.host_path {
        return Ok(Work::Host {
            path: source.path.clone(),
            kind: source.type_.clone(),
        });
    }
    let show = |kind, files| Ok(Work::Show { kind, files });
    if let Some(source) = &volume.config_map {
        let map = referred.config_maps.get(&source.name).and_then(Option::as_deref);
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        let optional = source.optional == Some(true);
        let files = payload::config_map(&source.name, map, source.items.as_deref(), mode, optional)?;
        return show("kubernetes.io~configmap", files);
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let found = referred.secrets.get(name).and_then(Option::as_deref);
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        let files = payload::secret(
            name,
            found,
            source.items.as_deref(),
            mode,
            source.optional == Some(true),
        )?;
        return show("kubernetes.io~secret", files);
    }
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        let files = payload::downward(pod, facts, source.items.as_deref().unwrap_or(&[]), mode)?;
        return show("kubernetes.io~downward-api", files);
    }
    if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        let sources = source.sources.as_deref().unwrap_or(&[]);
        let files = payload::projected(pod, facts, sources, mode, referred, tokens)?;
        return show("kubernetes.io~projected", files);
    }
    Err(unsupported(volume))
}

/// Names the kind that was asked for.
fn unsupported(volume: &Volume) -> String {
    let document = serde_json::to_value(volume).unwrap_or_default();
    let kind = document
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .find(|key| *key != "name");
    format!(
        "this kubelet has no volumes of kind {:?}: use emptyDir, hostPath, configMap, secret, downwardAPI or projected",
        kind.unwrap_or("none")
    )
}
