//! Asks the remedies what to do about each node, and does it.
//!
//! Asked when the node changes, when a remedy is swapped, and every [`ASK_AGAIN`]. Invariants: one question at a
//! time, so that the budget over all nodes holds; a fault of a remedy changes nothing; what was done is on the
//! node before the next question. Keyed by node. Not here: any opinion; those are components.

mod act;
mod history;
mod plan;

use std::collections::HashMap;
use std::time::Duration;

use capstan_points::remedy::{Case, Decision, PastAction, Remedy};
use capstan_points::{Fault, FaultKind, Seat, Seats};
use futures::stream::{self, BoxStream, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::{Client, ResourceExt};
use tokio::sync::{Mutex, watch};

use self::history::{History, annotation};
use self::plan::{Verdict, case, judge, milliseconds, words};
use crate::error::Error;
use crate::event::Recorder;
use crate::informers::Informers;
use crate::work::{Key, Reconcile, keys_of, wakes};

/// How often a remedy is asked about a node that does not change.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Decisions of one answer that are looked at.
const DECISIONS_MAX: usize = 16;

pub(crate) struct Remedies {
    client: Client,
    informers: Informers,
    events: Recorder,
    seats: Seats<dyn Remedy>,
    /// Histories by plugin, then node. Once read from the nodes, ours is the truth.
    ledger: Mutex<HashMap<String, HashMap<String, History>>>,
    /// Told when a node came back into service, which frees budget for others.
    freed: watch::Sender<()>,
}

impl Remedies {
    pub(crate) fn new(
        client: Client,
        informers: &Informers,
        events: &Recorder,
        seats: Seats<dyn Remedy>,
    ) -> Self {
        let events = events.named("remedy-controller");
        Self {
            client,
            informers: informers.clone(),
            events,
            seats,
            ledger: Mutex::default(),
            freed: watch::Sender::new(()),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let all = keys_of(&self.informers.nodes);
        let swaps = stream::unfold((self.seats.clone(), all), |(mut seats, all)| async move {
            seats.changed().await.ok()?;
            let keys = all();
            Some((stream::iter(keys), (seats, all)))
        });
        let all = keys_of(&self.informers.nodes);
        let freed = stream::unfold((self.freed.subscribe(), all), |(mut freed, all)| async move {
            freed.changed().await.ok()?;
            let keys = all();
            Some((stream::iter(keys), (freed, all)))
        });
        vec![
            freed.flatten().boxed(),
            wakes(
                &self.informers.nodes,
                |node| vec![Key::of(node)],
                keys_of(&self.informers.nodes),
            ),
            swaps.flatten().boxed(),
        ]
    }

    /// Brings the ledger of a plugin up to date with the set of nodes.
    fn histories<'a>(
        &self,
        ledger: &'a mut HashMap<String, HashMap<String, History>>,
        plugin: &str,
    ) -> &'a mut HashMap<String, History> {
        let nodes = self.informers.nodes.list();
        let of_plugin = ledger.entry(plugin.to_owned()).or_default();
        of_plugin.retain(|name, _| nodes.iter().any(|node| node.metadata.name.as_ref() == Some(name)));
        let annotation = annotation(plugin);
        for node in nodes {
            of_plugin.entry(node.name_any()).or_insert_with(|| {
                node.annotations()
                    .get(&annotation)
                    .map(|text| History::parse(text))
                    .unwrap_or_default()
            });
        }
        of_plugin
    }

    async fn ask(&self, seat: &Seat<dyn Remedy>, node: &Node) -> Result<(), Error> {
        let mut ledger = self.ledger.lock().await;
        let name = node.name_any();
        let histories = self.histories(&mut ledger, &seat.plugin);
        let out = histories
            .values()
            .filter(|history| history.is_out_of_service())
            .count();
        let history = histories.entry(name.clone()).or_default();
        let budget = seat
            .policy
            .budget()
            .saturating_sub(u32::try_from(out).unwrap_or(u32::MAX));
        let mut case = case(node, history, budget, milliseconds(jiff::Timestamp::now()));
        let decisions = match decide(seat, &case, node).await {
            Ok(decisions) => decisions,
            Err(fault) => {
                tracing::warn!(plugin = seat.plugin, node = name, %fault, "remedy could not answer");
                self.events
                    .warning(node, "RemedyFault", format!("{}: {fault}", seat.plugin));
                return Ok(());
            }
        };
        for decision in decisions.iter().take(DECISIONS_MAX) {
            self.carry_out(seat, node, &mut case, history, decision).await?;
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        seat: &Seat<dyn Remedy>,
        node: &Node,
        case: &mut Case,
        history: &mut History,
        decision: &Decision,
    ) -> Result<(), Error> {
        let name = node.name_any();
        let mut pods = self.informers.pods.indexed(&name);
        pods.retain(|pod| act::drainable(pod));
        let (event, done) = words(&decision.action);
        let say = |what: &str| format!("{}: {what}: {}", seat.plugin, decision.reason);
        match judge(case, history, decision, !pods.is_empty()) {
            Verdict::Act => {}
            Verdict::AlreadySo | Verdict::TooSoon => return Ok(()),
            Verdict::TooOften => {
                self.events.warning(
                    node,
                    "RemedyTooOften",
                    say(&format!("not {done}, too many actions in a minute")),
                );
                return Ok(());
            }
            Verdict::OverBudget => {
                let budget = seat.policy.budget();
                let why =
                    format!("not {done}, {budget} nodes are out of service already, which is its budget");
                self.events.warning(node, "RemedyOverBudget", say(&why));
                return Ok(());
            }
        }
        let drain = matches!(decision.action, capstan_points::remedy::Action::Drain);
        let drained = if drain {
            act::drain(&self.client, &pods).await
        } else {
            Ok(())
        };
        let mut next = history.clone();
        next.push(PastAction {
            action: decision.action.clone(),
            at_ms: case.now_ms,
            succeeded: drained.is_ok(),
        });
        let record = next.to_text();
        let annotation = annotation(&seat.plugin);
        let changed = act::change_node(
            &self.client,
            &name,
            Some(&decision.action),
            (&annotation, &record),
        )
        .await;
        let freed = history.is_out_of_service() && !next.is_out_of_service();
        *history = next;
        if freed {
            self.freed.send_replace(());
        }
        match drained.and(changed) {
            Ok(()) => {
                tracing::info!(
                    plugin = seat.plugin,
                    node = name,
                    done,
                    reason = decision.reason,
                    "remedy acted"
                );
                self.events.normal(node, event, say(&done));
                reflect(case, decision);
                Ok(())
            }
            Err(error) => {
                self.events
                    .warning(node, "RemedyFailed", say(&format!("not {done}, {error}")));
                Err(error)
            }
        }
    }
}

/// Lets the next decision of the same answer see what this one did.
fn reflect(case: &mut Case, decision: &Decision) {
    use capstan_points::remedy::Action;
    match &decision.action {
        Action::Cordon => case.node.unschedulable = true,
        Action::Uncordon => case.node.unschedulable = false,
        Action::Taint(taint) | Action::Untaint(taint) => {
            case.node
                .taints
                .retain(|other| !(other.key == taint.key && other.effect == taint.effect));
            if matches!(decision.action, Action::Taint(_)) {
                case.node.taints.push(taint.clone());
            }
        }
        Action::Drain => {}
    }
}

/// The remedy's answer, from a blocking thread; nothing when it does not look after the node.
async fn decide(seat: &Seat<dyn Remedy>, case: &Case, node: &Node) -> Result<Vec<Decision>, Fault> {
    let (seat, case, labels) = (seat.clone(), case.clone(), node.labels().clone());
    let asked = tokio::task::spawn_blocking(move || {
        if seat.policy.selects(&labels) {
            seat.policy.decide(&case)
        } else {
            Ok(Vec::new())
        }
    });
    asked
        .await
        .unwrap_or_else(|error| Err(Fault::new(FaultKind::Host, error.to_string())))
}

impl Reconcile for Remedies {
    type Key = Key;
    const NAME: &'static str = "remedy";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let seats = self.seats.borrow().clone();
        if seats.is_empty() {
            return Ok(None);
        }
        for seat in seats.iter() {
            let Some(node) = self.informers.nodes.get(None, &key.name) else {
                return Ok(None);
            };
            self.ask(seat, &node).await?;
        }
        Ok(Some(ASK_AGAIN))
    }
}
