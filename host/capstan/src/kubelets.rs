//! The nodes in this process: a runtime and a kubelet each, and the way from the API server to them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use async_trait::async_trait;
use capstan_api::{Body, NodeProxy, Tunnel};
use capstan_cluster::DataDir;
use capstan_node::{Handler, Kubelet, Upgraded};
use capstan_plugin::Host;
use capstan_runtime::{Cri, Embedded, PodAddresses};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::arguments::Up;
use crate::bundle;
use crate::identity::Identities;
use crate::plugin_pages;

/// How long workloads may take to end when the process stops.
const WORKLOADS_BOUND_SECONDS: i64 = 5;

/// The label of the nodes that the control plane runs on.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// All nodes of the process.
pub(crate) struct Kubelets {
    nodes: Vec<(Kubelet, Embedded)>,
}

impl Kubelets {
    /// The name of node number `index`.
    pub(crate) fn name(index: u8) -> String {
        if index == 0 {
            "capstan".to_owned()
        } else {
            format!("capstan-{}", index + 1)
        }
    }

    /// Starts them, each with the client of its node, and opens the API server's way to them.
    pub(crate) async fn start(
        options: &Up,
        data: &DataDir,
        identities: &Identities,
        host: &Arc<Host>,
        proxied: &Proxied,
    ) -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        let mut handlers = HashMap::new();
        for index in 0..options.nodes {
            let name = Self::name(index);
            let (kubelet, runtime) = start_one(&name, options, data, identities, host)
                .await
                .with_context(|| format!("node {name}"))?;
            handlers.insert(name, kubelet.handler());
            nodes.push((kubelet, runtime));
        }
        proxied.open(handlers, host);
        mark_control_plane(identities.installer(), &Self::name(0)).await?;
        Ok(Self { nodes })
    }

    /// Ends workloads gracefully, then the kubelets.
    pub(crate) async fn shutdown(self) {
        for (kubelet, runtime) in self.nodes {
            kubelet.shutdown().await;
            runtime.shutdown(WORKLOADS_BOUND_SECONDS).await;
        }
    }
}

async fn start_one(
    name: &str,
    options: &Up,
    data: &DataDir,
    identities: &Identities,
    host: &Arc<Host>,
) -> anyhow::Result<(Kubelet, Embedded)> {
    let folder = data.folder(&format!("nodes/{name}"))?;
    let mut runtime = capstan_runtime::Options::new(&folder);
    runtime.root_dir = data.folder("images")?;
    runtime.pod_addresses = PodAddresses {
        network: options.cluster_cidr.network(),
        prefix_length: options.cluster_cidr.prefix_len(),
    };
    runtime.bundled = bundle::images();
    let program = std::env::current_exe().context("the path of this program")?;
    runtime.shim_command = vec![program.into(), "shim".into()];
    let embedded = Embedded::open(runtime).await?;
    let cri: Arc<dyn Cri> = Arc::new(embedded.clone());
    let mut kubelet = capstan_node::Options::new(name, folder.join("kubelet"));
    kubelet.problem = host.problem_seats();
    kubelet.sidecars = host.sidecar_seats();
    let kubelet = Kubelet::start(identities.node(name), cri, kubelet).await?;
    Ok((kubelet, embedded))
}

/// Gives a registered node the role label, which NodeRestriction keeps kubelets from.
async fn mark_control_plane(client: Client, node: &str) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client);
    let patch = Patch::Merge(json!({ "metadata": { "labels": { CONTROL_PLANE: "" } } }));
    let patched = nodes.patch_metadata(node, &PatchParams::default(), &patch).await;
    patched
        .map(drop)
        .with_context(|| format!("the label of node {node}"))
}

/// The API server's way to the kubelets; open once they run.
#[derive(Default)]
pub(crate) struct Proxied {
    handlers: OnceLock<HashMap<String, Arc<Handler>>>,
    host: OnceLock<Arc<Host>>,
}

impl Proxied {
    fn open(&self, handlers: HashMap<String, Arc<Handler>>, host: &Arc<Host>) {
        // The nodes are started once.
        let _ = self.handlers.set(handlers);
        let _ = self.host.set(Arc::clone(host));
    }
}

#[async_trait]
impl NodeProxy for Proxied {
    async fn request(
        &self,
        node: &str,
        request: http::Request<Body>,
    ) -> std::io::Result<http::Response<Body>> {
        let handler = self.handlers.get().and_then(|handlers| handlers.get(node));
        let Some(handler) = handler else {
            return Err(std::io::Error::new(
                std::io::ErrorKind::NotConnected,
                format!("node {node:?} is not up"),
            ));
        };
        let of_plugins = self.host.get().and_then(|host| plugin_pages::answer(host, &request));
        if let Some(response) = of_plugins {
            return Ok(response);
        }
        let mut response = handler.request(request).await.map(Body::wrap);
        let upgraded = response.extensions_mut().remove::<Upgraded>();
        if let Some(stream) = upgraded.and_then(|upgraded| upgraded.take()) {
            response.extensions_mut().insert(Tunnel::new(stream));
        }
        Ok(response)
    }
}
