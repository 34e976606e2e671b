//! Preemption: kube-scheduler's DefaultPreemption.
//!
//! A pod that no node can take may have pods of lower priority evicted. On each node that an eviction could help,
//! all of those are thought away; where the pod then fits, as many as possible are let stay, the most important
//! first, those that a disruption budget protects before others. Of all nodes the one is taken whose victims hurt
//! least. What is asked of other policies goes through the host, many nodes at once.

mod budgets;
mod candidate;
mod choice;

use candidate::{Candidate, Victim};
use capstan_sdk::{
    Fault, Plugin,
    scheduler::{
        AssignedPod, Change, Cluster, Hypothesis, NodeId, NodeSet, Nomination, Pod, PodId, Policy,
        PostFilter, Question, Step, empty_pod,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// The most hypotheses in one question, a bound of the contract.
const ASKED_MAX: usize = 4_096;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    min_candidate_nodes_percentage: usize,
    min_candidate_nodes_absolute: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_candidate_nodes_percentage: 10,
            min_candidate_nodes_absolute: 100,
        }
    }
}

/// The policy, with the pods of each node.
pub struct Preemption {
    config: Config,
    on: BTreeMap<NodeId, BTreeSet<PodId>>,
    search: Option<Search>,
}

/// One dialogue's state.
struct Search {
    now_ms: u64,
    /// The pod's own.
    priority: i32,
    /// Nodes that were not looked at yet.
    ahead: Vec<NodeId>,
    /// Nodes that the last question was about.
    asked: Vec<Candidate>,
    /// Nodes whose victims are known.
    found: Vec<Candidate>,
    /// So many are enough.
    wanted: usize,
    /// Nodes that the pod does not fit even without its victims.
    hopeless: usize,
    /// Nodes without any pod that may be evicted, and nodes where an eviction cannot help.
    without_victims: usize,
    beyond_help: usize,
}

impl Plugin for Preemption {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self {
            config,
            on: BTreeMap::new(),
            search: None,
        })
    }
}

impl Policy for Preemption {
    const STARTS: bool = true;
    const NAMESPACES: bool = false;
    const BUDGETS: bool = true;

    fn trim(pod: &mut Pod) {
        *pod = Pod {
            namespace: pod.namespace,
            labels: std::mem::take(&mut pod.labels),
            priority: pod.priority,
            terminating: pod.terminating,
            preempted: pod.preempted,
            ..empty_pod()
        };
    }

    fn on_change(&mut self, _: &Cluster, change: Change<'_>) {
        match change {
            Change::Reset => self.on.clear(),
            Change::PodAdded(pod) => {
                self.on.entry(pod.node).or_default().insert(pod.id);
            }
            Change::PodRemoved(pod) => {
                if let Some(pods) = self.on.get_mut(&pod.node) {
                    pods.remove(&pod.id);
                    if pods.is_empty() {
                        self.on.remove(&pod.node);
                    }
                }
            }
            _ => {}
        }
    }
}

impl Preemption {
    fn pods<'a>(&'a self, cluster: &'a Cluster, node: NodeId) -> impl Iterator<Item = &'a AssignedPod> {
        let pods = self.on.get(&node).into_iter().flatten();
        pods.filter_map(|id| cluster.pod(*id))
    }

    /// Whether victims of the pod are still on their way out of the node that it waits for.
    fn waits(&self, cluster: &Cluster, question: &Question) -> bool {
        let node = question
            .nominated
            .filter(|node| contains(&question.resolvable, *node));
        node.is_some_and(|node| {
            let mut pods = self.pods(cluster, node);
            pods.any(|one| one.pod.preempted && one.pod.priority < question.pod.priority)
        })
    }
}

impl PostFilter for Preemption {
    fn begin(&mut self, cluster: &Cluster, question: Question, now_ms: u64) -> Step {
        self.search = None;
        if !question.pod.preempts {
            return give_up("not eligible due to preemptionPolicy=Never.", false);
        }
        if self.waits(cluster, &question) {
            return give_up(
                "not eligible due to a terminating pod on the nominated node.",
                false,
            );
        }
        let helpful = NodeSet::from_words(question.resolvable);
        let priority = question.pod.priority;
        let has_lower = |node: &NodeId| self.pods(cluster, *node).any(|one| one.pod.priority < priority);
        let mut ahead: Vec<NodeId> = helpful.iter().filter(has_lower).collect();
        // Another start each time, so that equal nodes take turns.
        if !ahead.is_empty() {
            let start = usize::try_from(now_ms).unwrap_or(0) % ahead.len();
            ahead.rotate_left(start);
        }
        let wanted = (helpful.len() * self.config.min_candidate_nodes_percentage / 100)
            .max(self.config.min_candidate_nodes_absolute);
        let search = Search {
            now_ms,
            priority,
            without_victims: helpful.len() - ahead.len(),
            beyond_help: cluster.nodes_len().saturating_sub(helpful.len()),
            ahead,
            asked: Vec::new(),
            found: Vec::new(),
            wanted,
            hopeless: 0,
        };
        self.next(cluster, search)
    }

    fn proceed(&mut self, cluster: &Cluster, feasible: &NodeSet) -> Step {
        let Some(mut search) = self.search.take() else {
            return give_up("there is no search under way.", false);
        };
        for (number, mut candidate) in (0..).zip(std::mem::take(&mut search.asked)) {
            match candidate.learn(feasible.contains(number)) {
                candidate::State::Hopeless => search.hopeless += 1,
                candidate::State::Open => search.asked.push(candidate),
                candidate::State::Settled => search.found.push(candidate),
            }
        }
        self.next(cluster, search)
    }
}

impl Preemption {
    /// Asks on, or makes up its mind.
    fn next(&mut self, cluster: &Cluster, mut search: Search) -> Step {
        let more = search.missing().min(search.ahead.len());
        let budgets = budgets::Budgets::of(cluster);
        for node in search.ahead.drain(..more) {
            let lower = self
                .pods(cluster, node)
                .filter(|one| one.pod.priority < search.priority);
            let victims = lower.map(|one| Victim::of(cluster, one)).collect();
            search
                .asked
                .push(Candidate::new(node, victims, &budgets, cluster));
        }
        if search.asked.is_empty() {
            return decide(&search);
        }
        let ask = Step::Ask(search.asked.iter().map(hypothesis).collect());
        self.search = Some(search);
        ask
    }
}

impl Search {
    /// How many nodes more are to be looked at now: there are enough once so many are found as wanted, and one of
    /// them breaks no budget.
    fn missing(&self) -> usize {
        let under_way = self.found.len() + self.asked.len();
        let settled = self.asked.is_empty();
        let harmless = self.found.iter().any(|candidate| candidate.violations() == 0);
        let missing = match under_way >= self.wanted {
            true if settled && !harmless => self.wanted,
            _ => self.wanted.saturating_sub(under_way),
        };
        missing.min(ASKED_MAX.saturating_sub(self.asked.len()))
    }
}

fn hypothesis(candidate: &Candidate) -> Hypothesis {
    Hypothesis {
        node: candidate.node,
        removed: candidate.thought_away().collect(),
        added: Vec::new(),
    }
}

fn decide(search: &Search) -> Step {
    if let Some(best) = choice::best(&search.found, search.now_ms) {
        return Step::Nominate(Nomination {
            node: best.node,
            victims: best.victims().map(|victim| victim.id).collect(),
        });
    }
    let counts = [
        (
            search.without_victims,
            "No preemption victims found for incoming pod",
        ),
        (search.beyond_help, "Preemption is not helpful for scheduling"),
        (
            search.hopeless,
            "Insufficient room without the preemption victims",
        ),
    ];
    let all = search.without_victims + search.beyond_help + search.hopeless;
    let mut told: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, why)| format!("{count} {why}"))
        .collect();
    told.sort();
    give_up(
        &format!("0/{all} nodes are available: {}.", told.join(", ")),
        true,
    )
}

fn give_up(why: &str, clear: bool) -> Step {
    Step::GiveUp((format!("preemption: {why}"), clear))
}

fn contains(words: &[u64], node: NodeId) -> bool {
    words
        .get(node as usize / 64)
        .is_some_and(|word| word >> (node % 64) & 1 == 1)
}

capstan_sdk::export!(scheduler: post_filter => Preemption);
