//! Puts, reads, removals and conditional transactions, on three kinds of keys.
//!
//! `r/EPOCH/N` are registers, `t/EPOCH/N` are joined by transactions; both are new every few seconds, so that the
//! search for an order stays short. `l/N` live as long as the run, and are also read and removed by range, read
//! at old revisions, and compared by their revision.

use std::collections::HashMap;
use std::sync::Arc;

use crate::chaos::field::Field;
use crate::chaos::history::{Answer, Compare, KeyValue, Mode, Outcome, Request, Step, Target};

use super::{AFTER_TROUBLE, any, pause};

/// How long keys of an epoch are used.
const EPOCH_SECONDS: u64 = 6;

/// Keys of each kind.
const REGISTERS: u64 = 4;
const JOINED: u64 = 3;
const LASTING: u64 = 9;

/// What a client knows of the keys it has seen lately.
type Known = HashMap<String, (i64, u64)>;

pub(super) async fn run(field: Arc<Field>, client: u32, mut random: fastrand::Rng) {
    let mut place = any(&field, &mut random);
    let mut known = Known::new();
    let mut epoch = 0;
    while !field.is_stopped() {
        let now = field.now() / 1_000_000_000 / EPOCH_SECONDS;
        if now != epoch {
            known.retain(|key, _| key.starts_with("l/"));
            epoch = now;
        }
        let (request, plain) = choose(&field, epoch, &known, &mut random);
        let connection = field.client(place);
        match field
            .perform(client, place, connection, request.clone(), plain)
            .await
        {
            Outcome::Ok {
                revision,
                succeeded,
                answers,
            } => learn(&mut known, &request, revision, succeeded, &answers),
            Outcome::Refused(_) => {}
            Outcome::Unknown(_) => {
                tokio::time::sleep(AFTER_TROUBLE).await;
                place = any(&field, &mut random);
            }
        }
        if random.u8(..100) == 0 || !field.present().contains(&place) {
            place = any(&field, &mut random);
        }
        pause(&mut random).await;
    }
}

fn choose(field: &Field, epoch: u64, known: &Known, random: &mut fastrand::Rng) -> (Request, bool) {
    let register = format!("r/{epoch}/{}", random.u64(..REGISTERS));
    let joined = |index: u64| format!("t/{epoch}/{}", index % JOINED);
    let lasting = format!("l/{}", random.u64(..LASTING));
    let plain = random.u8(..4) != 0;
    let previous = random.bool();
    let put = |key: &str| Step::Put {
        key: key.to_owned(),
        value: field.value(),
        lease: 0,
        previous,
    };
    let request = match random.u8(..100) {
        0..20 => Request::single(get(&register)),
        20..35 => Request::single(put(&register)),
        35..45 => conditional(vec![register.clone()], known, random, |key| put(key)),
        45..50 => Request::single(delete(&register)),
        50..58 => Request {
            then: (0..JOINED).map(|index| get(&joined(index))).collect(),
            ..empty()
        },
        58..66 => {
            let first = random.u64(..JOINED);
            conditional(vec![joined(first), joined(first + 1)], known, random, |key| {
                put(key)
            })
        }
        66..70 => Request {
            then: vec![put(&joined(0)), delete(&joined(1)), get(&joined(2))],
            ..empty()
        },
        70..78 => Request::single(put(&lasting)),
        78..84 => conditional(vec![lasting.clone()], known, random, |key| put(key)),
        84..86 => Request::single(Step::Delete {
            key: "l/3".to_owned(),
            end: "l/5".to_owned(),
        }),
        86..90 => Request::single(Step::Get {
            key: "l/".to_owned(),
            end: "l0".to_owned(),
        }),
        90..95 => Request {
            mode: Mode::Serializable,
            ..Request::single(get(&lasting))
        },
        _ => {
            let revision = (field.newest() - random.i64(0..60)).max(field.compacted()).max(1);
            let all = Step::Get {
                key: "l/".to_owned(),
                end: "l0".to_owned(),
            };
            Request {
                mode: Mode::At(revision),
                ..Request::single(all)
            }
        }
    };
    (request, plain)
}

fn empty() -> Request {
    Request {
        compares: Vec::new(),
        then: Vec::new(),
        otherwise: Vec::new(),
        mode: Mode::Linearizable,
    }
}

fn get(key: &str) -> Step {
    Step::Get {
        key: key.to_owned(),
        end: String::new(),
    }
}

fn delete(key: &str) -> Step {
    Step::Delete {
        key: key.to_owned(),
        end: String::new(),
    }
}

/// Changes all of `keys` where they are as the client saw them last, else reads them.
fn conditional(
    keys: Vec<String>,
    known: &Known,
    random: &mut fastrand::Rng,
    change: impl Fn(&str) -> Step,
) -> Request {
    let compare = |key: &String| {
        let seen = known.get(key).copied().unwrap_or((0, 0));
        let by = if seen.0 != 0 && random.bool() {
            Target::Value
        } else {
            Target::Modified
        };
        Compare {
            key: key.clone(),
            by,
            seen,
        }
    };
    Request {
        compares: keys.iter().map(compare).collect(),
        then: keys.iter().map(|key| change(key)).collect(),
        otherwise: keys.iter().map(|key| get(key)).collect(),
        mode: Mode::Linearizable,
    }
}

fn learn(known: &mut Known, request: &Request, revision: i64, succeeded: bool, answers: &[Answer]) {
    if request.mode != Mode::Linearizable {
        return;
    }
    let steps = if succeeded {
        &request.then
    } else {
        &request.otherwise
    };
    for (step, answer) in steps.iter().zip(answers) {
        match (step, answer) {
            (Step::Put { key, value, .. }, _) => drop(known.insert(key.clone(), (revision, *value))),
            (Step::Delete { key, .. }, _) => drop(known.remove(key)),
            (Step::Get { key, end }, Answer::Got(found)) => {
                if end.is_empty() {
                    known.remove(key);
                }
                let seen = |found: &KeyValue| (found.key.clone(), (found.modified, found.value));
                known.extend(found.iter().map(seen));
            }
            (Step::Get { .. }, _) => {}
        }
    }
}
