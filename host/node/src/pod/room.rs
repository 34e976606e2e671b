//! What the pods of a node hold of its processors and memory, and whether one of them may hold more. Pure but for
//! its lock.
//!
//! Invariant: a pod holds what it was admitted or resized to, not what its spec newly asks for. As in the original's
//! allocation manager, more than the node has is infeasible, and more than the other pods leave waits. Asked by the
//! pods' workers. Not here: how a change reaches a container (`resize`), and whether a new pod fits, which is the
//! scheduler's to say.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use capstan_kinds::quantity::Quantity;

/// Requests of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Amounts {
    pub(crate) cpu_milli: i64,
    pub(crate) memory_bytes: i64,
}

impl Amounts {
    /// Of quantities by name.
    pub(crate) fn of<'a>(quantity: impl Fn(&str) -> Option<&'a Quantity>) -> Self {
        Self {
            cpu_milli: quantity("cpu").map_or(0, Quantity::milli_value),
            memory_bytes: quantity("memory").map_or(0, Quantity::as_i64_ceil),
        }
    }

    fn each(self) -> [(&'static str, i64); 2] {
        [("memory", self.memory_bytes), ("cpu", self.cpu_milli)]
    }

    fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }
}

/// Why a pod cannot have what it asks for now: the reason and message of its condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoRoom {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The room of one node.
#[derive(Debug)]
pub(crate) struct Room {
    capacity: Amounts,
    /// By uid.
    held: Mutex<HashMap<String, Amounts>>,
}

impl Room {
    /// Of a node with these allocatable amounts.
    pub(crate) fn new(allocatable: &BTreeMap<String, String>) -> Self {
        let parsed: BTreeMap<&str, Quantity> = allocatable
            .iter()
            .filter_map(|(name, amount)| Some((name.as_str(), amount.parse().ok()?)))
            .collect();
        Self {
            capacity: Amounts::of(|name| parsed.get(name)),
            held: Mutex::default(),
        }
    }

    /// Gives a pod what it asks for, or says why not; it then keeps what it holds. A pod that is seen for the
    /// first time holds `before`, by its status, or what it asks for.
    pub(crate) fn ask(&self, uid: &str, wanted: Amounts, before: Option<Amounts>) -> Result<(), NoRoom> {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = *all.entry(uid.to_owned()).or_insert(before.unwrap_or(wanted));
        let more = wanted.cpu_milli > held.cpu_milli || wanted.memory_bytes > held.memory_bytes;
        if more {
            let others = all.iter().filter(|(other, _)| *other != uid);
            let used = others.fold(Amounts::default(), |sum, (_, held)| sum.plus(*held));
            self.fits(wanted, used)?;
        }
        all.insert(uid.to_owned(), wanted);
        Ok(())
    }

    /// A pod that holds nothing any more.
    pub(crate) fn release(&self, uid: &str) {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    fn fits(&self, wanted: Amounts, used: Amounts) -> Result<(), NoRoom> {
        let capacities = self.capacity.each();
        let amounts = wanted.each().into_iter().zip(capacities);
        for ((name, requested), (_, capacity)) in amounts.clone() {
            if requested > capacity {
                let message = format!(
                    "Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
                );
                return Err(NoRoom {
                    reason: "Infeasible",
                    message,
                });
            }
        }
        for (((name, requested), (_, capacity)), (_, used)) in amounts.zip(used.each()) {
            if requested.saturating_add(used) > capacity {
                let message = format!(
                    "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
                );
                return Err(NoRoom {
                    reason: "Deferred",
                    message,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_what_it_holds_until_there_is_room_for_more() {
        let room = Room::new(
            &[
                ("cpu".to_owned(), "2".to_owned()),
                ("memory".to_owned(), "1Gi".to_owned()),
            ]
            .into(),
        );
        let cpu = |cpu_milli| Amounts {
            cpu_milli,
            memory_bytes: 0,
        };
        let refused = |reason, message: &str| {
            Err(NoRoom {
                reason,
                message: message.to_owned(),
            })
        };
        assert_eq!(room.ask("a", cpu(500), None), Ok(()));
        assert_eq!(room.ask("b", cpu(1000), None), Ok(()));
        assert_eq!(
            room.ask("a", cpu(2500), None),
            refused(
                "Infeasible",
                "Node didn't have enough capacity: cpu, requested: 2500, capacity: 2000"
            )
        );
        assert_eq!(
            room.ask("a", cpu(1500), None),
            refused(
                "Deferred",
                "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"
            )
        );
        assert_eq!(room.ask("b", cpu(500), None), Ok(()), "less is always given");
        assert_eq!(room.ask("a", cpu(1500), None), Ok(()), "and leaves room");
        room.release("b");
        assert_eq!(room.ask("a", cpu(2000), None), Ok(()));
        // A kubelet that starts anew reads from the status what a pod holds.
        assert_eq!(
            room.ask("c", cpu(100), Some(cpu(50))).map_err(|no| no.reason),
            Err("Deferred")
        );
        let memory = Amounts {
            cpu_milli: 0,
            memory_bytes: 2 << 30,
        };
        assert_eq!(
            room.ask("d", memory, Some(Amounts::default())),
            refused(
                "Infeasible",
                "Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824"
            )
        );
    }
}
