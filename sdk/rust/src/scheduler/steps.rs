//! The points beside filter and score, from a component's exports to the author's traits.

use super::{
    Bind, Binding, Delta, Enqueue, Event, EventKinds, Filter, Hints, Narrowing, NodeId, NodeSet, Permission,
    Permit, Pod, Policy, PostBind, PostFilter, PreBind, PreFilter, PreScore, Preparation, Question,
    QueueSort, Readiness, Release, Reserve, Runner, Step, Topics, Verdict,
};
use crate::{
    Fault,
    plugin::Component,
    wit::{
        scheduler_bind::exports::capstan::scheduler::bind,
        scheduler_enqueue::exports::capstan::scheduler::enqueue,
        scheduler_hints::exports::capstan::scheduler::hints,
        scheduler_permit::exports::capstan::scheduler::permit,
        scheduler_post_bind::exports::capstan::scheduler::post_bind,
        scheduler_post_filter::exports::capstan::scheduler::post_filter,
        scheduler_pre_bind::exports::capstan::scheduler::pre_bind,
        scheduler_pre_filter::exports::capstan::scheduler::pre_filter,
        scheduler_pre_score::exports::capstan::scheduler::pre_score,
        scheduler_queue_sort::exports::capstan::scheduler::queue_sort,
        scheduler_reserve::exports::capstan::scheduler::reserve,
        scheduler_view::exports::capstan::scheduler::view,
    },
};

impl<P: Policy> Runner<P> {
    /// What the policy wants to be told.
    pub fn topics() -> Topics {
        let wanted = [
            (P::PODS, Topics::PODS),
            (P::STARTS, Topics::STARTS),
            (P::NAMESPACES, Topics::NAMESPACES),
            (P::BUDGETS, Topics::BUDGETS),
        ];
        wanted
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .fold(Topics::empty(), |all, (_, topic)| all | topic)
    }
}

impl<P: Hints> Runner<P> {
    /// Whether a pod that the policy rejected is worth another try after the events.
    pub fn hint(&mut self, events: &[Event], pod: &Pod) -> Result<bool, Fault> {
        let concerned = events
            .iter()
            .filter(|event| (event.kinds & P::interests()).bits() != 0);
        let mut asked = false;
        let mut nodes = NodeSet::default();
        for event in concerned {
            match self.policy.hint(&self.cluster, event, pod) {
                Some(true) => return Ok(true),
                Some(false) => continue,
                None => asked = true,
            }
            match event.node.filter(|_| P::NODE_LOCAL) {
                Some(node) if self.cluster.node(node).is_some() => nodes.insert(node),
                Some(_) => {}
                None => nodes = self.cluster.nodes().map(|node| node.id).collect(),
            }
        }
        Ok(asked && self.takes_any(pod, &nodes)?)
    }
}

impl<P: Filter> Runner<P> {
    /// Whether the filter takes any of the nodes.
    fn takes_any(&mut self, pod: &Pod, nodes: &NodeSet) -> Result<bool, Fault> {
        let Some(prepared) = self.policy.prepare_filter(&self.cluster, pod) else {
            return Ok(!nodes.is_empty());
        };
        let takes = |id| {
            self.cluster.node(id).is_some_and(|node| {
                let verdict = self.policy.filter(&self.cluster, &prepared, pod, node);
                verdict.is_ok()
            })
        };
        Ok(nodes.iter().any(takes))
    }
}

impl<C, P: Policy> view::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn wants() -> Topics {
        Runner::<P>::topics()
    }

    fn apply(reset: bool, deltas: Vec<Delta>) -> Result<(), Fault> {
        C::call(|runner| runner.apply(reset, deltas))
    }
}

impl<C, P: Enqueue> enqueue::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn check(pod: Pod) -> Result<Readiness, Fault> {
        C::call(|runner| Ok(runner.policy.check(&runner.cluster, &pod)))
    }
}

impl<C, P: QueueSort> queue_sort::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn rank(pod: Pod, queued_ms: u64) -> Result<Vec<i64>, Fault> {
        C::call(|runner| Ok(runner.policy.rank(&runner.cluster, &pod, queued_ms)))
    }
}

impl<C, P: PreFilter> pre_filter::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn pre_filter(pod: Pod) -> Result<pre_filter::Narrowing, Fault> {
        C::call(|runner| {
            let narrowing = runner.policy.pre_filter(&runner.cluster, &pod);
            Ok(match narrowing {
                Narrowing::All => pre_filter::Narrowing::All,
                Narrowing::Skip => pre_filter::Narrowing::Skip,
                Narrowing::Only(nodes, reason) => {
                    pre_filter::Narrowing::Only((nodes.into_words(), reason.text(&runner.cluster)))
                }
                Narrowing::Rejected(reason) => pre_filter::Narrowing::Rejected(reason.text(&runner.cluster)),
            })
        })
    }
}

impl<C, P: PostFilter> post_filter::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn begin(question: Question, now_ms: u64) -> Result<Step, Fault> {
        C::call(|runner| Ok(runner.policy.begin(&runner.cluster, question, now_ms)))
    }

    fn proceed(feasible: Vec<u64>) -> Result<Step, Fault> {
        C::call(|runner| {
            let feasible = NodeSet::from_words(feasible);
            Ok(runner.policy.proceed(&runner.cluster, &feasible))
        })
    }
}

impl<C, P: PreScore> pre_score::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn pre_score(pod: Pod, candidates: Vec<u64>) -> Result<bool, Fault> {
        C::call(|runner| {
            let candidates = NodeSet::from_words(candidates);
            Ok(runner.policy.pre_score(&runner.cluster, &pod, &candidates))
        })
    }
}

impl<C, P: Reserve> reserve::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn reserve(pod: Pod, node: NodeId) -> Result<Verdict, Fault> {
        C::call(|runner| Ok(runner.policy.reserve(&runner.cluster, &pod, node)))
    }

    fn unreserve(pod: Pod, node: NodeId) -> Result<(), Fault> {
        C::call(|runner| {
            runner.policy.unreserve(&runner.cluster, &pod, node);
            Ok(())
        })
    }
}

impl<C, P: Permit> permit::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn permit(pod: Pod, node: NodeId) -> Result<Permission, Fault> {
        C::call(|runner| Ok(runner.policy.permit(&runner.cluster, &pod, node)))
    }

    fn withdrawn(pod: Pod, node: NodeId) -> Result<Vec<Release>, Fault> {
        C::call(|runner| Ok(runner.policy.withdrawn(&runner.cluster, &pod, node)))
    }
}

impl<C, P: PreBind> pre_bind::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn pre_bind(pod: Pod, node: NodeId) -> Result<Preparation, Fault> {
        C::call(|runner| Ok(runner.policy.pre_bind(&runner.cluster, &pod, node)))
    }
}

impl<C, P: Bind> bind::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn bind(pod: Pod, node: NodeId) -> Result<Binding, Fault> {
        C::call(|runner| Ok(runner.policy.bind(&runner.cluster, &pod, node)))
    }
}

impl<C, P: PostBind> post_bind::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn bound(pod: Pod, node: NodeId) -> Result<(), Fault> {
        C::call(|runner| {
            runner.policy.bound(&runner.cluster, &pod, node);
            Ok(())
        })
    }
}

impl<C, P: Hints> hints::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn interests() -> EventKinds {
        P::interests()
    }

    fn hint(events: Vec<Event>, pods: Vec<Pod>) -> Result<Vec<u64>, Fault> {
        C::call(|runner| {
            let mut worth = NodeSet::default();
            for (number, pod) in (0..).zip(&pods) {
                if runner.hint(&events, pod)? {
                    worth.insert(number);
                }
            }
            Ok(worth.into_words())
        })
    }
}
