//! Priority and fairness: each request is matched to a flow schema and its priority level, and runs when that
//! level has seats for it.
//!
//! The configuration is read from the watch caches whenever it has changed; seats and queues of a level
//! outlive that. A request that is let in holds a [`Ticket`] until it is answered; a watch until it has
//! begun. One that cannot wait gets 429. Levels lend one another what they do not need, worked out anew every
//! few seconds by whichever request comes first. What every cluster has from the start, and the conditions of
//! schemas, are `keeper`'s. Left out: seats that a write holds on for its watchers.

pub(crate) mod keeper;
mod queues;
mod schema;
mod share;
mod width;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use capstan_kinds::resource::{Resource, find};
use capstan_store::Revision;
use http::HeaderValue;
use tokio::sync::oneshot;

use self::queues::{Arrival, Id, Queues, Seat};
use self::schema::{CATCH_ALL, EXEMPT, FlowSchema, PriorityLevel};
use self::share::Claim;
pub(crate) use self::width::Read;
use self::width::SEATS_MAX;
use crate::access::{Attributes, UserInfo};
use crate::registry::Registry;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// How long a request waits for its turn: a quarter of the time that it has.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How often seats are lent anew.
const LENDING_PERIOD: Duration = Duration::from_secs(10);
/// How much of the smoothed demand is kept in a lending period.
const DEMAND_SMOOTHING: f64 = 0.977;
/// Of a level's nominal seats, a request takes this part at most.
const WIDTH_PART: f64 = 0.15;

/// A level with its seats.
struct Level {
    name: String,
    exempt: bool,
    core: Mutex<Core>,
}

#[derive(Default)]
struct Core {
    queues: Queues,
    turns: HashMap<Id, oneshot::Sender<Seat>>,
    bounds: Bounds,
    width_max: u32,
    smoothed: f64,
}

#[derive(Default, Clone, Copy, PartialEq)]
struct Bounds {
    nominal: f64,
    min: f64,
    max: f64,
}

/// A schema and where it leads; with what went that way.
struct Flow {
    schema: FlowSchema,
    level: Arc<Level>,
    uids: [HeaderValue; 2],
    counts: Arc<Counts>,
}

/// Requests of one flow schema.
#[derive(Default)]
struct Counts {
    dispatched: AtomicU64,
    refused_full: AtomicU64,
    refused_late: AtomicU64,
    waited_micros: AtomicU64,
}

/// The configuration of one state of the caches.
#[derive(Default)]
struct Plan {
    revisions: Option<[Revision; 2]>,
    flows: Vec<Flow>,
}

/// See the module.
pub(crate) struct Fairness {
    /// Flow schemas, then levels.
    kinds: [Arc<Resource>; 2],
    seats_total: u32,
    plan: arc_swap::ArcSwap<Plan>,
    /// By name. Held while the plan is made anew.
    levels: Mutex<BTreeMap<String, Arc<Level>>>,
    lent: Mutex<Instant>,
    started: Instant,
}

/// Where a request was sent, and whether it may run.
pub(crate) struct Entry {
    /// Of the flow schema and of the priority level.
    pub uids: [HeaderValue; 2],
    /// None: refused.
    pub ticket: Option<Ticket>,
}

/// The right to run: given back when it is dropped.
pub(crate) struct Ticket {
    held: Option<(Arc<Level>, Seat, Instant)>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((level, seat, started)) = self.held.take() {
            level.leave(seat, started);
        }
    }
}

impl Level {
    fn core(&self) -> std::sync::MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, seat: Seat, started: Instant) {
        let now = started.elapsed().as_secs_f64();
        let mut core = self.core();
        core.queues.finish(now, seat);
        core.call(now);
    }
}

impl Core {
    /// Calls those who wait, as long as there is room.
    fn call(&mut self, now: f64) {
        while let Some((id, seat)) = self.queues.next(now) {
            let heard = self.turns.remove(&id).is_some_and(|turn| turn.send(seat).is_ok());
            if !heard {
                // It went away between its turn and now.
                self.queues.finish(now, seat);
            }
        }
    }
}

/// Takes a request out of its queue when it does not wait any more, whatever the reason.
struct Place {
    level: Arc<Level>,
    id: Id,
    started: Instant,
    turn: oneshot::Receiver<Seat>,
    called: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.called {
            return;
        }
        let mut core = self.level.core();
        core.turns.remove(&self.id);
        let waiting = core.queues.cancel(self.id);
        drop(core);
        if !waiting && let Ok(seat) = self.turn.try_recv() {
            self.level.leave(seat, self.started);
        }
    }
}

impl Fairness {
    /// With so many seats in all; none where the table of kinds lacks its kinds.
    pub(crate) fn new(seats_total: u32) -> Option<Self> {
        let kinds = [
            find(GROUP, "v1", "flowschemas")?,
            find(GROUP, "v1", "prioritylevelconfigurations")?,
        ];
        Some(Self {
            kinds,
            seats_total,
            plan: arc_swap::ArcSwap::default(),
            levels: Mutex::default(),
            lent: Mutex::new(Instant::now()),
            started: Instant::now(),
        })
    }

    /// Lets a request in, now or when its turn comes. `seats` are those that it wants; its level may have fewer.
    pub(crate) async fn enter(
        &self,
        registry: &Registry,
        user: &UserInfo,
        asked: &Attributes,
        seats: u32,
    ) -> Option<Entry> {
        let plan = self.plan(registry);
        let flow = plan.flows.iter().find(|flow| flow.schema.matches(user, asked))?;
        let entry = |ticket| {
            Some(Entry {
                uids: flow.uids.clone(),
                ticket,
            })
        };
        if flow.level.exempt {
            flow.counts.dispatched.fetch_add(1, Ordering::Relaxed);
            return entry(Some(Ticket { held: None }));
        }
        self.lend();
        let level = &flow.level;
        let now = self.started.elapsed().as_secs_f64();
        let mut place = {
            let mut core = level.core();
            let seats = seats.clamp(1, core.width_max.clamp(1, SEATS_MAX));
            let id = core.queues.next_id();
            match core.queues.arrive(now, id, flow.schema.flow(user, asked), seats) {
                Arrival::Runs(seat) => {
                    drop(core);
                    flow.counts.dispatched.fetch_add(1, Ordering::Relaxed);
                    let held = Some((level.clone(), seat, self.started));
                    return entry(Some(Ticket { held }));
                }
                Arrival::Refused => {
                    flow.counts.refused_full.fetch_add(1, Ordering::Relaxed);
                    return entry(None);
                }
                Arrival::Waits => {}
            }
            let (called, turn) = oneshot::channel();
            core.turns.insert(id, called);
            core.call(now);
            Place {
                level: level.clone(),
                id,
                started: self.started,
                turn,
                called: false,
            }
        };
        let waited = Instant::now();
        let turn = tokio::time::timeout(WAIT_MAX, &mut place.turn).await;
        let micros = u64::try_from(waited.elapsed().as_micros()).unwrap_or(u64::MAX);
        flow.counts.waited_micros.fetch_add(micros, Ordering::Relaxed);
        match turn {
            Ok(Ok(seat)) => {
                place.called = true;
                flow.counts.dispatched.fetch_add(1, Ordering::Relaxed);
                let held = Some((level.clone(), seat, self.started));
                entry(Some(Ticket { held }))
            }
            Ok(Err(_)) | Err(_) => {
                flow.counts.refused_late.fetch_add(1, Ordering::Relaxed);
                entry(None)
            }
        }
    }

    /// The plan of the caches as they are.
    fn plan(&self, registry: &Registry) -> Arc<Plan> {
        let revisions = self.kinds.each_ref().map(|kind| registry.cache(kind).revision());
        let plan = self.plan.load_full();
        if plan.revisions == Some(revisions) {
            return plan;
        }
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.plan.load_full();
        if current.revisions == Some(revisions) {
            return current;
        }
        let [schemas, configured] = self.kinds.each_ref().map(|kind| registry.cache(kind).list("").1);
        let decoded = configured
            .iter()
            .filter_map(|(_, entry)| serde_json::from_slice::<PriorityLevel>(&entry.bytes).ok())
            .filter(PriorityLevel::is_sound)
            .collect();
        let uids = self.settle(&mut levels, decoded);
        let mut flows: Vec<Flow> = Vec::new();
        let schemas = schemas
            .iter()
            .filter_map(|(_, entry)| serde_json::from_slice::<FlowSchema>(&entry.bytes).ok());
        let mut schemas: Vec<FlowSchema> = schemas.collect();
        schemas.sort_by(|a, b| {
            let key = |one: &FlowSchema| (one.spec.matching_precedence, one.metadata.name.clone());
            key(a).cmp(&key(b))
        });
        for schema in with_mandatory(schemas) {
            let name = &schema.spec.priority_level_configuration.name;
            let Some(level) = levels.get(name) else { continue };
            let known = current
                .flows
                .iter()
                .find(|flow| flow.schema.metadata.name == schema.metadata.name && flow.level.name == *name);
            let counts = known.map(|flow| flow.counts.clone()).unwrap_or_default();
            let uid = |uid: &str| HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""));
            let uids = [
                uid(&schema.metadata.uid),
                uid(uids.get(name).map_or("", String::as_str)),
            ];
            flows.push(Flow {
                level: level.clone(),
                uids,
                counts,
                schema,
            });
        }
        let plan = Arc::new(Plan {
            revisions: Some(revisions),
            flows,
        });
        self.plan.store(plan.clone());
        plan
    }

    /// Brings the levels up to date; gives their uids.
    fn settle(
        &self,
        levels: &mut BTreeMap<String, Arc<Level>>,
        mut configured: Vec<PriorityLevel>,
    ) -> HashMap<String, String> {
        for name in [EXEMPT, CATCH_ALL] {
            if !configured.iter().any(|one| one.metadata.name == name) {
                configured.extend(keeper::mandatory_level(name));
            }
        }
        // A level that is gone keeps its seats as long as somebody holds them.
        levels.retain(|name, _| configured.iter().any(|one| one.metadata.name == *name));
        let sum: f64 = configured
            .iter()
            .map(|one| f64::from(one.shares()))
            .sum::<f64>()
            .max(1.0);
        for one in &configured {
            let name = &one.metadata.name;
            let level = levels.entry(name.clone()).or_insert_with(|| {
                Arc::new(Level {
                    name: name.clone(),
                    exempt: name == EXEMPT,
                    core: Mutex::default(),
                })
            });
            let nominal = (f64::from(self.seats_total) * f64::from(one.shares()) / sum).ceil();
            let Some(limited) = &one.spec.limited else {
                continue;
            };
            let part = |percent: u32| (nominal * f64::from(percent) / 100.0).round();
            let lendable = part(limited.shares.lendable_percent.unwrap_or(0).min(100));
            let bounds = Bounds {
                nominal,
                min: nominal - lendable,
                max: nominal
                    + limited
                        .borrowing_limit_percent
                        .map_or(f64::from(self.seats_total), part),
            };
            let queuing = limited.limit_response.queuing;
            let mut core = level.core();
            let limit = if core.bounds == bounds {
                core.queues.limit
            } else {
                (nominal - lendable / 2.0).floor() as u32
            };
            core.bounds = bounds;
            core.queues.configure(queuing, limit);
            core.width_max = queuing.map_or(SEATS_MAX, |queuing| {
                let hand = (nominal / queuing.hand_size.max(1) as f64).floor();
                (nominal * WIDTH_PART).ceil().min(hand).max(1.0) as u32
            });
        }
        configured
            .into_iter()
            .map(|one| (one.metadata.name, one.metadata.uid))
            .collect()
    }

    /// Lends seats anew, if it is time.
    fn lend(&self) {
        let Ok(mut lent) = self.lent.try_lock() else {
            return;
        };
        if lent.elapsed() < LENDING_PERIOD {
            return;
        }
        *lent = Instant::now();
        drop(lent);
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let limited: Vec<&Arc<Level>> = levels.values().filter(|level| !level.exempt).collect();
        let claims: Vec<Claim> = limited
            .iter()
            .map(|level| {
                let mut core = level.core();
                let demand = f64::from(core.queues.take_demand());
                let kept = DEMAND_SMOOTHING * core.smoothed + (1.0 - DEMAND_SMOOTHING) * demand;
                core.smoothed = demand.max(kept);
                let Bounds { nominal, min, max } = core.bounds;
                let least = demand.min(nominal).max(min);
                Claim {
                    min: least,
                    max,
                    target: core.smoothed.max(least),
                }
            })
            .collect();
        let total = limited.iter().map(|level| level.core().bounds.nominal).sum();
        let now = self.started.elapsed().as_secs_f64();
        for (level, seats) in limited.iter().zip(share::allocate(total, &claims)) {
            let mut core = level.core();
            core.queues.limit = seats.round() as u32;
            core.call(now);
        }
    }

    /// The state of each level and flow, for the metrics.
    pub(crate) fn observe(&self, mut see: impl FnMut(Seen<'_>)) {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        for level in levels.values() {
            let core = level.core();
            see(Seen::Level {
                name: &level.name,
                waiting: core.queues.waiting,
                executing: core.queues.executing,
                seats_in_use: core.queues.seats_in_use,
                nominal: core.bounds.nominal,
                current: core.queues.limit,
            });
        }
        for flow in &self.plan.load().flows {
            let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
            see(Seen::Flow {
                schema: &flow.schema.metadata.name,
                level: &flow.level.name,
                dispatched: read(&flow.counts.dispatched),
                full: read(&flow.counts.refused_full),
                late: read(&flow.counts.refused_late),
                waited_seconds: read(&flow.counts.waited_micros) as f64 / 1e6,
            });
        }
    }
}

/// What [`Fairness::observe`] shows.
pub(crate) enum Seen<'a> {
    Level {
        name: &'a str,
        waiting: u32,
        executing: u32,
        seats_in_use: u32,
        nominal: f64,
        current: u32,
    },
    Flow {
        schema: &'a str,
        level: &'a str,
        dispatched: u64,
        full: u64,
        late: u64,
        waited_seconds: f64,
    },
}

/// The schemas with those that must be there: `exempt` first, `catch-all` last.
fn with_mandatory(mut schemas: Vec<FlowSchema>) -> Vec<FlowSchema> {
    let has = |schemas: &[FlowSchema], name: &str| schemas.iter().any(|one| one.metadata.name == name);
    if !has(&schemas, EXEMPT) {
        schemas.splice(0..0, keeper::mandatory_schema(EXEMPT));
    }
    if !has(&schemas, CATCH_ALL) {
        schemas.extend(keeper::mandatory_schema(CATCH_ALL));
    }
    schemas
}
