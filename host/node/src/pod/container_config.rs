//! A container's configuration for the runtime, from its spec, its environment and its volumes. Pure.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use capstan_kinds::quantity::Quantity;
use capstan_runtime::{ContainerConfig, ContainerMetadata, LinuxContainerResources, Mount};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::expansion::expand;
use super::spec;

/// Period over which a CPU limit is accounted, as the original's default.
const CPU_PERIOD_US: i64 = 100_000;
/// The least weight that the kernel takes, for containers without a request.
const CPU_SHARES_MIN: i64 = 2;

/// What the configuration is made of beside the spec.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) attempt: u32,
    /// As the image service resolved it.
    pub(crate) image: &'a str,
    pub(crate) environment: &'a [(String, String)],
    /// Host path of each volume.
    pub(crate) volumes: &'a BTreeMap<String, PathBuf>,
    /// Relative to the pod's log folder.
    pub(crate) log_path: &'a str,
    /// The container whose processes it is to see, as the runtime knows it.
    pub(crate) target: Option<&'a str>,
}

/// The whole configuration; the error names what in the spec cannot be had.
pub(crate) fn container_config(
    pod: &Pod,
    container: &Container,
    parts: Parts<'_>,
) -> Result<ContainerConfig, String> {
    let lookup = |name: &str| {
        let found = parts.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let expanded =
        |list: &Option<Vec<String>>| list.iter().flatten().map(|text| expand(text, lookup)).collect();
    let security = container.security_context.as_ref();
    let pod_security = spec::spec(pod).security_context.as_ref();
    Ok(ContainerConfig {
        metadata: ContainerMetadata {
            name: container.name.clone(),
            attempt: parts.attempt,
        },
        image: parts.image.to_owned(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: parts.environment.to_vec(),
        mounts: mounts(container, parts.volumes, lookup)?,
        labels: labels(pod, &container.name),
        annotations: BTreeMap::new(),
        log_path: parts.log_path.to_owned(),
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        target: parts.target.map(str::to_owned),
        resources: resources(container)?,
        run_as_user: security
            .and_then(|own| own.run_as_user)
            .or(pod_security.and_then(|of_pod| of_pod.run_as_user)),
        readonly_rootfs: security.and_then(|own| own.read_only_root_filesystem) == Some(true),
        privileged: security.and_then(|own| own.privileged) == Some(true),
        ports: container
            .ports
            .iter()
            .flatten()
            .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
            .filter_map(|port| u16::try_from(port.container_port).ok())
            .collect(),
    })
}

/// The labels by which tools of the CRI find a pod's containers.
pub(crate) fn labels(pod: &Pod, container: &str) -> BTreeMap<String, String> {
    [
        ("io.kubernetes.container.name", container),
        ("io.kubernetes.pod.name", spec::name(pod)),
        ("io.kubernetes.pod.namespace", spec::namespace(pod)),
        ("io.kubernetes.pod.uid", spec::uid(pod)),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.get(&mount.name).ok_or_else(|| {
            format!(
                "volumeMount {:?} of container {:?} names no volume of the pod",
                mount.name, container.name
            )
        })?;
        mounts.push(Mount {
            container_path: mount.mount_path.clone(),
            host_path: match sub_path(mount, &lookup)? {
                Some(inner) => volume.join(inner),
                None => volume.clone(),
            },
            readonly: mount.read_only == Some(true),
        });
    }
    Ok(mounts)
}

fn sub_path(mount: &VolumeMount, lookup: impl Fn(&str) -> Option<String>) -> Result<Option<PathBuf>, String> {
    let text = match (&mount.sub_path, &mount.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => path.clone(),
        (_, Some(expression)) if !expression.is_empty() => expand(expression, lookup),
        _ => return Ok(None),
    };
    let path = Path::new(&text);
    if path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Ok(Some(path.to_owned()));
    }
    Err(format!(
        "subPath {text:?} of volumeMount {:?} must be relative and may not contain \"..\"",
        mount.name
    ))
}

pub(crate) fn resources(container: &Container) -> Result<LinuxContainerResources, String> {
    let resources = container.resources.as_ref();
    let amount = |map: Option<&BTreeMap<_, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
                  name: &str| {
        let Some(quantity) = map.and_then(|map| map.get(name)) else {
            return Ok(None);
        };
        let parsed = quantity.0.parse::<Quantity>();
        parsed
            .map(Some)
            .map_err(|error| format!("{name} of container {:?}: {error}", container.name))
    };
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let cpu_limit = amount(limits, "cpu")?.map(|cpu| cpu.milli_value());
    let cpu_request = amount(requests, "cpu")?
        .map(|cpu| cpu.milli_value())
        .or(cpu_limit);
    Ok(LinuxContainerResources {
        cpu_quota_us: cpu_limit.map_or(0, |milli| (milli * CPU_PERIOD_US / 1000).max(1000)),
        cpu_period_us: if cpu_limit.is_some() { CPU_PERIOD_US } else { 0 },
        cpu_shares: cpu_request.map_or(CPU_SHARES_MIN, |milli| (milli * 1024 / 1000).max(CPU_SHARES_MIN)),
        memory_limit_bytes: amount(limits, "memory")?.map_or(0, |memory| memory.as_i64_ceil()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(container: serde_json::Value) -> Result<ContainerConfig, String> {
        let container: Container = serde_json::from_value(container).unwrap();
        let parts = Parts {
            attempt: 0,
            image: "i",
            environment: &[("A".to_owned(), "1".to_owned())],
            volumes: &[("v".to_owned(), PathBuf::from("/host/v"))].into(),
            log_path: "c/0.log",
            target: None,
        };
        container_config(&Pod::default(), &container, parts)
    }

    #[test]
    fn command_mounts_and_limits() {
        let made = config(json!({ "name": "c", "command": ["run", "$(A)"], "args": ["$(B)"],
            "volumeMounts": [{ "name": "v", "mountPath": "/data", "subPathExpr": "x/$(A)", "readOnly": true }],
            "resources": { "limits": { "cpu": "500m", "memory": "1Mi" }, "requests": { "cpu": "250m" } },
            "ports": [{ "containerPort": 80 }, { "containerPort": 53, "protocol": "UDP" }] }))
        .unwrap();
        assert_eq!(
            (made.command, made.args),
            (vec!["run".to_owned(), "1".into()], vec!["$(B)".to_owned()])
        );
        assert_eq!(made.mounts[0].host_path, Path::new("/host/v/x/1"));
        assert_eq!(
            (made.resources.cpu_quota_us, made.resources.cpu_shares),
            (50_000, 256)
        );
        assert_eq!(made.resources.memory_limit_bytes, 1 << 20);
        assert_eq!(made.ports, [80]);
    }

    #[test]
    fn paths_that_lead_out_and_unknown_volumes_are_refused() {
        for mount in [
            json!({ "name": "v", "mountPath": "/d", "subPath": "../x" }),
            json!({ "name": "v", "mountPath": "/d", "subPath": "/etc" }),
            json!({ "name": "none", "mountPath": "/d" }),
        ] {
            assert!(
                config(json!({ "name": "c", "volumeMounts": [mount] })).is_err(),
                "{mount}"
            );
        }
    }
}
