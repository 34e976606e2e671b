//! A policy compiled natively, in the scheduler's terms: what components are compared with.
//!
//! The same crates, the same loops of the SDK, the same questions; facts are turned into the SDK's types as the
//! plugin host turns them into a component's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capstan_points::scheduler::{self as point, Asks, Delta, Epoch, Pod, Rejection, Topics};
use capstan_points::{Bits, FailurePolicy, Fault, Seat};
use capstan_sdk::Plugin;
use capstan_sdk::scheduler::{Filter, NodeSet, Policy, Runner, Score};

use crate::native_facts as facts;

type Column = Result<Vec<i32>, capstan_sdk::Fault>;
type Rows = Result<Vec<capstan_sdk::scheduler::Row>, capstan_sdk::Fault>;
type Ask<P, R> = fn(&mut Runner<P>, &capstan_sdk::scheduler::Pod, &NodeSet) -> R;

/// See the module.
struct Native<P: Policy> {
    runner: Mutex<Runner<P>>,
    epoch: AtomicU64,
    weight: i64,
    filter: Option<Ask<P, Rows>>,
    score: Option<Ask<P, Column>>,
    topics: Topics,
}

impl<P: Policy> Native<P> {
    fn runner(&self) -> MutexGuard<'_, Runner<P>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fault(fault: capstan_sdk::Fault) -> Fault {
    Fault {
        kind: capstan_points::FaultKind::Reported,
        message: fault.message,
        retry: fault.retry,
    }
}

impl<P: Policy + Send> point::Policy for Native<P> {
    fn asks(&self) -> Asks {
        Asks {
            view: true,
            filter: self.filter.is_some(),
            score: self.score.is_some(),
            ..Asks::default()
        }
    }

    fn weight(&self) -> i64 {
        self.weight
    }

    fn profiles(&self) -> &[String] {
        &[]
    }

    fn epoch(&self) -> Epoch {
        self.epoch.load(Ordering::Relaxed)
    }

    fn apply(&self, epoch: Epoch, reset: bool, deltas: &[Delta]) -> Result<(), Fault> {
        let wanted = deltas.iter().filter(|delta| self.topics.include(delta));
        let deltas = wanted.map(facts::delta).collect();
        self.runner().apply(reset, deltas).map_err(fault)?;
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok(())
    }

    fn filter(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<Rejection>, Fault> {
        let Some(ask) = self.filter else {
            return Ok(Vec::new());
        };
        let nodes = NodeSet::from_words(candidates.words().to_vec());
        let rows = ask(&mut self.runner(), &facts::pod(pod), &nodes).map_err(fault)?;
        let row = |row: capstan_sdk::scheduler::Row| Rejection {
            reason: row.reason,
            resolvable: row.resolvable,
            nodes: Bits::from_words(row.nodes),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    fn score(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<i32>, Fault> {
        let Some(ask) = self.score else {
            return Ok(vec![0; candidates.count()]);
        };
        let nodes = NodeSet::from_words(candidates.words().to_vec());
        ask(&mut self.runner(), &facts::pod(pod), &nodes).map_err(fault)
    }
}

fn seat<P: Policy + Send + 'static>(
    name: &str,
    weight: i64,
    filter: Option<Ask<P, Rows>>,
    score: Option<Ask<P, Column>>,
) -> anyhow::Result<Seat<dyn point::Policy>>
where
    P::Config: Default,
{
    let policy = P::new(P::Config::default()).map_err(|fault| anyhow::anyhow!("{}", fault.message))?;
    let policy: Arc<dyn point::Policy> = Arc::new(Native {
        runner: Mutex::new(Runner::new(policy)),
        epoch: AtomicU64::new(0),
        weight,
        filter,
        score,
        topics: Topics {
            pods: P::PODS,
            starts: P::STARTS,
            namespaces: P::NAMESPACES,
            budgets: P::BUDGETS,
        },
    });
    Ok(Seat {
        plugin: name.to_owned(),
        revision: 1,
        failure_policy: FailurePolicy::Fail,
        policy,
    })
}

fn both<P: Filter + Score + Send + 'static>(
    name: &str,
    weight: i64,
) -> anyhow::Result<Seat<dyn point::Policy>>
where
    <P as Plugin>::Config: Default,
{
    seat::<P>(name, weight, Some(Runner::filter), Some(Runner::score))
}

/// The default policies but preemption, in the order and with the weights of their manifests.
pub(crate) fn seats() -> anyhow::Result<Vec<Seat<dyn point::Policy>>> {
    Ok(vec![
        seat::<scheduler_image_locality::ImageLocality>(
            "scheduler-image-locality",
            1,
            None,
            Some(Runner::score),
        )?,
        both::<scheduler_node_affinity::NodeAffinity>("scheduler-node-affinity", 2)?,
        seat::<scheduler_node_ports::NodePorts>("scheduler-node-ports", 1, Some(Runner::filter), None)?,
        both::<scheduler_pod_affinity::PodAffinity>("scheduler-pod-affinity", 2)?,
        both::<scheduler_resources::Resources>("scheduler-resources", 2)?,
        both::<scheduler_taints::Taints>("scheduler-taints", 3)?,
        both::<scheduler_topology_spread::TopologySpread>("scheduler-topology-spread", 2)?,
    ])
}
