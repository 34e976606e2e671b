//! The part of a pod's spec that the standards speak of.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A pod, or the template of one.
pub(crate) struct Pod {
    pub(crate) spec: PodSpec,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) host_network: bool,
    #[serde(rename = "hostPID")]
    pub(crate) host_pid: bool,
    #[serde(rename = "hostIPC")]
    pub(crate) host_ipc: bool,
    pub(crate) runtime_class_name: Option<String>,
    pub(crate) os: Option<Os>,
    pub(crate) security_context: Option<SecurityContext>,
    init_containers: Option<Vec<Container>>,
    containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
    /// Each volume by its members: its name and its one source.
    volumes: Option<Vec<BTreeMap<String, Anything>>>,
}

/// A value that matters only where it is text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Anything {
    Text(String),
    Other(serde::de::IgnoredAny),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Os {
    pub(crate) name: String,
}

/// A pod's or a container's; each has only some of the fields.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SecurityContext {
    pub(crate) privileged: Option<bool>,
    pub(crate) allow_privilege_escalation: Option<bool>,
    pub(crate) run_as_non_root: Option<bool>,
    pub(crate) run_as_user: Option<i64>,
    pub(crate) proc_mount: Option<String>,
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) seccomp_profile: Option<Profile>,
    pub(crate) app_armor_profile: Option<Profile>,
    pub(crate) se_linux_options: Option<SeLinux>,
    pub(crate) windows_options: Option<Windows>,
    pub(crate) sysctls: Option<Vec<Sysctl>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    pub(crate) add: Option<Vec<String>>,
    pub(crate) drop: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Profile {
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SeLinux {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) user: String,
    pub(crate) role: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Windows {
    pub(crate) host_process: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Sysctl {
    pub(crate) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) name: String,
    security_context: Option<SecurityContext>,
    pub(crate) ports: Option<Vec<Port>>,
    pub(crate) liveness_probe: Option<Action>,
    pub(crate) readiness_probe: Option<Action>,
    pub(crate) startup_probe: Option<Action>,
    pub(crate) lifecycle: Option<Lifecycle>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub(crate) host_port: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Lifecycle {
    pub(crate) post_start: Option<Action>,
    pub(crate) pre_stop: Option<Action>,
}

/// What a probe or a hook does, as far as it names a host.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Action {
    pub(crate) http_get: Option<Host>,
    pub(crate) tcp_socket: Option<Host>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Host {
    pub(crate) host: String,
}

static NOTHING: SecurityContext = SecurityContext {
    privileged: None,
    allow_privilege_escalation: None,
    run_as_non_root: None,
    run_as_user: None,
    proc_mount: None,
    capabilities: None,
    seccomp_profile: None,
    app_armor_profile: None,
    se_linux_options: None,
    windows_options: None,
    sysctls: None,
};

impl Container {
    pub(crate) fn security(&self) -> &SecurityContext {
        self.security_context.as_ref().unwrap_or(&NOTHING)
    }
}

impl Pod {
    pub(crate) fn security(&self) -> &SecurityContext {
        self.spec.security_context.as_ref().unwrap_or(&NOTHING)
    }

    /// All containers, in the order in which the original visits them.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = &self.spec;
        [
            &spec.init_containers,
            &spec.containers,
            &spec.ephemeral_containers,
        ]
        .into_iter()
        .flatten()
        .flatten()
    }

    /// The names of containers for which something holds.
    pub(crate) fn those(&self, holds: impl Fn(&Container) -> bool) -> Vec<&str> {
        self.containers()
            .filter(|container| holds(container))
            .map(|container| container.name.as_str())
            .collect()
    }

    /// Volumes: name and source.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.spec.volumes.iter().flatten().map(|volume| {
            let name = match volume.get("name") {
                Some(Anything::Text(name)) => name.as_str(),
                _ => "",
            };
            let source = volume
                .keys()
                .find(|key| *key != "name")
                .map_or("", String::as_str);
            (name, source)
        })
    }

    pub(crate) fn windows(&self) -> bool {
        self.spec.os.as_ref().is_some_and(|os| os.name == "windows")
    }
}
