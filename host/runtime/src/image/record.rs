//! What the store knows of an image: names, digests, defaults, and what kind of workload it is.
//!
//! Pure: decided once, from the manifest and the configuration, when the image comes in.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use serde::{Deserialize, Serialize};

use capstan_registry::{WASM_CONFIG, WASM_LAYER};

use super::blobs::hex_of;
use crate::task::Process;
use crate::{ContainerConfig, Error, Image, Result};

/// What there is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Workload {
    /// A component that is a blob by itself.
    Component { digest: String },
    /// A component in an image's file system.
    ComponentInRootfs,
    /// A Linux process in an image's file system.
    Container,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredImage {
    /// Of its manifest.
    pub(crate) digest: String,
    /// Of its configuration; CRI's image id.
    pub(crate) id: String,
    /// Canonical names with tags.
    pub(crate) tags: Vec<String>,
    /// `repository@digest` of each repository that it came from.
    pub(crate) repo_digests: Vec<String>,
    pub(crate) size_bytes: u64,
    pub(crate) workload: Workload,
    pub(crate) defaults: Defaults,
    /// Layers, lowest first, with their media types.
    pub(crate) layers: Vec<(String, String)>,
}

/// What an image says of the process that it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Defaults {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) envs: Vec<(String, String)>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    /// What asks the process to end; empty is SIGTERM.
    #[serde(default)]
    pub(crate) stop_signal: String,
}

impl StoredImage {
    /// Decides what an image is. `config` is the configuration blob's text.
    pub(crate) fn new(digest: String, manifest: &ImageManifest, config: &[u8]) -> Result<Self> {
        let media_type = manifest.config().media_type().to_string();
        let is_artifact = media_type == WASM_CONFIG
            || manifest
                .artifact_type()
                .as_ref()
                .is_some_and(|kind| kind.to_string() == WASM_LAYER);
        let (workload, defaults) = if is_artifact {
            (component_layer(manifest.layers())?, Defaults::default())
        } else {
            from_configuration(config)?
        };
        let layers: Vec<(String, String)> = manifest
            .layers()
            .iter()
            .map(|layer| (layer.digest().to_string(), layer.media_type().to_string()))
            .collect();
        for (layer, _) in &layers {
            hex_of(layer)?;
        }
        let size_bytes =
            manifest.layers().iter().map(Descriptor::size).sum::<u64>() + manifest.config().size();
        let id = manifest.config().digest().to_string();
        hex_of(&id)?;
        Ok(Self {
            digest,
            id,
            tags: vec![],
            repo_digests: vec![],
            size_bytes,
            workload,
            defaults,
            layers,
        })
    }

    /// As CRI shows it.
    pub(crate) fn to_cri(&self) -> Image {
        Image {
            id: self.id.clone(),
            repo_tags: self.tags.clone(),
            repo_digests: self.repo_digests.clone(),
            size_bytes: self.size_bytes,
        }
    }

    /// Digest reference of what runs.
    pub(crate) fn image_ref(&self) -> String {
        self.repo_digests
            .first()
            .cloned()
            .unwrap_or_else(|| self.digest.clone())
    }

    /// Whether some blob belongs to it.
    pub(crate) fn owns(&self, digest: &str) -> bool {
        self.digest == digest || self.id == digest || self.layers.iter().any(|(layer, _)| layer == digest)
    }

    /// The process of a container of this image: what the container says, else what the image says.
    /// An own command drops the image's arguments too, as in Kubernetes.
    pub(crate) fn process(&self, config: &ContainerConfig, hostname: &str) -> Process {
        let image = &self.defaults;
        let mut args = match (config.command.is_empty(), config.args.is_empty()) {
            (true, true) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
            (true, false) => [image.entrypoint.clone(), config.args.clone()].concat(),
            (false, _) => [config.command.clone(), config.args.clone()].concat(),
        };
        if matches!(self.workload, Workload::Component { .. }) && config.command.is_empty() {
            args.insert(0, config.metadata.name.clone());
        }
        let mut envs = vec![("HOSTNAME".to_owned(), hostname.to_owned())];
        for (name, value) in image.envs.iter().chain(&config.envs) {
            envs.retain(|(present, _)| present != name);
            envs.push((name.clone(), value.clone()));
        }
        let working_dir = [&config.working_dir, &image.working_dir]
            .into_iter()
            .find(|dir| !dir.is_empty());
        Process {
            args,
            envs,
            working_dir: working_dir.cloned().unwrap_or_else(|| "/".into()),
            user: config
                .run_as_user
                .map_or_else(|| image.user.clone(), |user| user.to_string()),
            ports: config.ports.clone(),
            resources: config.resources.clone(),
        }
    }
}

fn component_layer(layers: &[Descriptor]) -> Result<Workload> {
    let mut components = layers
        .iter()
        .filter(|layer| layer.media_type().to_string() == WASM_LAYER);
    match (components.next(), components.next()) {
        (Some(layer), None) => {
            let digest = layer.digest().to_string();
            hex_of(&digest)?;
            Ok(Workload::Component { digest })
        }
        (first, _) => {
            let count = if first.is_some() {
                "more than one layer"
            } else {
                "no layer"
            };
            Err(Error::image(
                "ErrImagePull",
                format!("a Wasm image has one layer of type {WASM_LAYER}; this has {count}"),
            ))
        }
    }
}

fn from_configuration(config: &[u8]) -> Result<(Workload, Defaults)> {
    let config: ImageConfiguration = serde_json::from_slice(config).map_err(|error| {
        Error::image(
            "ErrImagePull",
            format!("the image's configuration is damaged: {error}"),
        )
    })?;
    let process = config.config().clone().unwrap_or_default();
    let defaults = Defaults {
        entrypoint: process.entrypoint().clone().unwrap_or_default(),
        cmd: process.cmd().clone().unwrap_or_default(),
        envs: process
            .env()
            .iter()
            .flatten()
            .filter_map(|text| text.split_once('='))
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        working_dir: process.working_dir().clone().unwrap_or_default(),
        user: process.user().clone().unwrap_or_default(),
        stop_signal: process.stop_signal().clone().unwrap_or_default(),
    };
    let program = defaults.entrypoint.first().or(defaults.cmd.first());
    let is_wasm = config.architecture().to_string() == "wasm"
        || program.is_some_and(|program| program.ends_with(".wasm"));
    let workload = if is_wasm {
        Workload::ComponentInRootfs
    } else {
        Workload::Container
    };
    Ok((workload, defaults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContainerMetadata;

    fn image(workload: Workload) -> StoredImage {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let defaults = Defaults {
            entrypoint: words(&["/entry"]),
            cmd: words(&["cmd"]),
            envs: vec![("A".into(), "image".into()), ("B".into(), "image".into())],
            working_dir: "/work".into(),
            user: "10".into(),
            stop_signal: String::new(),
        };
        let none = String::new;
        StoredImage {
            digest: none(),
            id: none(),
            tags: vec![],
            repo_digests: vec![],
            size_bytes: 0,
            workload,
            defaults,
            layers: vec![],
        }
    }

    #[test]
    fn the_container_overrides_the_image() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (command, args, expected) in [
            ("", "", "/entry cmd"),
            ("", "mine", "/entry mine"),
            ("/own", "", "/own"),
            ("/own", "mine", "/own mine"),
        ] {
            let config = ContainerConfig {
                command: words(command),
                args: words(args),
                ..Default::default()
            };
            assert_eq!(
                image(Workload::Container).process(&config, "pod").args,
                words(expected)
            );
        }
        let config = ContainerConfig {
            envs: vec![("A".into(), "own".into())],
            run_as_user: Some(7),
            ..Default::default()
        };
        let process = image(Workload::Container).process(&config, "pod");
        let envs: Vec<String> = process
            .envs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(envs, ["HOSTNAME=pod", "B=image", "A=own"]);
        assert_eq!(
            (process.user.as_str(), process.working_dir.as_str()),
            ("7", "/work")
        );
    }

    #[test]
    fn a_component_is_called_by_its_containers_name() {
        let mut component = image(Workload::Component {
            digest: String::new(),
        });
        component.defaults = Defaults::default();
        let config = ContainerConfig {
            metadata: ContainerMetadata {
                name: "web".into(),
                attempt: 0,
            },
            args: vec!["x".into()],
            ..Default::default()
        };
        assert_eq!(component.process(&config, "pod").args, ["web", "x"]);
    }
}
