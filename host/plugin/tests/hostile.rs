//! Hostile components, each by itself and all at once beside plugins that mean well.
//!
//! What is asserted is what ends each call and that the others' answers stay right and go on; times are printed
//! here and judged by `cargo xtask bench plugins`.

#[path = "hostile/attacks.rs"]
mod attacks;
mod review;
#[path = "../../../tests/fixtures/bad-plugins/wrap.rs"]
mod wrap;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use attacks::{AT_LOAD, ATTACKS, every_request};
use capstan_kinds::plugin::Plugin;
use capstan_plugin::{Bundled, Host, Options};
use capstan_points::admission::Verdict;
use review::review;
use serde_json::{Value, json};

/// A call beyond this is a stall and no mere slowness: fifty times the deadline is the host's own outer bound.
const STALL: Duration = Duration::from_secs(20);
/// Faults within half a minute after which the host sets a policy aside.
const SET_ASIDE_AFTER: u32 = 3;

fn host(folder: &std::path::Path, bundled: Bundled) -> Arc<Host> {
    let options = Options {
        cache_dir: folder.join("cache"),
        bundled,
        name: "test".into(),
        ..Default::default()
    };
    Host::open(options).expect("the host opens")
}

fn plugin(name: &str, spec: Value) -> Plugin {
    let metadata = json!({"name": name, "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a manifest")
}

fn object_name(attack: &str) -> String {
    attack.replace([' ', ',', '\''], "-")
}

fn all_bundled() -> Bundled {
    let attacks = ATTACKS
        .iter()
        .map(|attack| (attack.name.to_owned(), Cow::Owned(attack.component())));
    let victim = "denies-host-network";
    attacks
        .chain([(victim.to_owned(), Cow::Owned(wrap::fixture(victim)))])
        .collect()
}

#[tokio::test]
async fn each_attack_ends_in_its_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = host(folder.path(), all_bundled());
    for attack in &ATTACKS {
        let name = object_name(attack.name);
        host.load(&plugin(&name, attack.spec()))
            .unwrap_or_else(|error| panic!("{}: {error}", attack.name));
        let started = Instant::now();
        let fault = attack.call(&host, &name).await.expect_err(attack.name);
        let took = started.elapsed();
        println!("{}: {fault} ({:.1} ms)", attack.name, took.as_secs_f64() * 1e3);
        assert_eq!(fault.kind, attack.ends_in, "{}: {fault}", attack.name);
        assert!(took < STALL, "{}: {took:?}", attack.name);
        let report = host.report(&name).expect("it is known");
        assert!(report.host.traps >= 1, "{}: {report:?}", attack.name);
        host.unload(&name);
    }
}

#[test]
fn what_is_wrong_at_load_never_takes_a_seat() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundled = AT_LOAD
        .iter()
        .map(|(name, own, _)| ((*name).to_owned(), Cow::Owned(attacks::at_load(own))));
    let host = host(folder.path(), bundled.collect());
    for (name, _, said) in &AT_LOAD {
        let spec = json!({"source": {"bundled": name}, "bind": {"nodes": {}}});
        let error = host
            .load(&plugin(&object_name(name), spec))
            .expect_err(name)
            .to_string();
        println!("{name}: {error}");
        assert!(error.contains(said), "{name}: {error}");
    }
    assert!(host.remedy_seats().borrow().is_empty());
}

/// All of them again and again, one compiling for seconds beside them, while a policy is asked in a row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_at_once_hurt_nobody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bundled = all_bundled();
    bundled.insert("bomb".into(), Cow::Owned(attacks::compile_bomb(400, 200)));
    let host = host(folder.path(), bundled);
    let victim = json!({"source": {"bundled": "denies-host-network"}, "bind": {"admission": {"rules": [every_request()], "order": -1}}});
    host.load(&plugin("victim", victim)).expect("it loads");
    for attack in &ATTACKS {
        host.load(&plugin(&object_name(attack.name), attack.spec()))
            .expect(attack.name);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut attackers = Vec::new();
    for attack in &ATTACKS {
        let (host, stop) = (Arc::clone(&host), Arc::clone(&stop));
        let runtime = tokio::runtime::Handle::current();
        attackers.push(std::thread::spawn(move || {
            let name = object_name(attack.name);
            let mut calls = 0_u32;
            // As long as the victim is asked, and at least until the host has had enough of it.
            while calls < SET_ASIDE_AFTER || !stop.load(Ordering::SeqCst) && calls < 50 {
                assert!(
                    runtime.block_on(attack.call(&host, &name)).is_err(),
                    "{}",
                    attack.name
                );
                calls += 1;
            }
        }));
    }
    let bomb = {
        let host = Arc::clone(&host);
        let spec = json!({"source": {"bundled": "bomb"}, "bind": {"nodes": {}}});
        std::thread::spawn(move || {
            let started = Instant::now();
            host.load(&plugin("bomb", spec)).expect("it is only large");
            started.elapsed()
        })
    };
    let row = host.admission_seats().borrow().clone();
    let victim = Arc::clone(
        &row.iter()
            .find(|seat| seat.plugin == "victim")
            .expect("seated")
            .policy,
    );
    let mut micros = Vec::new();
    for at in 0..500 {
        let started = Instant::now();
        let sound = at % 2 == 0;
        let verdict = victim
            .validate(review(
                json!({"spec": if sound { json!({}) } else { json!({"hostNetwork": true}) }}),
                None,
            ))
            .await;
        assert_eq!(
            matches!(verdict.expect("the victim answers"), Verdict::Allow(_)),
            sound
        );
        assert!(started.elapsed() < STALL);
        micros.push(started.elapsed().as_micros());
    }
    stop.store(true, Ordering::SeqCst);
    for attacker in attackers {
        attacker.join().expect("no attack did anything but fail");
    }
    let compiled = bomb.join().expect("the large one compiles");
    micros.sort_unstable();
    println!(
        "beside {} attacks and a compilation of {:.1} s: median {} µs, p99 {} µs",
        ATTACKS.len(),
        compiled.as_secs_f64(),
        micros[250],
        micros[495]
    );
    for attack in &ATTACKS {
        let report = host.report(&object_name(attack.name)).expect("known");
        let degraded = report
            .conditions
            .iter()
            .find(|said| said.type_name == "Degraded")
            .expect("said");
        assert_eq!(
            (degraded.status, degraded.reason),
            ("True", "SetAside"),
            "{}",
            attack.name
        );
    }
    let victim = host.report("victim").expect("known");
    assert_eq!(victim.host.traps, 0, "{victim:?}");
}
