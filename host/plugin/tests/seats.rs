//! The host on real components: what a user's plugin meets, good and bad. Fixtures: tests/fixtures/bad-plugins.

mod review;
#[path = "../../../tests/fixtures/bad-plugins/wrap.rs"]
mod wrap;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use capstan_kinds::plugin::Plugin;
use capstan_plugin::{Bundled, Host, LoadError, Loaded, Options};
use capstan_points::admission::{Review, Verdict};
use capstan_points::problem::Line;
use capstan_points::remedy::{Action, Case, Condition, ConditionStatus, Decision};
use capstan_points::scheduler::Pod;
use capstan_points::sidecar::{self, Page, Stream, StreamContext};
use capstan_points::{Bits, Fault, FaultKind};
use serde_json::{Value, json};

const FIXTURES: [&str; 18] = [
    "steady",
    "steadier",
    "traps",
    "loops",
    "eats-memory",
    "short-column",
    "score-of-101",
    "floods",
    "wants-clock",
    "no-world",
    "refuses-config",
    "loops-at-load",
    "fails-self-test",
    "denies-host-network",
    "traps-on-review",
    "counts-lines",
    "echoes",
    "cordons",
];

struct Bench {
    host: Arc<Host>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut bundled: Bundled = FIXTURES
            .iter()
            .map(|name| ((*name).to_owned(), Cow::Owned(wrap::fixture(name))))
            .collect();
        bundled.insert("nonsense".into(), Cow::Borrowed(b"nonsense"));
        let options = Options {
            cache_dir: folder.path().join("cache"),
            bundled,
            name: "test".into(),
            ..Default::default()
        };
        Self {
            host: Host::open(options).expect("the host opens"),
            _folder: folder,
        }
    }

    fn load(&self, spec: Value) -> Result<Loaded, LoadError> {
        self.host.load(&plugin("p", spec))
    }

    fn load_bundled(&self, name: &str) -> Result<Loaded, LoadError> {
        self.load(json!({"source": {"bundled": name}}))
    }

    /// Asks whoever sits in the first scheduler seat now.
    fn score(&self) -> Result<Vec<i32>, Fault> {
        let row = self.host.scheduler_seats().borrow().clone();
        row.first()
            .expect("a seat is taken")
            .policy
            .score(&Pod::default(), &Bits::all_below(3))
    }

    fn condition(&self, type_name: &str) -> (&'static str, &'static str, String) {
        let report = self.host.report("p").expect("known");
        let said = report
            .conditions
            .into_iter()
            .find(|said| said.type_name == type_name)
            .expect("said");
        (said.status, said.reason, said.message)
    }
}

fn plugin(name: &str, spec: Value) -> Plugin {
    serde_json::from_value(json!({"metadata": {"name": name, "generation": 1}, "spec": spec}))
        .expect("a manifest")
}

#[test]
fn a_component_takes_a_seat_and_answers() {
    let bench = Bench::new();
    let loaded = bench
        .load(json!({"source": {"bundled": "steady"}, "config": {"weight": 2}}))
        .expect("loads");
    assert_eq!(
        (loaded.title.as_str(), loaded.worlds.as_slice()),
        ("fixture 1.0.0", &["scheduler".to_owned()][..])
    );
    assert_eq!(bench.score(), Ok(vec![1, 2, 3]));
    let row = bench.host.scheduler_seats().borrow().clone();
    let asks = row[0].policy.asks();
    assert!(asks.filter && asks.score && !asks.view && !asks.enqueue);
    assert_eq!(
        row[0].policy.filter(&Pod::default(), &Bits::all_below(3)),
        Ok(Vec::new())
    );
    assert!(
        !bench
            .load(json!({"source": {"bundled": "steady"}, "config": {"weight": 2}}))
            .expect("again")
            .changed
    );
    let report = bench.host.report("p").expect("known");
    assert!(
        report.host.ready && report.host.calls == 2 && report.host.p99_micros > 0,
        "{report:?}"
    );
    assert!(
        bench
            .host
            .metrics_text()
            .contains("capstan_plugin_calls_total{plugin=\"p\"} 2")
    );
    bench.host.unload("p");
    assert!(bench.host.scheduler_seats().borrow().is_empty());
}

/// Each bad revision is refused at its step with a message that helps, and the good one keeps serving.
#[test]
fn a_bad_revision_is_refused_and_the_old_one_serves() {
    let bench = Bench::new();
    bench.load_bundled("steady").expect("loads");
    assert_eq!(bench.score(), Ok(vec![1, 2, 3]));
    let digest = format!("sha256:{}", "0".repeat(64));
    let bundled = |name: &str| json!({"source": {"bundled": name}});
    let with = |field: &str, value: Value| {
        let mut spec = bundled("steadier");
        spec[field] = value;
        spec
    };
    let cases = [
        (
            bundled("nonsense"),
            "Verified",
            "NotAComponent",
            "not a WebAssembly component",
        ),
        (bundled("absent"), "Fetched", "FetchFailed", "there are: cordons"),
        (
            json!({"source": {}}),
            "Fetched",
            "InvalidSpec",
            "exactly one of bundled",
        ),
        (
            json!({"source": {"oci": "registry.example/UPPER"}}),
            "Fetched",
            "FetchFailed",
            "spec.source.oci",
        ),
        (
            with("signature", json!({"bundle": {}})),
            "Verified",
            "SignatureInvalid",
            "spec.signature",
        ),
        (
            with("rollout", json!({"strategy": "Canary"})),
            "Configured",
            "NotYetSupported",
            "Canary",
        ),
        (
            with("digest", json!(digest)),
            "Verified",
            "DigestMismatch",
            "spec.digest",
        ),
        (
            bundled("no-world"),
            "Verified",
            "WrongWorld",
            "at least one of capstan:scheduler/view",
        ),
        (
            bundled("wants-clock"),
            "Verified",
            "ImportNotGranted",
            "capstan:plugin/clock@0.1.0 is not granted",
        ),
        (
            with("capabilities", json!([{"name": "root"}])),
            "Verified",
            "InvalidSpec",
            "spec.capabilities[0].name",
        ),
        (
            with("limits", json!({"memory": "1Pi"})),
            "Configured",
            "InvalidSpec",
            "spec.limits.memory: \"1Pi\"",
        ),
        (
            with("limits", json!({"memory": "1"})),
            "Configured",
            "InvalidSpec",
            "spec.limits.memory",
        ),
        (
            with("config", json!({"weight": 0})),
            "Configured",
            "ConfigInvalid",
            "spec.config.weight",
        ),
        (
            with("bind", json!({"pods": {}})),
            "Configured",
            "InvalidSpec",
            "spec.bind.pods",
        ),
        (
            bundled("refuses-config"),
            "Configured",
            "ConfigInvalid",
            "no rack is set",
        ),
        (bundled("loops-at-load"), "Configured", "StartFailed", "deadline"),
        (
            bundled("fails-self-test"),
            "Ready",
            "SelfTestFailed",
            "one and one: 3",
        ),
        (
            bundled("denies-host-network"),
            "Configured",
            "InvalidSpec",
            "spec.bind.admission.rules",
        ),
        (bundled("traps"), "Ready", "ReplayFailed", "score"),
        (bundled("loops"), "Ready", "ReplayFailed", "deadline"),
        (bundled("eats-memory"), "Ready", "ReplayFailed", "memory"),
        (
            bundled("short-column"),
            "Ready",
            "ReplayFailed",
            "1 scores for 3 candidates",
        ),
        (bundled("score-of-101"), "Ready", "ReplayFailed", "101"),
    ];
    for (spec, step, reason, hint) in cases {
        let error = bench.load(spec.clone()).expect_err(&spec.to_string());
        assert!(error.to_string().contains(hint), "{spec}: {error}");
        assert_eq!(
            (error.step().condition(), error.reason()),
            (step, reason),
            "{spec}: {error}"
        );
        let (status, _, message) = bench.condition(step);
        assert_eq!(status, "False", "{spec}");
        assert!(message.contains("keeps serving"), "{message}");
        assert_eq!(bench.condition("Ready").0, "False");
        assert_eq!(bench.score(), Ok(vec![1, 2, 3]), "{spec}");
    }
    bench.load_bundled("steadier").expect("a good one takes over");
    assert_eq!(bench.score(), Ok(vec![7, 7, 7]));
    assert_eq!(bench.condition("Ready").0, "True");
}

/// Without recorded calls a bad revision takes its seat; each call to it ends in a fault that says why.
#[test]
fn faults_are_contained_and_named() {
    for (name, kind) in [
        ("traps", FaultKind::Trap),
        ("loops", FaultKind::Deadline),
        ("eats-memory", FaultKind::Memory),
        ("short-column", FaultKind::Garbage),
        ("score-of-101", FaultKind::Garbage),
    ] {
        let bench = Bench::new();
        bench.load_bundled(name).expect("nothing is known against it");
        let started = Instant::now();
        let fault = bench.score().expect_err(name);
        assert_eq!(fault.kind, kind, "{name}: {fault}");
        assert!(started.elapsed() < Duration::from_secs(5), "{name}");
        assert!(!fault.message.contains("backtrace"), "{name}: {fault}");
        let report = bench.host.report("p").expect("known");
        assert_eq!(
            (report.host.traps, report.last_error.as_str()),
            (1, fault.to_string().as_str()),
            "{name}"
        );
        assert_eq!(bench.condition("Degraded").0, "True", "{name}");
    }
    let bench = Bench::new();
    bench.load_bundled("floods").expect("loads");
    let row = bench.host.scheduler_seats().borrow().clone();
    let fault = row[0]
        .policy
        .filter(&Pod::default(), &Bits::all_below(3))
        .expect_err("too many rows");
    assert_eq!(fault.kind, FaultKind::Garbage, "{fault}");
}

/// A plugin that fails again and again is set aside when there is nothing to go back to.
#[test]
fn repeated_faults_set_a_first_revision_aside() {
    let bench = Bench::new();
    bench.load_bundled("traps").expect("loads");
    for _ in 0..3 {
        assert_eq!(bench.score().expect_err("traps").kind, FaultKind::Trap);
    }
    let fault = bench.score().expect_err("set aside");
    assert_eq!(fault.kind, FaultKind::Host);
    assert!(
        fault.message.contains("set aside after repeated faults"),
        "{fault}"
    );
    assert_eq!(bench.condition("Degraded").1, "SetAside");
}

/// The revision before takes over by itself, and the bad one is not tried again until it changes.
#[test]
fn repeated_faults_roll_back() {
    let bench = Bench::new();
    bench.load_bundled("steady").expect("loads");
    bench
        .load_bundled("traps")
        .expect("nothing was recorded, so nothing speaks against it");
    let mut faults = 0;
    while bench.score().is_err() {
        faults += 1;
        assert!(faults <= 3, "rolled back after three");
    }
    assert_eq!((faults, bench.score()), (3, Ok(vec![1, 2, 3])));
    assert_eq!(bench.condition("Degraded").1, "RolledBack");
    let error = bench.load_bundled("traps").expect_err("known to be bad");
    assert_eq!(error.reason(), "RolledBack");
    bench.load_bundled("steadier").expect("another one may try");
    assert_eq!(
        (bench.score(), bench.condition("Degraded").0),
        (Ok(vec![7, 7, 7]), "False")
    );
}

#[test]
fn swaps_under_load_lose_no_call() {
    let bench = Bench::new();
    bench.load_bundled("steady").expect("loads");
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let column = bench.score().expect("no call is lost");
                    assert!(column == [1, 2, 3] || column == [7, 7, 7], "{column:?}");
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for swap in 0..20 {
            let name = if swap % 2 == 0 { "steadier" } else { "steady" };
            assert!(bench.load_bundled(name).expect("swaps").changed);
            let before = calls.load(Ordering::SeqCst);
            let since = Instant::now();
            while calls.load(Ordering::SeqCst) == before && since.elapsed() < Duration::from_secs(10) {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(calls.load(Ordering::SeqCst) >= 20);
}

fn review(object: Value) -> Arc<Review> {
    review::review(object, Some(json!({})))
}

fn admission_spec(name: &str) -> Value {
    json!({"source": {"bundled": name}, "bind": {"admission": {"rules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]}}})
}

#[tokio::test]
async fn an_admission_policy_reads_the_object_on_the_hosts_side() {
    let bench = Bench::new();
    bench.load(admission_spec("denies-host-network")).expect("loads");
    let row = bench.host.admission_seats().borrow().clone();
    let policy = &row[0].policy;
    assert!(policy.validates() && !policy.mutates() && policy.covers(&review(json!({}))));
    let allowed = policy.validate(review(json!({"spec": {}}))).await;
    assert_eq!(allowed, Ok(Verdict::Allow(Vec::new())));
    let Ok(Verdict::Deny(denial)) = policy
        .validate(review(json!({"spec": {"hostNetwork": true}})))
        .await
    else {
        panic!("must be denied");
    };
    assert_eq!(
        (denial.code, denial.message.as_str()),
        (403, "hostNetwork is not allowed")
    );
    // The next revision is tried on what this one answered.
    let error = bench
        .load(admission_spec("traps-on-review"))
        .expect_err("it traps on a recorded request");
    assert_eq!(error.reason(), "ReplayFailed");
    let many = (0..200).map(|_| policy.validate(review(json!({"spec": {}}))));
    assert!(futures::future::join_all(many).await.iter().all(Result::is_ok));
}

/// The daemon traps when a call is lost or repeated between its revisions.
#[test]
fn a_problem_daemon_hands_its_state_over() {
    let bench = Bench::new();
    let spec = |weight: u32| json!({"source": {"bundled": "counts-lines"}, "config": {"weight": weight}});
    bench.load(spec(1)).expect("loads");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let teller = scope.spawn(|| {
            let line = Line {
                time_ms: 0,
                text: "x".into(),
            };
            let mut told = 0;
            while !stop.load(Ordering::SeqCst) {
                told += 1;
                let row = bench.host.problem_seats().borrow().clone();
                row[0]
                    .policy
                    .on_lines(0, std::slice::from_ref(&line), 0, told)
                    .expect("in order");
            }
            told
        });
        for weight in 2..12 {
            // Rehearsals replay old numbers in an instance of their own.
            bench.load(spec(weight)).expect("swaps");
        }
        stop.store(true, Ordering::SeqCst);
        assert!(teller.join().expect("no call failed") > 0);
    });
}

#[test]
fn many_load_at_once_in_the_order_given() {
    let bench = Bench::new();
    let plugins =
        ["steady", "no-world", "steadier"].map(|name| plugin(name, json!({"source": {"bundled": name}})));
    let answers = bench.host.load_all(plugins.to_vec());
    let ready: Vec<(&str, bool)> = answers
        .iter()
        .map(|(name, answer)| (name.as_str(), answer.is_ok()))
        .collect();
    assert_eq!(ready, [("steady", true), ("no-world", false), ("steadier", true)]);
    assert_eq!(bench.host.scheduler_seats().borrow().len(), 2);
}

#[test]
fn a_remedy_decides_by_what_the_case_holds() {
    let bench = Bench::new();
    let selector = json!({"matchLabels": {"pool": "a"}});
    let bind = json!({"nodes": {"selector": selector, "budget": 3}});
    bench
        .load(json!({"source": {"bundled": "cordons"}, "bind": bind}))
        .expect("loads");
    let row = bench.host.remedy_seats().borrow().clone();
    let remedy = &row[0].policy;
    let labels = |pool: &str| [("pool".to_owned(), pool.to_owned())].into();
    assert!(remedy.selects(&labels("a")) && !remedy.selects(&labels("b")) && remedy.budget() == 3);
    let mut case = Case::default();
    assert_eq!(remedy.decide(&case), Ok(Vec::new()));
    case.conditions.push(Condition {
        type_name: "KernelDeadlock".into(),
        status: ConditionStatus::True,
        reason: "TaskHung".into(),
        message: "m".into(),
        since_ms: 1,
    });
    let cordon = Decision {
        action: Action::Cordon,
        reason: "sick".into(),
    };
    assert_eq!(remedy.decide(&case), Ok(vec![cordon]));
    case.node.unschedulable = true;
    assert_eq!(remedy.decide(&case), Ok(Vec::new()));
}

#[test]
fn a_sidecar_sees_lines_and_pages_of_its_pods() {
    let bench = Bench::new();
    let spec = json!({"source": {"bundled": "echoes"}, "bind": {"pods": {"namespaces": ["web"]}}});
    bench.load(spec.clone()).expect("loads");
    let row = bench.host.sidecar_seats().borrow().clone();
    let sidecar = &row[0].policy;
    assert!(sidecar.selects("web", &Default::default()) && !sidecar.selects("db", &Default::default()));
    assert!(sidecar.transforms_logs());
    let endpoint = &sidecar.endpoints().expect("answers")[0];
    assert_eq!(
        (endpoint.listen_port, endpoint.listen_path.as_str()),
        (9100, "/metrics")
    );
    assert_eq!(
        (endpoint.upstream_port, endpoint.upstream_path.as_str()),
        (8080, "/stats")
    );
    let context = StreamContext {
        namespace: "web".into(),
        pod: "p".into(),
        ..StreamContext::default()
    };
    let line = |text: &str| sidecar::Line {
        time_ms: 7,
        stream: Stream::Stderr,
        text: text.into(),
    };
    let mut stream = sidecar.open(&context).expect("opens");
    assert_eq!(
        stream.on_lines(vec![line("a"), line("ü")]),
        Ok(vec![line("a"), line("ü")])
    );
    assert_eq!(stream.flush(), Ok(Vec::new()));
    let page = Page {
        content_type: "text/plain".into(),
        body: "up 1".into(),
    };
    assert_eq!(sidecar.translate(&context, page.clone()), Ok(page));
    // A stream outlives the revision that it was opened with.
    let mut next = spec;
    next["config"] = json!({"weight": 2});
    assert!(bench.load(next).expect("swaps").changed);
    assert_eq!(stream.on_lines(vec![line("b")]), Ok(vec![line("b")]));
}
