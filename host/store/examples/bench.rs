//! Prints what a store in this process does: puts a second at several numbers of clients, the CPU time that
//! each takes, memory and disk after many, and the disk's own pace beside it.
//!
//! `bench [--dir DIR] [--log sled|plain] [--clients 1,32,64,1000] [--seconds 3] [--value 256]
//! [--writes N: fill with N more puts by 64 clients] [--keys N: over so many keys]`

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use capstan_store::{LocalStore, LogEngineKind, Options, Put, RangeRequest, Store};

struct Arguments {
    dir: String,
    log: LogEngineKind,
    clients: Vec<usize>,
    run: Duration,
    value_bytes: usize,
    writes: u64,
    keys: u64,
}

impl Arguments {
    fn read() -> Self {
        let mut this = Self {
            dir: ".".into(),
            log: LogEngineKind::default(),
            clients: vec![1, 32, 64, 1_000],
            run: Duration::from_secs(3),
            value_bytes: 256,
            writes: 0,
            keys: u64::MAX,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--dir" => this.dir = value,
                "--log" => this.log = value.parse().unwrap(),
                "--clients" => {
                    let numbers = value.split(',').filter(|number| !number.is_empty());
                    this.clients = numbers.map(|number| number.parse().unwrap()).collect();
                }
                "--seconds" => this.run = Duration::from_secs_f64(value.parse().unwrap()),
                "--value" => this.value_bytes = value.parse().unwrap(),
                "--writes" => this.writes = value.parse().unwrap(),
                "--keys" => this.keys = value.parse().unwrap(),
                _ => panic!("{word} is not known"),
            }
        }
        this
    }
}

/// How long a round of writing goes on.
#[derive(Clone, Copy)]
enum Until {
    Time(Duration),
    Writes(u64),
}

/// What all writers of a round share.
struct Round {
    store: Arc<LocalStore>,
    start: Instant,
    until: Until,
    value_bytes: usize,
    keys: u64,
    written: AtomicU64,
}

impl Round {
    /// The number of the next write, if there is to be one.
    fn next(&self) -> Option<u64> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        match self.until {
            Until::Time(run) => (self.start.elapsed() < run).then_some(number),
            Until::Writes(writes) => (number < writes).then_some(number),
        }
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::read();
    let dir = tempfile::tempdir_in(&arguments.dir).unwrap();
    let pace = disk(dir.path());
    println!("the disk alone: {pace:.0} synced appends of 512 bytes a second");
    println!("before opening: {}", usage());
    let mut options = Options::new(dir.path().join("store"));
    options.log_engine = arguments.log;
    options.quota_bytes = -1;
    let start = Instant::now();
    let store = Arc::new(LocalStore::open(options.clone()).await.unwrap());
    store.put(Put::new("first", "1")).await.unwrap();
    println!(
        "log on {}: an empty folder to the first write: {:.1} ms",
        arguments.log,
        milliseconds(start.elapsed())
    );
    idle(arguments.run).await;
    for clients in &arguments.clients {
        write(&store, *clients, Until::Time(arguments.run), &arguments).await;
    }
    if arguments.writes > 0 {
        write(&store, 64, Until::Writes(arguments.writes), &arguments).await;
    }
    list(&store).await;
    store.shutdown().await;
    drop(store);
    let start = Instant::now();
    let store = LocalStore::open(options).await.unwrap();
    println!(
        "opening it again: {:.1} ms; {}",
        milliseconds(start.elapsed()),
        usage()
    );
    store.shutdown().await;
}

async fn idle(run: Duration) {
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = cpu();
    tokio::time::sleep(run).await;
    println!(
        "idle: {:.2} ms of CPU a second; {}",
        milliseconds(cpu() - before) / run.as_secs_f64(),
        usage()
    );
}

async fn list(store: &LocalStore) {
    let all = RangeRequest {
        count_only: true,
        ..RangeRequest::prefix("")
    };
    let keys = store.range(all).await.unwrap().count;
    let start = Instant::now();
    let some = RangeRequest {
        limit: 10_000,
        ..RangeRequest::prefix("key")
    };
    let list = store.range(some).await.unwrap().kvs.len();
    println!(
        "a list of {list} of {keys} keys: {:.1} ms",
        milliseconds(start.elapsed())
    );
    let status = store.status().await.unwrap();
    println!(
        "after {} writes: {}; disk {} MB",
        status.revision,
        usage(),
        status.db_size_bytes / 1_000_000
    );
}

async fn write(store: &Arc<LocalStore>, clients: usize, until: Until, arguments: &Arguments) {
    let (start, before) = (Instant::now(), cpu());
    let round = Arc::new(Round {
        store: store.clone(),
        start,
        until,
        value_bytes: arguments.value_bytes,
        keys: arguments.keys,
        written: AtomicU64::new(0),
    });
    let writers: Vec<_> = (0..clients)
        .map(|client| tokio::spawn(write_one(round.clone(), client)))
        .collect();
    let mut times = Vec::new();
    for writer in writers {
        times.extend(writer.await.unwrap());
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = (cpu() - before).as_secs_f64() * 1e6 / times.len() as f64;
    times.sort_unstable();
    let at = |part: f64| milliseconds(times[((times.len() - 1) as f64 * part) as usize]);
    println!(
        "put, {clients} clients: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, {cpu:.0} us of CPU each; {}",
        times.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        usage()
    );
}

async fn write_one(round: Arc<Round>, client: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    while let Some(number) = round.next() {
        let key = format!("key/{client}/{}", number % round.keys);
        let before = Instant::now();
        let put = Put::new(key, vec![7; round.value_bytes]);
        round.store.put(put).await.unwrap();
        times.push(before.elapsed());
    }
    times
}

fn disk(dir: &std::path::Path) -> f64 {
    const APPENDS: u32 = 2_000;
    let mut file = File::create(dir.join("disk")).unwrap();
    let start = Instant::now();
    for _ in 0..APPENDS {
        file.write_all(&[7; 512]).unwrap();
        file.sync_data().unwrap();
    }
    f64::from(APPENDS) / start.elapsed().as_secs_f64()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Resident memory now and at most, and threads.
fn usage() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0)
    };
    format!(
        "memory {} MB, at most {} MB, {} threads",
        number("VmRSS:") / 1_000,
        number("VmHWM:") / 1_000,
        number("Threads:")
    )
}

/// CPU time of this process, from ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
