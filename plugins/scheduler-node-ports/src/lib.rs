//! Named nodes and host ports: kube-scheduler's NodeName and NodePorts as one policy.
//!
//! Which host ports are taken is kept by node with each pod that comes or goes; most nodes have none.

use capstan_sdk::{
    Fault, NoConfig, Plugin,
    scheduler::{
        Change, Cluster, EventKinds, Filter, Hints, HostPort, Node, NodeId, Pod, Policy, Reason, Rejection,
        Symbol, WhatIf, empty_pod,
    },
};
use std::collections::BTreeMap;

/// The policy, with the ports taken on each node.
#[derive(Default)]
pub struct NodePorts {
    taken: BTreeMap<NodeId, Vec<HostPort>>,
}

impl Plugin for NodePorts {
    type Config = NoConfig;
    const CONFIG_SCHEMA: &'static str = NoConfig::SCHEMA;

    fn new(_: NoConfig) -> Result<Self, Fault> {
        Ok(Self::default())
    }
}

impl Policy for NodePorts {
    const NAMESPACES: bool = false;

    fn trim(pod: &mut Pod) {
        *pod = Pod {
            host_ports: std::mem::take(&mut pod.host_ports),
            ..empty_pod()
        };
    }

    fn on_change(&mut self, _: &Cluster, change: Change<'_>) {
        match change {
            Change::Reset => self.taken.clear(),
            Change::PodAdded(pod) if !pod.pod.host_ports.is_empty() => {
                self.taken
                    .entry(pod.node)
                    .or_default()
                    .extend(pod.pod.host_ports.iter().cloned());
            }
            Change::PodRemoved(pod) => self.free(pod.node, &pod.pod.host_ports),
            _ => {}
        }
    }
}

impl NodePorts {
    fn free(&mut self, node: NodeId, ports: &[HostPort]) {
        let Some(taken) = self.taken.get_mut(&node) else {
            return;
        };
        for port in ports {
            if let Some(at) = taken.iter().position(|other| other == port) {
                taken.swap_remove(at);
            }
        }
        if taken.is_empty() {
            self.taken.remove(&node);
        }
    }
}

impl Filter for NodePorts {
    const NODE_LOCAL: bool = true;

    /// The symbol of `0.0.0.0` where it is written out, otherwise that of the empty text.
    type Prepared = Symbol;

    fn prepare_filter(&mut self, cluster: &Cluster, pod: &Pod) -> Option<Symbol> {
        let concerned = pod.node_name != 0 || (!pod.host_ports.is_empty() && !self.taken.is_empty());
        concerned.then(|| cluster.find("0.0.0.0").unwrap_or(0))
    }

    fn filter(&self, _: &Cluster, any: &Symbol, pod: &Pod, node: Node<'_>) -> Result<(), Rejection> {
        if pod.node_name != 0 && pod.node_name != node.name {
            return Err(Rejection::permanent(Reason::new(
                "node(s) didn't match the requested node name",
            )));
        }
        let taken = match self.taken.get(&node.id) {
            Some(taken) if !pod.host_ports.is_empty() => taken,
            _ => return Ok(()),
        };
        let everywhere = |ip: Symbol| ip == 0 || ip == *any;
        let meets = |a: &HostPort, b: &HostPort| {
            a.port == b.port
                && a.protocol == b.protocol
                && (a.ip == b.ip || everywhere(a.ip) || everywhere(b.ip))
        };
        match pod
            .host_ports
            .iter()
            .any(|wanted| taken.iter().any(|port| meets(wanted, port)))
        {
            false => Ok(()),
            true => Err(Rejection::new(
                "node(s) didn't have free ports for the requested pod ports",
            )),
        }
    }
}

impl WhatIf for NodePorts {}

impl Hints for NodePorts {
    fn interests() -> EventKinds {
        EventKinds::NODE_ADDED | EventKinds::POD_REMOVED
    }
}

capstan_sdk::export!(scheduler: filter, what_if, hints => NodePorts);
