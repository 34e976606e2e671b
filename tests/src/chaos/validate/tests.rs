//! A history of a right store passes; each small lie in it is found. A check that cannot fail checks nothing.

use crate::chaos::history::{
    Answer, Compare, Event, Frame, History, KeyValue, Lease, Mode, Operation, Outcome, Request, Said, Step,
    Target, WatchStream,
};

use super::all;

fn key(name: &str, value: u64, created: i64, modified: i64, version: i64) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value,
        created,
        modified,
        version,
        lease: 0,
    }
}

fn put(name: &str, value: u64) -> Step {
    Step::Put {
        key: name.to_owned(),
        value,
        lease: 0,
        previous: true,
    }
}

fn get(name: &str) -> Step {
    Step::Get {
        key: name.to_owned(),
        end: String::new(),
    }
}

fn asked(
    times: (u64, u64),
    request: Request,
    revision: i64,
    succeeded: bool,
    answers: Vec<Answer>,
) -> Operation {
    Operation {
        client: 1,
        member: 0,
        incarnation: 0,
        invoked: times.0,
        returned: times.1,
        request,
        outcome: Outcome::Ok {
            revision,
            succeeded,
            answers,
        },
    }
}

fn event(revision: i64, name: &str, put: Option<KeyValue>, previous: Option<KeyValue>) -> Event {
    Event {
        revision,
        key: name.to_owned(),
        put,
        previous,
    }
}

fn frame(received: u64, revision: i64, said: Said) -> Frame {
    Frame {
        received,
        revision,
        said,
    }
}

fn events(received: u64, events: Vec<Event>) -> Frame {
    let revision = events.last().map_or(0, |event| event.revision);
    frame(
        received,
        revision,
        Said::Events {
            events,
            fragment: false,
        },
    )
}

/// Two puts, a conditional transaction over two keys, a removal, a lost put that happened, a lost one that did
/// not, a stale serializable read, and a lease.
fn good() -> History {
    let (first, second) = (key("r/a", 1, 2, 2, 1), key("r/a", 2, 2, 3, 2));
    let (one, two) = (key("t/0/a", 3, 4, 4, 1), key("t/0/b", 4, 4, 4, 1));
    let lost = key("r/b", 5, 6, 6, 1);
    let mut leased = key("lease/7", 9, 7, 7, 1);
    leased.lease = 7;
    let condition = Request {
        compares: vec![Compare {
            key: "t/0/a".to_owned(),
            by: Target::Modified,
            seen: (0, 0),
        }],
        then: vec![put("t/0/a", 3), put("t/0/b", 4)],
        otherwise: vec![get("t/0/a"), get("t/0/b")],
        mode: Mode::Linearizable,
    };
    let removal = Request::single(Step::Delete {
        key: "r/a".to_owned(),
        end: String::new(),
    });
    let serializable = Request {
        mode: Mode::Serializable,
        ..Request::single(get("r/a"))
    };
    let unknown = |at, step| Operation {
        outcome: Outcome::Unknown("deadline".to_owned()),
        ..asked((at, at + 5), Request::single(step), 0, true, Vec::new())
    };
    let leased_put = Step::Put {
        key: "lease/7".to_owned(),
        value: 9,
        lease: 7,
        previous: false,
    };
    let operations = vec![
        asked(
            (10, 20),
            Request::single(put("r/a", 1)),
            2,
            true,
            vec![Answer::Put(None)],
        ),
        asked(
            (30, 40),
            Request::single(put("r/a", 2)),
            3,
            true,
            vec![Answer::Put(Some(first.clone()))],
        ),
        asked(
            (41, 45),
            Request::single(get("r/a")),
            3,
            true,
            vec![Answer::Got(vec![second.clone()])],
        ),
        asked(
            (50, 60),
            condition.clone(),
            4,
            true,
            vec![Answer::Put(None), Answer::Put(None)],
        ),
        asked(
            (61, 62),
            condition,
            4,
            false,
            vec![Answer::Got(vec![one.clone()]), Answer::Got(vec![two.clone()])],
        ),
        asked(
            (70, 80),
            removal,
            5,
            true,
            vec![Answer::Deleted(vec![second.clone()])],
        ),
        Operation {
            client: 2,
            ..asked(
                (81, 82),
                serializable,
                2,
                true,
                vec![Answer::Got(vec![first.clone()])],
            )
        },
        unknown(83, put("r/b", 5)),
        unknown(84, put("r/b", 6)),
        asked(
            (100, 110),
            Request::single(get("r/b")),
            6,
            true,
            vec![Answer::Got(vec![lost.clone()])],
        ),
        asked(
            (120, 130),
            Request::single(leased_put),
            7,
            true,
            vec![Answer::Put(None)],
        ),
    ];
    let second_of_time = 1_000_000_000;
    let told = [
        event(2, "r/a", Some(first.clone()), None),
        event(3, "r/a", Some(second.clone()), Some(first)),
        event(4, "t/0/a", Some(one), None),
        event(4, "t/0/b", Some(two), None),
        event(5, "r/a", None, Some(second)),
        event(6, "r/b", Some(lost), None),
        event(7, "lease/7", Some(leased.clone()), None),
    ];
    let stream = |client, from: usize| WatchStream {
        client,
        member: 0,
        key: "\0".to_owned(),
        end: "\0".to_owned(),
        start: told[from].revision,
        no_put: false,
        no_delete: false,
        frames: vec![
            frame(1, 1, Said::Created),
            events(150, told[from..3.max(from)].to_vec()).clone(),
            events(151, told[3.max(from)..].to_vec()),
            frame(160, 7, Said::Progress),
            events(
                6 * second_of_time,
                vec![event(8, "lease/7", None, Some(leased.clone()))],
            ),
        ]
        .into_iter()
        .filter(|frame| !matches!(&frame.said, Said::Events { events, .. } if events.is_empty()))
        .collect(),
    };
    let mut streams = vec![stream(90, 0), stream(91, 4)];
    // The frames of the first: 4/a and 4/b belong to one revision.
    let Said::Events { events: early, .. } = &mut streams[0].frames[1].said else {
        unreachable!()
    };
    early.push(told[3].clone());
    streams[0].frames[1].revision = 4;
    let Said::Events { events: late, .. } = &mut streams[0].frames[2].said else {
        unreachable!()
    };
    late.remove(0);
    let lease = Lease {
        id: 7,
        key: "lease/7".to_owned(),
        granted: (115, 5),
        renewals: vec![(second_of_time / 2, second_of_time / 2 + 9, 5)],
        revoked: None,
        abandoned: Some(second_of_time),
    };
    History {
        operations,
        streams,
        leases: vec![lease],
        compactions: Vec::new(),
        cut_short: false,
    }
}

#[test]
fn a_right_history_passes() {
    let findings = all(&good());
    assert_eq!(findings.violations, Vec::<String>::new());
}

fn answer(history: &mut History, operation: usize, lie: impl FnOnce(&mut i64, &mut Vec<Answer>)) {
    let Outcome::Ok {
        revision, answers, ..
    } = &mut history.operations[operation].outcome
    else {
        panic!("operation {operation} was answered");
    };
    lie(revision, answers);
}

fn told(history: &mut History, stream: usize, frame: usize) -> &mut Vec<Event> {
    match &mut history.streams[stream].frames[frame].said {
        Said::Events { events, .. } => events,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lease_whose_put_got_lost_has_no_end_to_wait_for() {
    let mut history = good();
    let lease = Lease {
        id: 8,
        key: "lease/8".to_owned(),
        granted: (0, 1),
        renewals: Vec::new(),
        revoked: None,
        abandoned: Some(1),
    };
    history.leases.push(lease);
    let late = frame(1_000_000_000_000, 8, Said::Progress);
    history.streams[0].frames.push(late);
    assert_eq!(all(&history).violations, Vec::<String>::new());
}

/// The watches of a run that broke off end anywhere: what one alone was told at the end proves nothing.
#[test]
fn what_one_watch_alone_was_told_counts_where_the_run_was_whole() {
    let mut history = good();
    let mut alone = history.streams[1].clone();
    (alone.client, alone.key, alone.end) = (92, "lease/".to_owned(), "lease0".to_owned());
    alone.frames = alone.frames.split_off(2);
    alone.start = 8;
    history.streams.push(alone);
    for stream in &mut history.streams[..2] {
        stream.frames.retain(|frame| frame.revision < 8);
    }
    assert_ne!(all(&history).violations, Vec::<String>::new());
    history.cut_short = true;
    assert_eq!(all(&history).violations, Vec::<String>::new());
}

#[test]
fn each_lie_is_found() {
    type Lie = fn(&mut History);
    let lies: &[(&str, &str, Lie)] = &[
        ("a stale read", "no stale read", |history| {
            answer(history, 2, |revision, answers| {
                (*revision, answers[0]) = (2, Answer::Got(vec![key("r/a", 1, 2, 2, 1)]));
            });
        }),
        (
            "a stale read",
            "registers and transactions are linearizable",
            |history| {
                answer(history, 2, |revision, answers| {
                    (*revision, answers[0]) = (2, Answer::Got(vec![key("r/a", 1, 2, 2, 1)]));
                });
            },
        ),
        ("a read of nothing", "answers agree", |history| {
            answer(history, 2, |_, answers| answers[0] = Answer::Got(Vec::new()));
        }),
        (
            "an acknowledged write at a revision that nobody saw",
            "nothing acknowledged is lost",
            |history| {
                answer(history, 10, |revision, _| *revision = 9);
            },
        ),
        ("a write told at another's revision", "answers agree", |history| {
            answer(history, 1, |revision, _| *revision = 2);
        }),
        ("a wrong version", "answers agree", |history| {
            answer(history, 4, |_, answers| {
                answers[0] = Answer::Got(vec![key("t/0/a", 3, 4, 4, 2)])
            });
        }),
        (
            "a refused write that happened",
            "every change was asked for",
            |history| {
                history.operations[7].outcome = Outcome::Refused("no space".to_owned());
            },
        ),
        (
            "a lost write that happened before it was asked",
            "no stale read, no write out of order",
            |history| {
                (history.operations[7].invoked, history.operations[7].returned) = (200, 205);
            },
        ),
        ("an event missing", "watches complete", |history| {
            drop(told(history, 1, 1).remove(0))
        }),
        ("an event twice", "watches complete", |history| {
            let again = told(history, 0, 1)[0].clone();
            told(history, 0, 1).insert(0, again);
        }),
        ("events out of order", "watches complete", |history| {
            told(history, 0, 2).swap(0, 1)
        }),
        (
            "another value to one watch",
            "one history for all watches",
            |history| {
                told(history, 1, 1)[1].put = Some(key("r/b", 77, 6, 6, 1));
            },
        ),
        ("progress ahead of events", "watches complete", |history| {
            history.streams[0].frames[3].revision = 8
        }),
        ("a wrong key before", "watches complete", |history| {
            told(history, 0, 2)[0].previous = None
        }),
        (
            "a revision that no watch told",
            "one history for all watches",
            |history| {
                history.streams.remove(1);
                told(history, 0, 2).remove(1);
            },
        ),
        ("a lease that ended early", "leases last", |history| {
            history.leases[0].renewals.push((2_000_000_000, 2_000_000_009, 5));
        }),
        (
            "a member that went back",
            "a member's reads do not go back",
            |history| {
                history.operations[6].client = 1;
            },
        ),
    ];
    for (lie, promise, tell) in lies {
        let mut history = good();
        tell(&mut history);
        let findings = all(&history);
        let found = findings
            .violations
            .iter()
            .any(|violation| violation.starts_with(promise));
        assert!(
            found,
            "{lie} broke no promise that {promise}: {:#?}",
            findings.violations
        );
    }
}
