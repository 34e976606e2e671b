//! The conditions that a daemon answers for, and their hand-off to its next revision.
//!
//! A condition is reported when it is first known and whenever status, reason or message change. The
//! saved form is JSON with a format version, so that another plugin's state is refused, not misread.

use super::{Condition, ConditionStatus, Finding, Findings};
use crate::Fault;
use serde::{Deserialize, Serialize};

/// Format of the saved state.
const FORMAT: u32 = 1;
/// How many conditions one daemon may answer for.
const CONDITIONS_MAX: usize = 64;

/// A condition as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Standing {
    type_name: String,
    set: bool,
    reason: String,
    message: String,
    since_ms: u64,
    /// When the daemon last said so.
    seen_ms: u64,
}

/// What was last reported of each condition.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    standing: Vec<Standing>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    conditions: Vec<Standing>,
}

impl Conditions {
    /// The problem is there.
    pub fn set(
        &mut self,
        type_name: &str,
        reason: &str,
        message: impl Into<String>,
        now_ms: u64,
        found: &mut Findings,
    ) {
        self.put(true, type_name, reason, message.into(), now_ms, found);
    }

    /// The problem is not there, or no more.
    pub fn clear(
        &mut self,
        type_name: &str,
        reason: &str,
        message: impl Into<String>,
        now_ms: u64,
        found: &mut Findings,
    ) {
        self.put(false, type_name, reason, message.into(), now_ms, found);
    }

    /// Whether the problem is known to be there.
    pub fn is_set(&self, type_name: &str) -> bool {
        self.find(type_name).is_some_and(|standing| standing.set)
    }

    /// Whether the condition was ever reported.
    pub fn is_known(&self, type_name: &str) -> bool {
        self.find(type_name).is_some()
    }

    /// Since when the condition has had its status, or the reason it was last set for.
    pub fn since_ms(&self, type_name: &str) -> Option<u64> {
        self.find(type_name).map(|standing| standing.since_ms)
    }

    /// When the condition was last set or cleared, also where that changed nothing.
    pub fn seen_ms(&self, type_name: &str) -> Option<u64> {
        self.find(type_name).map(|standing| standing.seen_ms)
    }

    /// Notes that the daemon saw the condition's cause again, which changes nothing.
    pub fn touch(&mut self, type_name: &str, now_ms: u64) {
        if let Some(standing) = self
            .standing
            .iter_mut()
            .find(|standing| standing.type_name == type_name)
        {
            standing.seen_ms = now_ms;
        }
    }

    /// The types of all conditions that were reported.
    pub fn types(&self) -> Vec<String> {
        self.standing
            .iter()
            .map(|standing| standing.type_name.clone())
            .collect()
    }

    /// The reason that the condition was last reported with.
    pub fn reason(&self, type_name: &str) -> Option<&str> {
        self.find(type_name).map(|standing| standing.reason.as_str())
    }

    /// Says again how everything stands: for the first call after a hand-off.
    pub fn repeat(&self, found: &mut Findings) {
        found.extend(self.standing.iter().map(Standing::finding));
    }

    fn find(&self, type_name: &str) -> Option<&Standing> {
        self.standing
            .iter()
            .find(|standing| standing.type_name == type_name)
    }

    fn put(
        &mut self,
        set: bool,
        type_name: &str,
        reason: &str,
        message: String,
        now_ms: u64,
        found: &mut Findings,
    ) {
        let fresh = Standing {
            type_name: type_name.into(),
            set,
            reason: reason.into(),
            message,
            since_ms: now_ms,
            seen_ms: now_ms,
        };
        let full = self.standing.len() >= CONDITIONS_MAX;
        match self
            .standing
            .iter_mut()
            .find(|standing| standing.type_name == type_name)
        {
            Some(standing) => {
                let same = standing.set == set && standing.reason == fresh.reason;
                standing.seen_ms = now_ms;
                if same && standing.message == fresh.message {
                    return;
                }
                let since_ms = if standing.set == set {
                    standing.since_ms
                } else {
                    now_ms
                };
                *standing = Standing { since_ms, ..fresh };
                found.push(standing.finding());
            }
            None if !full => {
                found.push(fresh.finding());
                self.standing.push(fresh);
            }
            None => {}
        }
    }

    /// For [`HandOff::save`](crate::HandOff::save).
    pub fn save(&self) -> Vec<u8> {
        let saved = Saved {
            format: FORMAT,
            conditions: self.standing.clone(),
        };
        serde_json::to_vec(&saved).unwrap_or_default()
    }

    /// For [`HandOff::restore`](crate::HandOff::restore).
    pub fn restore(state: &[u8]) -> Result<Self, Fault> {
        let refused = |e: &dyn std::fmt::Display| Fault::permanent(format!("state handed over: {e}"));
        let text = std::str::from_utf8(state).map_err(|e| refused(&e))?;
        let saved: Saved = crate::json::from_str(text).map_err(|e| refused(&e))?;
        match saved.format {
            FORMAT => Ok(Self {
                standing: saved.conditions,
            }),
            format => Err(Fault::permanent(format!(
                "state handed over has format {format}; {FORMAT} is known"
            ))),
        }
    }
}

impl Standing {
    fn finding(&self) -> Finding {
        Finding::Condition(Condition {
            type_name: self.type_name.clone(),
            status: if self.set {
                ConditionStatus::Yes
            } else {
                ConditionStatus::No
            },
            reason: self.reason.clone(),
            message: self.message.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_found_and_a_hand_off_loses_none() {
        let (mut conditions, mut found) = (Conditions::default(), Vec::new());
        conditions.set("Sick", "Fever", "39", 1, &mut found);
        conditions.set("Sick", "Fever", "39", 2, &mut found);
        assert_eq!(found.len(), 1);
        let mut next = Conditions::restore(&conditions.save()).unwrap();
        next.set("Sick", "Fever", "39", 3, &mut found);
        assert_eq!((found.len(), next.since_ms("Sick")), (1, Some(1)));
        next.clear("Sick", "Well", "37", 4, &mut found);
        assert_eq!((found.len(), next.since_ms("Sick")), (2, Some(4)));
        assert!(Conditions::restore(b"{\"format\":9,\"conditions\":[]}").is_err());
    }
}
