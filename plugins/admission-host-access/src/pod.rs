//! What of a pod's spec reaches to the node.

use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) host_network: bool,
    #[serde(rename = "hostPID")]
    pub(crate) host_pid: bool,
    #[serde(rename = "hostIPC")]
    pub(crate) host_ipc: bool,
    pub(crate) volumes: Option<Vec<Volume>>,
    init_containers: Option<Vec<Container>>,
    containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
}

impl Spec {
    /// All containers with their places in the spec.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (String, &Container)> {
        let lists = [
            ("initContainers", &self.init_containers),
            ("containers", &self.containers),
            ("ephemeralContainers", &self.ephemeral_containers),
        ];
        lists.into_iter().flat_map(|(name, list)| {
            let each = list.iter().flatten().enumerate();
            each.map(move |(at, container)| (format!("/{name}/{at}"), container))
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) host_path: Option<HostPath>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct HostPath {
    pub(crate) path: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) ports: Option<Vec<Port>>,
    pub(crate) volume_mounts: Option<Vec<Mount>>,
    security_context: Option<SecurityContext>,
}

impl Container {
    pub(crate) fn capabilities(&self) -> Stated {
        let context = self.security_context.as_ref();
        context
            .and_then(|context| context.capabilities.clone())
            .unwrap_or_default()
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub(crate) host_port: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Mount {
    pub(crate) name: String,
    pub(crate) read_only: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SecurityContext {
    capabilities: Option<Stated>,
}

#[derive(Default, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Stated {
    pub(crate) add: Option<Vec<String>>,
    pub(crate) drop: Option<Vec<String>>,
}
