//! The whole keyspace at every revision, built from what watches told, and the answer that each request must
//! have had there.

use std::collections::BTreeMap;

use crate::chaos::history::{Answer, Compare, Event, KeyValue, Mode, Outcome, Request, Step, Target};

/// Every key through all revisions.
#[derive(Debug, Default)]
pub struct Timeline {
    events: BTreeMap<i64, Vec<Event>>,
    keys: BTreeMap<String, Vec<(i64, Option<KeyValue>)>>,
}

/// How an answer stands to the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It read the state of its revision.
    Read,
    /// It made its revision.
    Wrote,
    /// Neither: what it must have said.
    Differs(String),
}

/// What a request comes to on a given state.
struct Run {
    succeeded: bool,
    answers: Vec<Answer>,
    changes: Vec<(String, Option<KeyValue>)>,
}

impl Timeline {
    /// Takes the events of the next revision.
    ///
    /// # Errors
    /// When a key as told does not follow from the key before: its version, creation or change.
    pub fn push(&mut self, revision: i64, events: &[Event]) -> Result<(), String> {
        let mut wrong = Ok(());
        for event in events {
            let before = self.key_at(&event.key, revision - 1).cloned();
            if let Some(told) = &event.put {
                let follows = told.modified == revision
                    && match &before {
                        Some(before) => (told.created, told.version) == (before.created, before.version + 1),
                        None => (told.created, told.version) == (revision, 1),
                    };
                if !follows {
                    wrong = Err(format!(
                        "revision {revision}: {told:?} does not follow {before:?}"
                    ));
                }
            } else if before.is_none() {
                wrong = Err(format!(
                    "revision {revision} removes {:?}, which was not there",
                    event.key
                ));
            }
            let states = self.keys.entry(event.key.clone()).or_default();
            states.push((revision, event.put.clone()));
        }
        self.events.insert(revision, events.to_vec());
        wrong
    }

    /// The last revision known.
    pub fn last(&self) -> i64 {
        self.events.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    /// What a revision changed.
    pub fn events(&self, revision: i64) -> &[Event] {
        self.events.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// Every revision with what it changed.
    pub fn revisions(&self) -> impl Iterator<Item = (i64, &[Event])> {
        self.events
            .iter()
            .map(|(revision, events)| (*revision, events.as_slice()))
    }

    /// A key as of a revision.
    pub fn key_at(&self, key: &str, revision: i64) -> Option<&KeyValue> {
        let states = self.keys.get(key)?;
        let after = states.partition_point(|(at, _)| *at <= revision);
        states[..after].last()?.1.as_ref()
    }

    /// The keys of a range as of a revision.
    pub fn range_at(&self, key: &str, end: &str, revision: i64) -> Vec<KeyValue> {
        if end.is_empty() {
            return self.key_at(key, revision).cloned().into_iter().collect();
        }
        let names = self.keys.range(key.to_owned()..).map(|(name, _)| name);
        names
            .take_while(|name| end == "\0" || name.as_str() < end)
            .filter_map(|name| self.key_at(name, revision).cloned())
            .collect()
    }

    fn holds(&self, compare: &Compare, revision: i64) -> bool {
        let now = self.key_at(&compare.key, revision);
        match compare.by {
            Target::Modified => now.map_or(0, |now| now.modified) == compare.seen.0,
            Target::Value => now.is_some_and(|now| now.value == compare.seen.1),
        }
    }

    /// What `request` comes to on the state of `base`, when it makes the revision `made`.
    fn run(&self, request: &Request, base: i64, made: i64) -> Run {
        let succeeded = request.compares.iter().all(|compare| self.holds(compare, base));
        let mut run = Run {
            succeeded,
            answers: Vec::new(),
            changes: Vec::new(),
        };
        for step in if succeeded {
            &request.then
        } else {
            &request.otherwise
        } {
            let (key, end) = match step {
                Step::Put { key, .. } => (key, ""),
                Step::Get { key, end } | Step::Delete { key, end } => (key, end.as_str()),
            };
            let mut found = self.range_at(key, end, base);
            for (name, change) in &run.changes {
                if name == key || (!end.is_empty() && *name >= *key && name.as_str() < end) {
                    found.retain(|found| found.key != *name);
                    found.extend(change.clone());
                    found.sort_by(|one, other| one.key.cmp(&other.key));
                }
            }
            match step {
                Step::Get { .. } => run.answers.push(Answer::Got(found)),
                Step::Delete { .. } => {
                    run.changes
                        .extend(found.iter().map(|found| (found.key.clone(), None)));
                    run.answers.push(Answer::Deleted(found));
                }
                Step::Put {
                    key,
                    value,
                    lease,
                    previous,
                } => {
                    let before = found.pop();
                    let after = KeyValue {
                        key: key.clone(),
                        value: *value,
                        created: before.as_ref().map_or(made, |before| before.created),
                        modified: made,
                        version: before.as_ref().map_or(0, |before| before.version) + 1,
                        lease: *lease,
                    };
                    run.changes.push((key.clone(), Some(after)));
                    run.answers.push(Answer::Put(before.filter(|_| *previous)));
                }
            }
        }
        run
    }

    /// Whether `request`, taken at `revision`, makes just what the watch told of that revision.
    pub fn made_by(&self, revision: i64, request: &Request) -> bool {
        let run = self.run(request, revision - 1, revision);
        self.is_made_of(revision, &run)
    }

    fn is_made_of(&self, revision: i64, run: &Run) -> bool {
        let told = self.events(revision).iter().map(|event| (&event.key, &event.put));
        !run.changes.is_empty() && told.eq(run.changes.iter().map(|(key, put)| (key, put)))
    }

    /// How an answer stands to the timeline.
    pub fn judge(&self, request: &Request, outcome: &Outcome) -> Option<Verdict> {
        let Outcome::Ok {
            revision,
            succeeded,
            answers,
        } = outcome
        else {
            return None;
        };
        let agrees = |run: &Run| run.succeeded == *succeeded && run.answers == *answers;
        if let Mode::At(revision) = request.mode {
            let run = self.run(request, revision, revision);
            return Some(if agrees(&run) {
                Verdict::Read
            } else {
                differs(&run)
            });
        }
        let wrote = self.run(request, revision - 1, *revision);
        if agrees(&wrote) && self.is_made_of(*revision, &wrote) {
            return Some(Verdict::Wrote);
        }
        let read = self.run(request, *revision, *revision);
        if agrees(&read) && read.changes.is_empty() {
            return Some(Verdict::Read);
        }
        Some(differs(if wrote.changes.is_empty() { &read } else { &wrote }))
    }
}

fn differs(run: &Run) -> Verdict {
    Verdict::Differs(format!("succeeded {}, {:?}", run.succeeded, run.answers))
}
