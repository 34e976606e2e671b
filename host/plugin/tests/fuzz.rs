//! Whatever bytes are loaded, and whatever a guest answers: the host says what is wrong, or takes what it can.
//!
//! Components are damaged and loaded; and a guest of each world answers every call with pointers, lengths and
//! numbers of a random generator of its own. No thread of the host may panic, and a plugin that means well
//! answers as before. `CAPSTAN_FUZZ_CASES` asks for more cases, `CAPSTAN_FUZZ_SEED` for a known order; the seed
//! is printed.

mod review;
#[path = "../../../tests/fixtures/bad-plugins/wrap.rs"]
mod wrap;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use capstan_kinds::plugin::Plugin;
use capstan_plugin::{Host, Options};
use capstan_points::problem::{Line, Sample};
use capstan_points::remedy::Case;
use capstan_points::scheduler::Pod;
use capstan_points::sidecar::{self, Page, Stream, StreamContext};
use capstan_points::{Bits, Fault, FaultKind};
use fastrand::Rng;
use serde_json::{Value, json};

/// Cases of each target when nothing else is asked for.
const CASES: u64 = 60;
/// Calls of one instance: after three severe faults it is set aside.
const CALLS: u64 = 3;

static PANICS: AtomicU64 = AtomicU64::new(0);

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().expect("a number"))
}

fn random() -> Rng {
    let seed = number("CAPSTAN_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("CAPSTAN_FUZZ_SEED={seed}");
    // Also those of the host's own threads count.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |what| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(what);
    }));
    Rng::with_seed(seed)
}

fn cases() -> u64 {
    number("CAPSTAN_FUZZ_CASES").unwrap_or(CASES)
}

struct Bench {
    host: Arc<Host>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(bundled: &[(&'static str, Vec<u8>)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bundled = bundled
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), Cow::Owned(bytes.clone())));
        let options = Options {
            cache_dir: folder.path().join("cache"),
            bundled: bundled
                .chain([("steady".to_owned(), Cow::Owned(wrap::fixture("cordons")))])
                .collect(),
            name: "fuzz".into(),
            ..Default::default()
        };
        let host = Host::open(options).expect("the host opens");
        let steady = json!({"source": {"bundled": "steady"}, "bind": {"nodes": {}}});
        host.load(&plugin("steady", steady)).expect("it loads");
        Self { host, folder }
    }

    /// The plugin that means well answers, and nothing panicked.
    fn is_sound(&self) {
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "a thread of the host panicked");
        let row = self.host.remedy_seats().borrow().clone();
        let steady = row.iter().find(|seat| seat.plugin == "steady").expect("seated");
        assert_eq!(steady.policy.decide(&Case::default()), Ok(Vec::new()));
    }
}

fn plugin(name: &str, spec: Value) -> Plugin {
    let metadata = json!({"name": name, "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a manifest")
}

/// A component with a few things done to it.
fn damage(valid: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut bytes = random.choice(valid).expect("there are some").clone();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..bytes.len());
        match random.u32(..8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.u8(..)),
            2 => drop(bytes.remove(at)),
            3 => {
                // A part of another component in its place.
                let other = random.choice(valid).expect("there are some");
                let from = random.usize(..other.len());
                let to = (from + random.usize(..64)).min(other.len());
                bytes.splice(
                    at..(at + to - from).min(bytes.len()),
                    other[from..to].iter().copied(),
                );
            }
            4 => bytes[at] = *random.choice(&[0, 1, 0x7f, 0x80, 0xff]).expect("there are some"),
            _ => bytes[at] ^= 1 << random.u32(..8),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn a_damaged_component_is_refused_or_works() {
    let mut random = random();
    let fixtures = [
        "denies-host-network",
        "echoes",
        "counts-lines",
        "cordons",
        "steady",
    ];
    let valid: Vec<Vec<u8>> = fixtures.iter().map(|name| wrap::fixture(name)).collect();
    let bench = Bench::new(&[]);
    let path = bench.folder.path().join("damaged.wasm");
    let mut said: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..cases() * 5 {
        std::fs::write(&path, damage(&valid, &mut random)).expect("a file");
        let spec = json!({"source": {"file": path}});
        let answer = match bench.host.load(&plugin("damaged", spec)) {
            Ok(_) => "loaded".to_owned(),
            Err(error) => error.reason().to_owned(),
        };
        *said.entry(answer).or_default() += 1;
        bench.host.unload("damaged");
        bench.is_sound();
    }
    println!("{said:?}");
    assert!(said.len() > 1, "{said:?}");
}

/// `$fill` writes 992 words from 128 on, most of them likely pointers, lengths and tags, and answers where a value
/// may lie. Its seed is the text of the configuration.
const GENERATOR: &str = r#"
(global $state (mut i64) (i64.const 88172645463325252))
(func $next (result i32)
  (global.set $state (i64.xor (global.get $state) (i64.shl (global.get $state) (i64.const 13))))
  (global.set $state (i64.xor (global.get $state) (i64.shr_u (global.get $state) (i64.const 7))))
  (global.set $state (i64.xor (global.get $state) (i64.shl (global.get $state) (i64.const 17))))
  (i32.wrap_i64 (i64.shr_u (global.get $state) (i64.const 16))))
(func $word (result i32) (local $kind i32)
  (local.set $kind (i32.and (call $next) (i32.const 63)))
  (if (i32.le_u (local.get $kind) (i32.const 16)) (then (return (i32.const 0))))
  (if (i32.le_u (local.get $kind) (i32.const 36)) (then (return (i32.and (call $next) (i32.const 3)))))
  ;; Where a pointer leads, its bytes are a text too.
  (if (i32.le_u (local.get $kind) (i32.const 60))
    (then (return (i32.add (i32.const 256) (i32.and (call $next) (i32.const 0x778))))))
  (if (i32.le_u (local.get $kind) (i32.const 62)) (then (return (i32.and (call $next) (i32.const 0xffff)))))
  (call $next))
(func $fill (result i32) (local $at i32)
  (local.set $at (i32.const 128))
  (loop $more
    (i32.store (local.get $at) (call $word))
    (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const 4096))))
  (local.set $at (i32.add (i32.const 128) (i32.and (call $next) (i32.const 0x1f8))))
  ;; Mostly an answer and no fault.
  (if (i32.and (call $next) (i32.const 7)) (then (i32.store (local.get $at) (i32.const 0))))
  (local.get $at))
;;wit export capstan:plugin/guest@0.1.0;
(func (export "capstan:plugin/guest@0.1.0#configure") (param $at i32) (param $length i32) (result i32)
  (loop $more
    (if (i32.gt_u (local.get $length) (i32.const 0)) (then
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (global.set $state (i64.add
        (i64.mul (global.get $state) (i64.const 6364136223846793005))
        (i64.extend_i32_u (i32.load8_u (i32.add (local.get $at) (local.get $length))))))
      (br $more))))
  (global.set $state (i64.or (global.get $state) (i64.const 1)))
  (i32.const 64))
"#;

const ADMISSION: &str = r#"
;;wit import capstan:admission/documents@0.1.0;
;;wit export capstan:admission/validate@0.1.0;
;;wit export capstan:admission/mutate@0.1.0;
(import "capstan:admission/documents@0.1.0" "[resource-drop]document" (func $drop (param i32)))
(func $give-back (param $call i32)
  (if (i32.load8_u offset=104 (local.get $call)) (then (call $drop (i32.load offset=108 (local.get $call)))))
  (if (i32.load8_u offset=112 (local.get $call)) (then (call $drop (i32.load offset=116 (local.get $call))))))
(func (export "capstan:admission/validate@0.1.0#validate") (param $call i32) (result i32)
  (call $give-back (local.get $call)) (call $fill))
(func (export "capstan:admission/mutate@0.1.0#mutate") (param $call i32) (result i32)
  (call $give-back (local.get $call)) (call $fill))
"#;

const SCHEDULER: &str = r#"
;;wit export capstan:scheduler/filter@0.1.0;
;;wit export capstan:scheduler/score@0.1.0;
(func (export "capstan:scheduler/filter@0.1.0#filter") (param i32) (result i32) (call $fill))
(func (export "capstan:scheduler/score@0.1.0#score") (param i32) (result i32) (call $fill))
"#;

const PROBLEM: &str = r#"
;;wit export capstan:plugin/hand-off@0.1.0;
;;wit export capstan:problem/monitor@0.1.0;
(func (export "capstan:plugin/hand-off@0.1.0#save-state") (result i32) (call $fill))
(func (export "capstan:plugin/hand-off@0.1.0#restore-state") (param i32 i32) (result i32) (call $fill))
(func (export "capstan:problem/monitor@0.1.0#sources") (result i32) (call $fill))
(func (export "capstan:problem/monitor@0.1.0#on-lines") (param i32 i32 i32 i64 i64) (result i32) (call $fill))
(func (export "capstan:problem/monitor@0.1.0#on-samples") (param i32 i32 i64) (result i32) (call $fill))
(func (export "capstan:problem/monitor@0.1.0#on-tick") (param i64) (result i32) (call $fill))
"#;

const REMEDY: &str = r#"
;;wit export capstan:remedy/decide@0.1.0;
(func (export "capstan:remedy/decide@0.1.0#decide")
  (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (result i32) (call $fill))
"#;

const SIDECAR: &str = r#"
;;wit export capstan:sidecar/logs@0.1.0;
;;wit export capstan:sidecar/adapter@0.1.0;
(func (export "capstan:sidecar/logs@0.1.0#open") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 64))
(func (export "capstan:sidecar/logs@0.1.0#on-lines") (param i32 i32) (result i32) (call $fill))
(func (export "capstan:sidecar/logs@0.1.0#flush") (result i32) (call $fill))
(func (export "capstan:sidecar/adapter@0.1.0#endpoints") (result i32) (call $fill))
(func (export "capstan:sidecar/adapter@0.1.0#translate")
  (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (call $fill))
"#;

/// How each call of a target ended.
type Ends = BTreeMap<&'static str, u64>;

fn note<R>(ends: &mut Ends, answer: Result<R, Fault>) {
    let end = match answer {
        Ok(_) => "taken",
        Err(fault) => match fault.kind {
            FaultKind::Trap => "trap",
            FaultKind::Deadline => "deadline",
            FaultKind::Memory => "memory",
            FaultKind::Garbage => "refused",
            FaultKind::Reported => "the guest's own fault",
            FaultKind::Host => "set aside",
        },
    };
    *ends.entry(end).or_default() += 1;
}

/// Loads the liar with new seeds and asks it everything that `ask` does.
fn lie(module: &str, bind: &Value, random: &mut Rng, ask: impl Fn(&Host, &mut Ends)) -> Ends {
    let prelude = wrap::prelude();
    let bench = Bench::new(&[("liar", wrap::component(&prelude, &format!("{GENERATOR}{module}")))]);
    let mut ends = Ends::new();
    for _ in 0..cases() {
        let seed = random.u32(1..=i32::MAX as u32);
        let spec = json!({"source": {"bundled": "liar"}, "bind": bind, "config": {"weight": seed}});
        match bench.host.load(&plugin("liar", spec)) {
            Ok(_) => (0..CALLS).for_each(|_| ask(&bench.host, &mut ends)),
            Err(_) => *ends.entry("not loaded").or_default() += 1,
        }
        bench.host.unload("liar");
        bench.is_sound();
    }
    ends
}

#[test]
fn whatever_a_guest_answers_the_host_takes_or_refuses() {
    let mut random = random();
    let rule = json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]});
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let tell = |world: &str, ends: Ends| {
        println!("{world}: {ends:?}");
        assert!(
            ends.keys().any(|end| *end == "refused"),
            "{world}: nothing was refused: {ends:?}"
        );
    };
    let ends = lie(
        ADMISSION,
        &json!({"admission": {"rules": [rule]}}),
        &mut random,
        |host, ends| {
            let row = host.admission_seats().borrow().clone();
            note(
                ends,
                runtime.block_on(
                    row[0]
                        .policy
                        .validate(review::review(json!({"spec": {}}), Some(json!({})))),
                ),
            );
            note(
                ends,
                runtime.block_on(
                    row[0]
                        .policy
                        .mutate(review::review(json!({"spec": {}}), Some(json!({})))),
                ),
            );
        },
    );
    tell("admission", ends);
    let ends = lie(SCHEDULER, &json!({"scheduler": {}}), &mut random, |host, ends| {
        let row = host.scheduler_seats().borrow().clone();
        note(ends, row[0].policy.filter(&Pod::default(), &Bits::all_below(100)));
        note(ends, row[0].policy.score(&Pod::default(), &Bits::all_below(3)));
    });
    tell("scheduler", ends);
    let ends = lie(PROBLEM, &json!({"nodes": {}}), &mut random, |host, ends| {
        let row = host.problem_seats().borrow().clone();
        let line = Line {
            time_ms: 1,
            text: "a line".into(),
        };
        let sample = Sample {
            name: "load.1m".into(),
            value: 1.0,
        };
        note(ends, row[0].policy.sources());
        note(ends, row[0].policy.on_lines(0, &[line], 0, 1));
        note(ends, row[0].policy.on_samples(&[sample], 1));
        note(ends, row[0].policy.on_tick(1));
    });
    tell("problem", ends);
    let ends = lie(REMEDY, &json!({"nodes": {}}), &mut random, |host, ends| {
        let row = host.remedy_seats().borrow().clone();
        let liar = row.iter().find(|seat| seat.plugin == "liar").expect("seated");
        note(ends, liar.policy.decide(&Case::default()));
    });
    tell("remedy", ends);
    let ends = lie(SIDECAR, &json!({"pods": {}}), &mut random, |host, ends| {
        let row = host.sidecar_seats().borrow().clone();
        let liar = &row[0].policy;
        note(ends, liar.endpoints());
        let page = Page {
            content_type: "text/plain".into(),
            body: "up 1".into(),
        };
        note(ends, liar.translate(&StreamContext::default(), page));
        let Ok(mut stream) = liar.open(&StreamContext::default()) else {
            return;
        };
        let line = sidecar::Line {
            time_ms: 1,
            stream: Stream::Stdout,
            text: "a line".into(),
        };
        note(ends, stream.on_lines(vec![line]));
        note(ends, stream.flush());
    });
    tell("sidecar", ends);
}

/// A guest may lie about itself too; the seed is a part of the component then.
#[test]
fn whatever_a_guest_says_of_itself_is_taken_or_refused() {
    let mut random = random();
    let prelude = wrap::prelude().replace("(result i32) (i32.const 16))", "(result i32) (call $fill))");
    let bench = Bench::new(&[]);
    let path = bench.folder.path().join("liar.wasm");
    let mut ends = Ends::new();
    for _ in 0..cases() / 2 {
        let seeded = GENERATOR.replace("88172645463325252", &random.u64(1..u64::MAX / 4).to_string());
        std::fs::write(&path, wrap::component(&prelude, &format!("{seeded}{REMEDY}"))).expect("a file");
        let loaded = bench.host.load(&plugin(
            "liar",
            json!({"source": {"file": path}, "bind": {"nodes": {}}}),
        ));
        *ends
            .entry(if loaded.is_ok() { "loaded" } else { "refused" })
            .or_default() += 1;
        bench.host.unload("liar");
        bench.is_sound();
    }
    println!("{ends:?}");
    assert!(ends.contains_key("refused"), "{ends:?}");
}
