//! Whether a node has what a pod requests.

use capstan_sdk::scheduler::{Cluster, Node, Pod, Reason, Rejection};

/// A pod's requests, by the columns of the nodes' amounts.
pub struct Demands {
    demands: Vec<Demand>,
}

struct Demand {
    /// None where no node has the resource.
    column: Option<usize>,
    value: i64,
    reason: Reason,
}

impl Demands {
    pub(crate) fn of(cluster: &Cluster, pod: &Pod, ignored: &[String]) -> Option<Self> {
        let pods = cluster.find("pods");
        let asked = pod.requests.iter().filter(|amount| amount.value > 0);
        let checked =
            asked.filter(|amount| !ignored.iter().any(|name| name == cluster.text(amount.resource)));
        let mut demands: Vec<Demand> = checked
            .map(|amount| Demand {
                column: cluster.resource(amount.resource),
                value: amount.value,
                reason: match Some(amount.resource) == pods {
                    true => Reason::new("Too many pods"),
                    false => Reason::with("Insufficient $1", amount.resource, 0),
                },
            })
            .collect();
        // The original names the number of pods first.
        demands.sort_by_key(|demand| demand.reason != Reason::new("Too many pods"));
        (!demands.is_empty()).then_some(Self { demands })
    }

    pub(crate) fn check(&self, node: Node<'_>) -> Result<(), Rejection> {
        let mut rejection: Option<Rejection> = None;
        let mut permanent = false;
        for demand in &self.demands {
            let amounts = demand
                .column
                .map(|column| node.amounts(column))
                .unwrap_or_default();
            if demand.value > amounts.free() {
                permanent |= demand.value > amounts.allocatable;
                rejection = Some(match rejection {
                    None => demand.reason.into(),
                    Some(rejection) => rejection.also(demand.reason),
                });
            }
        }
        match rejection {
            None => Ok(()),
            Some(rejection) if permanent => Err(Rejection::permanent(rejection)),
            Some(rejection) => Err(rejection),
        }
    }
}
