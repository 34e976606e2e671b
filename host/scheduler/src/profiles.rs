//! The policies of each profile, in the order in which they are asked.
//!
//! A profile is whatever name policies are bound to; a pod is in the profile that `spec.schedulerName` names. The
//! row is pinned for a cycle and made anew when someone else sits.

use std::collections::HashMap;
use std::sync::Arc;

use capstan_points::scheduler::Policy;
use capstan_points::{Seat, Seats};
use k8s_openapi::api::core::v1::Pod;

/// The profile that pods are in when they name none.
const DEFAULT_PROFILE: &str = "default-scheduler";

pub(crate) struct Profiles {
    seats: Seats<dyn Policy>,
    rows: HashMap<String, Arc<[Seat<dyn Policy>]>>,
}

fn name(pod: &Pod) -> &str {
    let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    name.unwrap_or(DEFAULT_PROFILE)
}

impl Profiles {
    pub(crate) fn new(seats: Seats<dyn Policy>) -> Self {
        Self {
            seats,
            rows: HashMap::new(),
        }
    }

    /// Whether the pod is ours to schedule.
    pub(crate) fn serves(&mut self, pod: &Pod) -> bool {
        name(pod) == DEFAULT_PROFILE || !self.of(pod).is_empty()
    }

    /// The policies of the pod's profile.
    pub(crate) fn of(&mut self, pod: &Pod) -> Arc<[Seat<dyn Policy>]> {
        if self.seats.has_changed().unwrap_or(false) {
            self.rows.clear();
        }
        let all = self.seats.borrow_and_update().clone();
        let profile = name(pod);
        if let Some(row) = self.rows.get(profile) {
            return Arc::clone(row);
        }
        let serves = |seat: &&Seat<dyn Policy>| seat.policy.profiles().iter().any(|one| one == profile);
        let mut row: Vec<Seat<dyn Policy>> = all.iter().filter(serves).cloned().collect();
        row.sort_by_key(|seat| seat.policy.order());
        let row: Arc<[Seat<dyn Policy>]> = row.into();
        // Names of other schedulers are not kept: there is no bound on them.
        if !row.is_empty() {
            self.rows.insert(profile.to_owned(), Arc::clone(&row));
        }
        row
    }

    /// All policies, of whatever profile.
    pub(crate) fn all(&self) -> Arc<[Seat<dyn Policy>]> {
        self.seats.borrow().clone()
    }
}
