//! All of a group or none: who waits, who goes, and who gives a place back.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::scheduler::{Decision, testing::Bench};
use scheduler_gang::Gangs;
use serde_json::{Value, json};

fn member(uid: &str, gang: &str, size: &str) -> Value {
    json!({ "metadata": {
        "name": uid, "uid": uid, "labels": { "capstan.dev/gang": gang }, "annotations": { "capstan.dev/gang-size": size },
    } })
}

fn world() -> Bench<Gangs> {
    let mut bench = Bench::new(json!({ "timeoutSeconds": 5 }));
    bench.node(json!({ "metadata": { "name": "n" } }));
    bench
}

/// Asks for a permit and, as the host does, tells that the pod has a place from then on.
fn ask(bench: &mut Bench<Gangs>, pod: Value) -> (Decision, Vec<String>) {
    let permission = bench.permit("n", pod.clone());
    bench.assign("n", pod);
    let others = permission.others.into_iter();
    (
        permission.decision,
        others
            .filter(|one| one.rejected.is_none())
            .map(|one| one.uid)
            .collect(),
    )
}

#[test]
fn the_last_of_a_gang_lets_all_go() {
    let mut bench = world();
    assert_eq!(
        ask(&mut bench, member("a1", "a", "3")),
        (Decision::Wait(5_000), vec![])
    );
    assert_eq!(
        ask(&mut bench, member("b1", "b", "2")),
        (Decision::Wait(5_000), vec![])
    );
    assert_eq!(
        ask(&mut bench, member("a2", "a", "3")),
        (Decision::Wait(5_000), vec![])
    );
    assert_eq!(
        ask(&mut bench, member("a3", "a", "3")),
        (Decision::Allow, vec!["a1".to_owned(), "a2".to_owned()])
    );
    // One more than needed, or one that takes the place of another, goes at once.
    assert_eq!(ask(&mut bench, member("a4", "a", "3")), (Decision::Allow, vec![]));
    let alone = json!({ "metadata": { "name": "x", "uid": "x" } });
    assert_eq!(ask(&mut bench, alone), (Decision::Allow, vec![]));
}

#[test]
fn one_that_gives_its_place_back_takes_the_others_along() {
    let mut bench = world();
    for uid in ["a1", "a2"] {
        ask(&mut bench, member(uid, "a", "3"));
    }
    let stopped = bench.withdrawn("n", member("a1", "a", "3"));
    assert_eq!(stopped.len(), 1);
    assert_eq!(stopped[0].uid, "a2");
    assert!(stopped[0].rejected.is_some());
    assert!(
        bench.withdrawn("n", member("a2", "a", "3")).is_empty(),
        "nobody is left to take along"
    );
    bench.remove("a1");
    bench.remove("a2");
    assert_eq!(
        ask(&mut bench, member("a1", "a", "3")).0,
        Decision::Wait(5_000),
        "it starts over"
    );
}

#[test]
fn a_gang_without_a_size_is_told_so() {
    let mut bench = world();
    let mut pod = member("a1", "a", "two");
    assert!(matches!(
        bench.permit("n", pod.clone()).decision,
        Decision::Rejected(_)
    ));
    pod["metadata"]["annotations"] = json!({});
    assert!(matches!(bench.permit("n", pod).decision, Decision::Rejected(_)));
}
