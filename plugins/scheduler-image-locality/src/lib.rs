//! Prefers nodes that have the pod's images already: kube-scheduler's ImageLocality.
//!
//! An image counts by its size, scaled by the part of the nodes that have it, so that one node with a
//! popular image does not draw every pod. It reads no pods.

use capstan_sdk::{
    Fault, NoConfig, Plugin,
    scheduler::{Change, Cluster, Node, NodeId, NodeSet, Pod, Policy, Score, Symbol, normalize::SCORE_MAX},
};
use std::collections::BTreeMap;

/// Less than this is not worth a choice.
const SIZE_LOW_BYTES: i64 = 23 << 20;
/// More than this, for each container, adds nothing.
const SIZE_HIGH_BYTES: i64 = 1000 << 20;

/// The policy, with how many nodes have each image.
#[derive(Default)]
pub struct ImageLocality {
    nodes: BTreeMap<Symbol, i64>,
    images: BTreeMap<NodeId, Vec<Symbol>>,
}

impl Plugin for ImageLocality {
    type Config = NoConfig;
    const CONFIG_SCHEMA: &'static str = NoConfig::SCHEMA;

    fn new(_: NoConfig) -> Result<Self, Fault> {
        Ok(Self::default())
    }
}

impl ImageLocality {
    fn forget(&mut self, node: NodeId) {
        for image in self.images.remove(&node).unwrap_or_default() {
            if let Some(count) = self.nodes.get_mut(&image) {
                *count -= 1;
            }
        }
        self.nodes.retain(|_, count| *count > 0);
    }
}

impl Policy for ImageLocality {
    const PODS: bool = false;
    const NAMESPACES: bool = false;

    fn on_change(&mut self, cluster: &Cluster, change: Change<'_>) {
        match change {
            Change::Reset => *self = Self::default(),
            Change::NodeRemoved(id) => self.forget(id),
            Change::NodeUpserted(id) => {
                self.forget(id);
                let images: Vec<Symbol> = cluster
                    .node(id)
                    .map(|node| node.images.iter().map(|image| image.name).collect())
                    .unwrap_or_default();
                images
                    .iter()
                    .for_each(|image| *self.nodes.entry(*image).or_insert(0) += 1);
                self.images.insert(id, images);
            }
            _ => {}
        }
    }
}

impl Score for ImageLocality {
    /// The pod's images that any node has, with how many do.
    type Prepared = Vec<(Symbol, i64)>;

    fn prepare_score(&mut self, _: &Cluster, pod: &Pod, _: &NodeSet) -> Option<Self::Prepared> {
        let present = |image: &Symbol| self.nodes.get(image).map(|count| (*image, *count));
        let images: Vec<_> = pod.images.iter().filter_map(present).collect();
        (!images.is_empty()).then_some(images)
    }

    fn score(&self, cluster: &Cluster, images: &Self::Prepared, pod: &Pod, node: Node<'_>) -> i64 {
        let all = cluster.nodes_len().max(1) as i64;
        let weight = |(image, count): &(Symbol, i64)| {
            let size = node
                .images
                .iter()
                .find(|present| present.name == *image)
                .map_or(0, |present| present.size_bytes);
            size as i64 / all * count
        };
        let high = SIZE_HIGH_BYTES * pod.images.len().max(1) as i64;
        let sum = images.iter().map(weight).sum::<i64>().clamp(SIZE_LOW_BYTES, high);
        SCORE_MAX * (sum - SIZE_LOW_BYTES) / (high - SIZE_LOW_BYTES)
    }
}

capstan_sdk::export!(scheduler: score => ImageLocality);
