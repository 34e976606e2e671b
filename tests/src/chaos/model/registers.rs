//! A few keys without revisions, as the model of the search for an order.
//!
//! Only values count, which no two writes share. An unanswered request that only puts, and whose values nobody
//! saw, is left out beforehand: whoever sees a key before the next write of it would have seen that value, and
//! each request that compares a key also reads it where the comparison fails. A removal leaves no value to see,
//! so one that also removes is kept. One that was seen must have happened before it was seen.

use std::collections::{BTreeMap, HashMap};

use crate::chaos::history::{Answer, Mode, Operation, Outcome, Request, Step};

use super::wgl::{Call, Model};

/// The keys of a group, in order; their values are the state, 0 where there is no key.
#[derive(Debug)]
pub struct Registers {
    keys: Vec<String>,
}

/// A group of keys and the calls on them.
#[derive(Debug)]
pub struct Group {
    /// The model of its keys.
    pub model: Registers,
    /// Its calls.
    pub calls: Vec<Call<Operation>>,
}

impl Registers {
    /// The state before anything.
    pub fn empty(&self) -> Vec<u64> {
        vec![0; self.keys.len()]
    }

    fn within<'s>(&'s self, key: &'s str, end: &'s str) -> impl Iterator<Item = usize> + 's {
        let hit = move |name: &String| {
            if end.is_empty() {
                name == key
            } else {
                (key..end).contains(&name.as_str())
            }
        };
        self.keys
            .iter()
            .enumerate()
            .filter(move |(_, name)| hit(name))
            .map(|(index, _)| index)
    }

    /// Runs `request` on `state`: whether its conditions held, and what each step saw, key and value.
    fn run(&self, state: &mut [u64], request: &Request) -> (bool, Vec<Vec<u64>>) {
        let held = request.compares.iter().all(|compare| {
            self.within(&compare.key, "")
                .all(|index| state[index] == compare.seen.1)
        });
        let steps = if held { &request.then } else { &request.otherwise };
        let mut saw = Vec::with_capacity(steps.len());
        for step in steps {
            let (key, end) = match step {
                Step::Put { key, .. } => (key, ""),
                Step::Get { key, end } | Step::Delete { key, end } => (key, end.as_str()),
            };
            let touched: Vec<usize> = self.within(key, end).collect();
            saw.push(
                touched
                    .iter()
                    .map(|&index| state[index])
                    .filter(|&value| value != 0)
                    .collect(),
            );
            for index in touched {
                match step {
                    Step::Put { value, .. } => state[index] = *value,
                    Step::Delete { .. } => state[index] = 0,
                    Step::Get { .. } => {}
                }
            }
        }
        (held, saw)
    }
}

impl Model for Registers {
    type State = Vec<u64>;
    type Operation = Operation;

    fn step(&self, state: &Vec<u64>, operation: &Operation) -> Option<Vec<u64>> {
        let mut after = state.clone();
        let (held, saw) = self.run(&mut after, &operation.request);
        let Outcome::Ok {
            succeeded, answers, ..
        } = &operation.outcome
        else {
            return Some(after);
        };
        if held != *succeeded || saw.len() != answers.len() {
            return None;
        }
        let agrees = |(saw, answer): (&Vec<u64>, &Answer)| match answer {
            Answer::Put(None) => true,
            Answer::Put(Some(previous)) => *saw == [previous.value],
            Answer::Got(found) | Answer::Deleted(found) => {
                saw.iter().copied().eq(found.iter().map(|found| found.value))
            }
        };
        saw.iter().zip(answers).all(agrees).then_some(after)
    }
}

/// The name of the group of keys that `key` is checked with; none where it is not checked by this model.
///
/// `r/…` is a register by itself; `t/EPOCH/…` are checked together, since transactions join them.
fn group(key: &str) -> Option<&str> {
    match key.split_once('/')? {
        ("r", _) => Some(key),
        ("t", _) => Some(key.rsplit_once('/')?.0),
        _ => None,
    }
}

fn values_seen(operation: &Operation) -> impl Iterator<Item = u64> + '_ {
    let answers = match &operation.outcome {
        Outcome::Ok { answers, .. } => answers.as_slice(),
        _ => &[],
    };
    answers
        .iter()
        .flat_map(|answer| match answer {
            Answer::Put(previous) => previous.as_slice(),
            Answer::Got(found) | Answer::Deleted(found) => found.as_slice(),
        })
        .map(|found| found.value)
}

impl Group {
    /// The groups of a history, with the calls that bear on the search.
    pub fn all(operations: &[Operation]) -> Vec<Self> {
        let mut groups: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in operations {
            if let (Mode::Linearizable, Some(name)) = (
                operation.request.mode,
                operation.request.keys().next().and_then(group),
            ) {
                groups.entry(name).or_default().push(operation);
            }
        }
        groups
            .into_values()
            .map(|operations| Self::new(&operations))
            .collect()
    }

    fn new(operations: &[&Operation]) -> Self {
        let mut keys: Vec<String> = Vec::new();
        let mut first_seen: HashMap<u64, u64> = HashMap::new();
        for operation in operations {
            keys.extend(operation.request.keys().map(str::to_owned));
            for value in values_seen(operation) {
                let at = first_seen.entry(value).or_insert(operation.returned);
                *at = operation.returned.min(*at);
            }
        }
        keys.sort_unstable();
        keys.dedup();
        let call = |operation: &&Operation| {
            let returned = match &operation.outcome {
                Outcome::Ok { .. } => Some(operation.returned),
                Outcome::Refused(_) => return None,
                Outcome::Unknown(_) if !operation.request.writes() => return None,
                Outcome::Unknown(_) => {
                    let seen = operation
                        .request
                        .values()
                        .filter_map(|value| first_seen.get(&value))
                        .min();
                    if seen.is_none() && !operation.request.removes() {
                        return None;
                    }
                    seen.copied()
                }
            };
            Some(Call {
                invoked: operation.invoked,
                returned,
                operation: (*operation).clone(),
            })
        };
        Self {
            model: Registers { keys },
            calls: operations.iter().filter_map(call).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::model::{Verdict, linearizable};

    fn put(key: &str, value: u64) -> Step {
        Step::Put {
            key: key.to_owned(),
            value,
            lease: 0,
            previous: false,
        }
    }

    fn delete(key: &str) -> Step {
        Step::Delete {
            key: key.to_owned(),
            end: String::new(),
        }
    }

    fn asked(at: u64, then: Vec<Step>, answers: Option<Vec<Answer>>) -> Operation {
        let request = Request {
            compares: Vec::new(),
            then,
            otherwise: Vec::new(),
            mode: Mode::Linearizable,
        };
        let outcome = match answers {
            Some(answers) => Outcome::Ok {
                revision: 1,
                succeeded: true,
                answers,
            },
            None => Outcome::Unknown("deadline".to_owned()),
        };
        Operation {
            client: 0,
            member: 0,
            incarnation: 0,
            invoked: at,
            returned: at + 1,
            request,
            outcome,
        }
    }

    /// Its put was written over before anybody read it, but its removal shows.
    #[test]
    fn an_unanswered_removal_may_be_seen_though_its_put_is_not() {
        let read = Step::Get {
            key: "t/0/b".to_owned(),
            end: String::new(),
        };
        let history = |lost: Vec<Step>| {
            [
                asked(0, vec![put("t/0/b", 1)], Some(vec![Answer::Put(None)])),
                asked(10, lost, None),
                asked(20, vec![put("t/0/a", 3)], Some(vec![Answer::Put(None)])),
                asked(30, vec![read.clone()], Some(vec![Answer::Got(Vec::new())])),
            ]
        };
        let verdict = |history: &[Operation]| {
            let group = Group::all(history).remove(0);
            linearizable(&group.model, group.model.empty(), &group.calls, 1_000)
        };
        let removes = history(vec![put("t/0/a", 2), delete("t/0/b")]);
        assert_eq!(verdict(&removes), Verdict::Linearizable);
        let does_not = history(vec![put("t/0/a", 2)]);
        assert!(matches!(verdict(&does_not), Verdict::Violation { .. }));
    }
}
