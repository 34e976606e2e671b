//! Every decoder of this crate is fed damaged encodings and plain noise: each answers with a value or an error,
//! never with a panic, and a length of 2^60 takes no memory (it would end the test's process).
//!
//! `CAPSTAN_FUZZ_CASES` asks for more cases of each decoder, `CAPSTAN_FUZZ_SEED` for a known order; whatever
//! fails prints its seed. A bench or a night's run asks for millions.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use fastrand::Rng;

use crate::mvcc::{Record, Rev};
use crate::replica::{Command, ImageHead, Outcome};
use crate::{
    Compare, CompareResult, CompareTarget, Error, KeyRange, KeyValue, Op, OpResponse, Put, RangeRequest,
    RangeResponse, Txn, TxnResponse,
};

/// Cases of each decoder when nothing else is asked for.
const CASES: u64 = 4_000;
const NOISE_BYTES_MAX: usize = 512;

/// A decoder with valid encodings to begin with. It panics where what it decoded is wrong.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) valid: Vec<Vec<u8>>,
    pub(crate) decode: Box<dyn Fn(&[u8])>,
}

impl Target {
    pub(crate) fn new(name: &'static str, valid: Vec<Vec<u8>>, decode: impl Fn(&[u8]) + 'static) -> Self {
        Self {
            name,
            valid,
            decode: Box::new(decode),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn noise(random: &mut Rng) -> Vec<u8> {
    let length = random.usize(..NOISE_BYTES_MAX);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// A valid encoding with a few things done to it.
fn mutate(valid: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let Some(mut bytes) = random.choice(valid).cloned() else {
        return noise(random);
    };
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=bytes.len());
        match random.u32(..8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.u8(..)),
            2 if at < bytes.len() => bytes[at] ^= 1 << random.u32(..8),
            3 if at < bytes.len() => bytes[at] = *random.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap(),
            // A length of 2^60 or so, as postcard writes it, and of 2^32 as we do.
            4 => drop(bytes.splice(at..at, [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10])),
            5 => drop(bytes.splice(at..(at + 4).min(bytes.len()), [0xff, 0xff, 0xff, 0xf0])),
            6 => {
                let from = random.usize(..=at);
                bytes.drain(from..at);
            }
            _ => {
                let other = random.choice(valid).cloned().unwrap_or_default();
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
        }
    }
    bytes
}

/// Runs the cases of some targets.
pub(crate) fn run(targets: Vec<Target>) {
    let seed = number("CAPSTAN_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let cases = number("CAPSTAN_FUZZ_CASES").unwrap_or(CASES);
    println!("CAPSTAN_FUZZ_SEED={seed}, {cases} cases each");
    for target in targets {
        target.valid.iter().for_each(|valid| (target.decode)(valid));
        let mut random = Rng::with_seed(seed);
        for case in 0..cases {
            let bytes = if case % 8 == 0 {
                noise(&mut random)
            } else {
                mutate(&target.valid, &mut random)
            };
            let done = catch_unwind(AssertUnwindSafe(|| (target.decode)(&bytes)));
            let name = target.name;
            assert!(
                done.is_ok(),
                "{name}: seed {seed}, case {case}: panics on {bytes:02x?}"
            );
        }
    }
}

fn key_value() -> KeyValue {
    KeyValue {
        key: "key".into(),
        value: vec![7; 100].into(),
        create_revision: 5,
        mod_revision: 9,
        version: 3,
        lease: i64::MAX,
    }
}

fn txn() -> Txn {
    let nested = Txn {
        success: vec![Op::Put(Put::new("nested", vec![1; 40]))],
        ..Txn::default()
    };
    Txn {
        compare: vec![
            Compare::mod_revision("a", 7),
            Compare {
                range: KeyRange::Span("a".into(), "b".into()),
                target: CompareTarget::Value("v".into()),
                result: CompareResult::NotEqual,
            },
        ],
        success: vec![
            Op::Put(Put {
                prev_kv: true,
                ..Put::new("a", vec![9; 300])
            }),
            Op::Range(RangeRequest::prefix("a/")),
            Op::Txn(Box::new(nested)),
        ],
        failure: vec![Op::Delete {
            range: KeyRange::From("z".into()),
            prev_kv: true,
        }],
    }
}

fn commands() -> Vec<Vec<u8>> {
    let commands = [
        Command::Txn(txn()),
        Command::Compact { revision: 77 },
        Command::LeaseGrant {
            id: 5,
            ttl_seconds: 60,
        },
        Command::LeaseRevoke { id: -5 },
        Command::By(None, Box::new(Command::Txn(txn()))),
    ];
    commands
        .iter()
        .map(|command| command.encode().unwrap().to_vec())
        .collect()
}

fn outcomes() -> Vec<Vec<u8>> {
    let response = TxnResponse {
        revision: 9,
        succeeded: true,
        responses: vec![
            OpResponse::Put {
                prev_kv: Some(key_value()),
            },
            OpResponse::Range(RangeResponse {
                revision: 9,
                kvs: vec![key_value(), key_value()],
                more: true,
                count: 2,
            }),
        ],
    };
    let outcomes = [
        Outcome::Txn(Ok(response)),
        Outcome::Txn(Err(Error::Compacted { compact_revision: 3 })),
        Outcome::Done(Err(Error::Invalid("no".into()))),
        Outcome::Done(Ok(())),
    ];
    outcomes
        .iter()
        .map(|outcome| postcard::to_stdvec(outcome).unwrap())
        .collect()
}

/// What is decoded must encode to what decodes to the same.
fn decode_command(bytes: &[u8]) {
    if let Ok(command) = Command::decode(bytes) {
        let again = command.encode().unwrap();
        assert_eq!(Command::decode(&again).unwrap(), command);
    }
}

fn decode_record(bytes: &[u8]) {
    if let Ok(record) = Record::decode(Bytes::copy_from_slice(bytes)) {
        assert_eq!(Record::decode(record.encode()).unwrap(), record);
    }
    if let Some(rev) = Rev::decode(bytes) {
        assert_eq!(rev.encode(), bytes[..Rev::ENCODED_BYTES]);
    }
}

fn records() -> Vec<Vec<u8>> {
    let record = |deleted| Record {
        key: "a/key".into(),
        value: if deleted {
            Bytes::new()
        } else {
            vec![8; 200].into()
        },
        create_revision: 4,
        version: 2,
        lease: 9,
        deleted,
    };
    vec![record(false).encode().to_vec(), record(true).encode().to_vec()]
}

fn heads() -> Vec<Vec<u8>> {
    let head = ImageHead {
        revision: 9,
        compact_revision: 4,
        leases: vec![(7, 60), (8, 90)],
        ..ImageHead::default()
    };
    vec![
        head.encode().unwrap().to_vec(),
        ImageHead::default().encode().unwrap().to_vec(),
    ]
}

#[test]
fn decoders_of_commands_outcomes_records_and_heads() {
    run(vec![
        Target::new("command", commands(), decode_command),
        Target::new("outcome", outcomes(), |bytes| {
            drop(postcard::from_bytes::<Outcome>(bytes));
        }),
        Target::new("record", records(), decode_record),
        Target::new("image head", heads(), |bytes| drop(ImageHead::decode(bytes))),
    ]);
}

#[test]
fn decoders_of_the_engines() {
    run(crate::engine::fuzz_targets());
}

#[test]
fn decoders_of_the_states_rows() {
    run(crate::replica::fuzz_targets());
}

#[test]
fn decoders_of_peers_messages_and_the_logs_entries() {
    run(crate::consensus::fuzz_targets());
}

/// Nests without end must not use up the stack.
#[test]
fn a_nest_without_end_is_refused() {
    let mut deep = Command::Txn(Txn::default());
    for _ in 0..3 {
        deep = Command::By(None, Box::new(deep));
    }
    assert_eq!(Command::decode(&deep.encode().unwrap()).unwrap(), deep);
    for layer in [
        &[4, 0][..],
        // No comparison, one operation, and that a transaction.
        &[0, 1, 3],
    ] {
        let mut bytes = vec![1];
        if layer.len() == 3 {
            bytes.push(0);
        }
        bytes.extend(std::iter::repeat_n(layer, 200_000).flatten());
        assert!(matches!(Command::decode(&bytes), Err(Error::Corrupt(_))));
    }
}
