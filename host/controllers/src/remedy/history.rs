//! What a remedy has done to a node: kept on the node itself, so that a restart remembers it. Pure.
//!
//! One annotation a plugin, a JSON list, oldest first, at most [`ACTIONS_MAX`] entries. What cannot be read is
//! taken as empty: a remedy without memory is safer than none.

use std::collections::VecDeque;

use capstan_points::remedy::{Action, PastAction, Taint, TaintEffect};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Actions that are remembered, as the contract has it.
const ACTIONS_MAX: usize = 64;

const PREFIX: &str = "remedy.capstan.dev/";

/// The longest name part of an annotation.
const NAME_MAX: usize = 63;

/// One plugin's actions on one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct History(VecDeque<PastAction>);

#[derive(Serialize, Deserialize)]
struct Entry {
    action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    effect: Option<String>,
    at: u64,
    ok: bool,
}

/// The annotation of a plugin; a name that is too long is cut and told apart by its hash.
pub(crate) fn annotation(plugin: &str) -> String {
    if plugin.len() <= NAME_MAX {
        return format!("{PREFIX}{plugin}");
    }
    let digest = Sha256::digest(plugin.as_bytes());
    let hash: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let start: String = plugin.chars().take(NAME_MAX - hash.len() - 1).collect();
    format!("{PREFIX}{start}-{hash}")
}

impl History {
    pub(crate) fn parse(text: &str) -> Self {
        let entries: Vec<Entry> = serde_json::from_str(text).unwrap_or_default();
        Self(entries.into_iter().filter_map(past).collect())
    }

    pub(crate) fn to_text(&self) -> String {
        let entries: Vec<Entry> = self.0.iter().map(entry).collect();
        serde_json::to_string(&entries).unwrap_or_default()
    }

    pub(crate) fn push(&mut self, past: PastAction) {
        self.0.push_back(past);
        while self.0.len() > ACTIONS_MAX {
            self.0.pop_front();
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<PastAction> {
        self.0.iter().cloned().collect()
    }

    /// Actions since then.
    pub(crate) fn count_since(&self, at_ms: u64) -> usize {
        self.0.iter().filter(|past| past.at_ms >= at_ms).count()
    }

    /// When this very action was last tried.
    pub(crate) fn last(&self, action: &Action) -> Option<u64> {
        self.0
            .iter()
            .rev()
            .find(|past| past.action == *action)
            .map(|past| past.at_ms)
    }

    /// Whether its actions, taken together, keep the node out of service.
    pub(crate) fn is_out_of_service(&self) -> bool {
        let mut cordoned = false;
        let mut taints: Vec<(&str, TaintEffect)> = Vec::new();
        for past in self.0.iter().filter(|past| past.succeeded) {
            match &past.action {
                Action::Cordon => cordoned = true,
                Action::Uncordon => cordoned = false,
                Action::Taint(taint) if takes_out(&past.action) => taints.push((&taint.key, taint.effect)),
                Action::Untaint(gone) => {
                    taints.retain(|(key, effect)| !(*key == gone.key && *effect == gone.effect));
                }
                Action::Taint(_) | Action::Drain => {}
            }
        }
        cordoned || !taints.is_empty()
    }
}

/// Whether the action puts a node out of service, which the budget bounds.
pub(crate) fn takes_out(action: &Action) -> bool {
    match action {
        Action::Cordon | Action::Drain => true,
        Action::Taint(taint) => !matches!(taint.effect, TaintEffect::PreferNoSchedule),
        Action::Uncordon | Action::Untaint(_) => false,
    }
}

pub(crate) fn effect_name(effect: TaintEffect) -> &'static str {
    match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    }
}

pub(crate) fn effect_of(name: &str) -> Option<TaintEffect> {
    match name {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}

fn entry(past: &PastAction) -> Entry {
    let (name, taint) = match &past.action {
        Action::Cordon => ("cordon", None),
        Action::Uncordon => ("uncordon", None),
        Action::Taint(taint) => ("taint", Some(taint)),
        Action::Untaint(taint) => ("untaint", Some(taint)),
        Action::Drain => ("drain", None),
    };
    Entry {
        action: name.to_owned(),
        key: taint.map(|taint| taint.key.clone()),
        value: taint
            .map(|taint| taint.value.clone())
            .filter(|value| !value.is_empty()),
        effect: taint.map(|taint| effect_name(taint.effect).to_owned()),
        at: past.at_ms,
        ok: past.succeeded,
    }
}

fn past(entry: Entry) -> Option<PastAction> {
    let taint = || {
        Some(Taint {
            key: entry.key.clone()?,
            value: entry.value.clone().unwrap_or_default(),
            effect: effect_of(entry.effect.as_deref()?)?,
        })
    };
    let action = match entry.action.as_str() {
        "cordon" => Action::Cordon,
        "uncordon" => Action::Uncordon,
        "drain" => Action::Drain,
        "taint" => Action::Taint(taint()?),
        "untaint" => Action::Untaint(taint()?),
        _ => return None,
    };
    Some(PastAction {
        action,
        at_ms: entry.at,
        succeeded: entry.ok,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(effect: TaintEffect) -> Taint {
        Taint {
            key: "sick".into(),
            value: "disk".into(),
            effect,
        }
    }

    #[test]
    fn survives_writing_and_is_bounded() {
        let mut history = History::default();
        for at_ms in 0..70 {
            let action = match at_ms % 5 {
                0 => Action::Cordon,
                1 => Action::Uncordon,
                2 => Action::Taint(taint(TaintEffect::NoExecute)),
                3 => Action::Untaint(taint(TaintEffect::NoSchedule)),
                _ => Action::Drain,
            };
            history.push(PastAction {
                action,
                at_ms,
                succeeded: at_ms % 2 == 0,
            });
        }
        assert_eq!(History::parse(&history.to_text()), history);
        assert_eq!(history.to_vec().len(), ACTIONS_MAX);
        assert_eq!(History::parse("not json"), History::default());
    }

    #[test]
    fn out_of_service() {
        let none = TaintEffect::NoSchedule;
        let cases = [
            (vec![], false),
            (vec![(Action::Cordon, true)], true),
            (vec![(Action::Cordon, false)], false),
            (vec![(Action::Cordon, true), (Action::Uncordon, true)], false),
            (vec![(Action::Taint(taint(none)), true)], true),
            (
                vec![(Action::Taint(taint(TaintEffect::PreferNoSchedule)), true)],
                false,
            ),
            (
                vec![
                    (Action::Taint(taint(none)), true),
                    (Action::Untaint(taint(none)), true),
                ],
                false,
            ),
            (
                vec![
                    (Action::Taint(taint(none)), true),
                    (Action::Untaint(taint(TaintEffect::NoExecute)), true),
                ],
                true,
            ),
        ];
        for (actions, want) in cases {
            let mut history = History::default();
            for (action, succeeded) in actions {
                history.push(PastAction {
                    action,
                    at_ms: 0,
                    succeeded,
                });
            }
            assert_eq!(history.is_out_of_service(), want, "{history:?}");
        }
    }
}
