//! A pod on its way from the choice of a node to its binding: who is asked, and how it is undone.
//!
//! Invariants: the seats are those of the cycle that placed it; whatever was reserved is unreserved, in reverse,
//! unless the pod is bound. Not here: the pods that wait, and the writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_points::scheduler::{Binding, NodeId, Permit, Pod, Policy, Preparation, Release, Verdict};
use capstan_points::{Fault, Seat};
use k8s_openapi::api::core::v1 as core;

use crate::cycle::{Failed, excuse};
use crate::waiting::WAIT_MAX;

/// See the module.
pub(crate) struct Placement {
    pub(crate) key: String,
    pub(crate) pod: Arc<core::Pod>,
    pub(crate) pending: Pod,
    pub(crate) node: NodeId,
    pub(crate) node_name: String,
    pub(crate) seats: Arc<[Seat<dyn Policy>]>,
}

/// Why a placed pod is not bound.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// A policy's verdict.
    Rejected { plugin: String, reason: String },
    /// A policy that must answer could not.
    Fault { plugin: String, fault: Fault },
}

impl From<Failed> for Stopped {
    fn from(Failed(plugin, fault): Failed) -> Self {
        Self::Fault { plugin, fault }
    }
}

/// What the policies say to a placed pod.
#[derive(Debug, Default)]
pub(crate) struct Permission {
    /// Who holds it back, and until when; none: nobody.
    pub(crate) waits: Vec<(String, Instant)>,
    /// Word about others, with whose it is.
    pub(crate) releases: Vec<(String, Release)>,
}

/// Who writes the binding.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Binder {
    /// We, with these annotations.
    Host(BTreeMap<String, String>),
    /// A policy did.
    Policy,
}

impl Placement {
    fn seats_of(
        &self,
        asked: impl Fn(capstan_points::scheduler::Asks) -> bool,
    ) -> impl DoubleEndedIterator<Item = &Seat<dyn Policy>> {
        self.seats.iter().filter(move |seat| asked(seat.policy.asks()))
    }

    /// Asks those who keep books.
    pub(crate) fn reserve(&self) -> Result<(), Stopped> {
        for seat in self.seats_of(|asks| asks.reserve) {
            let verdict = excuse(seat, seat.policy.reserve(&self.pending, self.node))?;
            if let Some(Verdict::Rejected(reason)) = verdict {
                return Err(rejected(seat, reason));
            }
        }
        Ok(())
    }

    /// Asks those who may hold it back.
    pub(crate) fn permit(&self, now: Instant) -> Result<Permission, Stopped> {
        let mut permission = Permission::default();
        for seat in self.seats_of(|asks| asks.permit) {
            let Some((decision, others)) = excuse(seat, seat.policy.permit(&self.pending, self.node))? else {
                continue;
            };
            let others = others.into_iter().map(|release| (seat.plugin.clone(), release));
            permission.releases.extend(others);
            match decision {
                Permit::Allow => {}
                Permit::Wait(ms) => {
                    let until = now + Duration::from_millis(ms.into()).min(WAIT_MAX);
                    permission.waits.push((seat.plugin.clone(), until));
                }
                Permit::Rejected(reason) => return Err(rejected(seat, reason)),
            }
        }
        Ok(permission)
    }

    /// Makes it ready, and finds who binds it.
    pub(crate) fn prepare(&self) -> Result<Binder, Stopped> {
        let mut all = BTreeMap::new();
        for seat in self.seats_of(|asks| asks.pre_bind) {
            match excuse(seat, seat.policy.pre_bind(&self.pending, self.node))? {
                Some(Preparation::Proceed(annotations)) => all.extend(annotations),
                Some(Preparation::Rejected(reason)) => return Err(rejected(seat, reason)),
                None => {}
            }
        }
        for seat in self.seats_of(|asks| asks.bind) {
            match excuse(seat, seat.policy.bind(&self.pending, self.node))? {
                Some(Binding::Bound) => return Ok(Binder::Policy),
                Some(Binding::Rejected(reason)) => return Err(rejected(seat, reason)),
                Some(Binding::Pass) | None => {}
            }
        }
        Ok(Binder::Host(all))
    }

    /// Tells those who want to know that it is bound.
    pub(crate) fn bound(&self) {
        for seat in self.seats_of(|asks| asks.post_bind) {
            if let Err(fault) = seat.policy.post_bind(&self.pending, self.node) {
                tracing::warn!(plugin = seat.plugin, %fault, "post-bind failed");
            }
        }
    }

    /// Whether anybody wants to know.
    pub(crate) fn has_post_bind(&self) -> bool {
        self.seats_of(|asks| asks.post_bind).next().is_some()
    }

    /// It comes to nothing. Returns what that means for others, by policy.
    pub(crate) fn undo(&self) -> Vec<(String, Release)> {
        let mut releases = Vec::new();
        for seat in self.seats_of(|asks| asks.permit || asks.reserve).rev() {
            let asks = seat.policy.asks();
            if asks.permit {
                match seat.policy.withdrawn(&self.pending, self.node) {
                    Ok(others) => {
                        releases.extend(others.into_iter().map(|one| (seat.plugin.clone(), one)));
                    }
                    Err(fault) => tracing::warn!(plugin = seat.plugin, %fault, "a withdrawal was not taken"),
                }
            }
            if asks.reserve
                && let Err(fault) = seat.policy.unreserve(&self.pending, self.node)
            {
                tracing::warn!(plugin = seat.plugin, %fault, "unreserve failed");
            }
        }
        releases
    }
}

fn rejected(seat: &Seat<dyn Policy>, reason: String) -> Stopped {
    Stopped::Rejected {
        plugin: seat.plugin.clone(),
        reason,
    }
}
