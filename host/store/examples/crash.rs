//! Kills a store again and again, and looks whether it kept what it had acknowledged.
//!
//! A child writes values of some bytes to some megabytes through the real store, and compacts now and then. It is
//! killed at a random moment, also while it recovers. The next one opens the same folder, checks everything that
//! was acknowledged, says how long it took, and goes on.
//!
//! `crash [--cycles N] [--seed S] [--engine sled|plain|both] [--dir DIR]`

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_store::{Error, LocalStore, LogEngineKind, Op, Options, Put, RangeRequest, Store, Txn};

const WRITERS: usize = 4;
/// After so many kills a new folder is begun.
const CYCLES_OF_FOLDER: u64 = 100;
/// A child lives so long at most after it has recovered.
const ALIVE_MICROSECONDS_MAX: u64 = 40_000;
/// In so many of a hundred cycles it is killed at a moment of its recovery.
const EARLY_PERCENT: u64 = 15;
/// What a value begins with: its number and its length.
const HEADER_BYTES: usize = 16;

struct Arguments {
    cycles: u64,
    seed: u64,
    engines: Vec<LogEngineKind>,
    dir: String,
}

impl Arguments {
    fn read() -> Self {
        let mut this = Self {
            cycles: 1_000,
            seed: fastrand::u64(..),
            engines: vec![LogEngineKind::Sled, LogEngineKind::Plain],
            dir: std::env::temp_dir().display().to_string(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match (word.as_str(), value.as_str()) {
                ("--cycles", value) => this.cycles = value.parse().unwrap(),
                ("--seed", value) => this.seed = value.parse().unwrap(),
                ("--engine", "both") => {}
                ("--engine", value) => this.engines = vec![value.parse().unwrap()],
                ("--dir", _) => this.dir = value,
                _ => panic!("{word} is not known"),
            }
        }
        this
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--child") {
        return child(&words[1..]);
    }
    let arguments = Arguments::read();
    println!("--seed {}", arguments.seed);
    for engine in &arguments.engines {
        run(*engine, &arguments);
    }
}

/// What the children of one engine did.
#[derive(Default)]
struct Tally {
    early: u64,
    acknowledged: u64,
    recoveries: Vec<Duration>,
}

fn run(engine: LogEngineKind, arguments: &Arguments) {
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let mut tally = Tally::default();
    let mut dir = tempfile::tempdir_in(&arguments.dir).unwrap();
    let mut acknowledged = [0; WRITERS];
    let start = Instant::now();
    for cycle in 0..arguments.cycles {
        if cycle % CYCLES_OF_FOLDER == 0 {
            dir = tempfile::tempdir_in(&arguments.dir).unwrap();
            acknowledged = [0; WRITERS];
        }
        let what = format!("{engine}, seed {}, cycle {cycle}", arguments.seed);
        one_life(
            engine,
            dir.path(),
            &mut acknowledged,
            &mut random,
            &mut tally,
            &what,
        );
    }
    tally.recoveries.sort_unstable();
    let at = |part: usize| match tally.recoveries.len() {
        0 => 0.0,
        count => tally.recoveries[(count - 1) * part / 100].as_secs_f64() * 1e3,
    };
    println!(
        "{engine}: {} kills in {:.0} s, {} of them while it recovered; {} writes acknowledged, none lost; \
         {} recoveries: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
        arguments.cycles,
        start.elapsed().as_secs_f64(),
        tally.early,
        tally.acknowledged,
        tally.recoveries.len(),
        at(50),
        at(99),
        at(100)
    );
}

/// Starts a child, lets it live for a while, kills it, and takes down what it had acknowledged.
fn one_life(
    engine: LogEngineKind,
    dir: &Path,
    acknowledged: &mut [u64; WRITERS],
    random: &mut fastrand::Rng,
    tally: &mut Tally,
    what: &str,
) {
    let known = acknowledged.map(|count| count.to_string());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--child")
        .arg(dir)
        .args([engine.to_string(), random.u64(..).to_string()])
        .args(known)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let typical = tally
        .recoveries
        .last()
        .copied()
        .unwrap_or(Duration::from_millis(20));
    let is_early = random.u64(..100) < EARLY_PERCENT;
    if is_early {
        std::thread::sleep(typical.mul_f64(random.f64() * 1.5));
    } else if let Some(Ok(line)) = lines.next() {
        if let Some(micros) = line.strip_prefix("recovered ") {
            tally
                .recoveries
                .push(Duration::from_micros(micros.parse().unwrap()));
        }
        std::thread::sleep(Duration::from_micros(random.u64(..ALIVE_MICROSECONDS_MAX)));
    }
    tally.early += u64::from(is_early);
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(
        ended.is_none(),
        "{what}: the child ended after {:?}:\n{told}",
        started.elapsed()
    );
    // A panic in one of its threads need not have ended it.
    assert!(!told.contains("panicked"), "{what}:\n{told}");
    for line in lines.map_while(Result::ok) {
        let mut words = line
            .strip_prefix("ack ")
            .unwrap_or("")
            .split(' ')
            .map(str::parse::<u64>);
        if let (Some(Ok(writer)), Some(Ok(count))) = (words.next(), words.next()) {
            tally.acknowledged += 1;
            acknowledged[writer as usize] = count;
        }
    }
}

fn child(words: &[String]) {
    let (engine, seed) = (words[1].parse().unwrap(), words[2].parse::<u64>().unwrap());
    let known: Vec<u64> = words[3..].iter().map(|word| word.parse().unwrap()).collect();
    let mut options = Options::new(&words[0]);
    options.log_engine = engine;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        let store = Arc::new(LocalStore::open(options).await.unwrap());
        let took = start.elapsed();
        let mut found = Vec::new();
        for (writer, known) in known.iter().enumerate() {
            found.push(check(&store, writer, *known).await);
        }
        say(&format!("recovered {}", took.as_micros()));
        let writers =
            (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer, seed, found[writer])));
        let writers: Vec<_> = writers.collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

fn value(count: u64, length: usize) -> Vec<u8> {
    let mut value = count.to_be_bytes().to_vec();
    value.extend_from_slice(&(length as u64).to_be_bytes());
    value.resize(length.max(HEADER_BYTES), count as u8);
    value
}

/// A writer's two keys are written together, always.
async fn check(store: &LocalStore, writer: usize, known: u64) -> u64 {
    let kvs = store
        .range(RangeRequest::prefix(format!("{writer}/")))
        .await
        .unwrap()
        .kvs;
    let counts = kvs
        .iter()
        .map(|kv| u64::from_be_bytes(kv.value[..8].try_into().unwrap()));
    let counts: Vec<u64> = counts.collect();
    for (kv, count) in kvs.iter().zip(&counts) {
        assert!(
            kv.value == value(*count, kv.value.len()),
            "writer {writer}: a value that nobody wrote"
        );
    }
    let count = counts.first().copied().unwrap_or(0);
    assert!(
        counts.iter().all(|other| *other == count),
        "writer {writer}: a torn transaction, {counts:?}"
    );
    assert!(
        count >= known,
        "writer {writer}: {known} was acknowledged, {count} is there"
    );
    count
}

async fn write(store: Arc<LocalStore>, writer: usize, seed: u64, mut count: u64) {
    let mut random = fastrand::Rng::with_seed(seed ^ writer as u64);
    loop {
        count += 1;
        let length = match random.u32(..100) {
            0..90 => random.usize(HEADER_BYTES..1_024),
            90..98 => random.usize(1_024..40_000),
            _ => random.usize(400_000..700_000),
        };
        let put = |part: &str| Op::Put(Put::new(format!("{writer}/{part}"), value(count, length)));
        let txn = Txn {
            success: vec![put("a"), put("b")],
            ..Txn::default()
        };
        let revision = store.txn(txn).await.unwrap().revision;
        say(&format!("ack {writer} {count}"));
        if random.u32(..50) == 0 {
            match store.compact(revision - 20, false).await {
                Ok(()) | Err(Error::Compacted { .. }) => {}
                Err(error) => panic!("compacting: {error:?}"),
            }
        }
    }
}

fn say(line: &str) {
    std::io::stdout()
        .lock()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}
