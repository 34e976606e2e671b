//! Who is evicted for whom, by the rules of the original, with the resources policy answering what would be.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::scheduler::{Hypothesis, testing::Bench};
use scheduler_preemption::Preemption;
use scheduler_resources::Resources;
use serde_json::{Value, json};

/// The same cluster twice: as preemption sees it, and as resources do.
struct World {
    preemption: Bench<Preemption>,
    resources: Bench<Resources>,
    questions: usize,
}

impl World {
    /// Nodes of 4 CPUs.
    fn new(nodes: &[&str]) -> Self {
        let mut world = Self {
            preemption: Bench::new(json!({})),
            resources: Bench::new(json!({})),
            questions: 0,
        };
        for name in nodes {
            let node = json!({
                "metadata": { "name": name }, "status": { "allocatable": { "cpu": "4", "pods": "10" } },
            });
            world.preemption.node(node.clone());
            world.resources.node(node);
        }
        world
    }

    fn run(&mut self, node: &str, name: &str, priority: i32, cpu: &str) -> &mut Self {
        self.run_with(node, pod(name, priority, cpu))
    }

    fn run_with(&mut self, node: &str, pod: Value) -> &mut Self {
        self.preemption.assign(node, pod.clone());
        self.resources.assign(node, pod);
        self
    }

    /// The node, and the victims with the most important first; or why none.
    fn find_way(&mut self, pod: Value, nominated: Option<&str>) -> Result<(String, Vec<String>), String> {
        let Self {
            preemption,
            resources,
            questions,
        } = self;
        let asked = resources.pod(pod.clone());
        preemption.find_way(pod, nominated, |one: &Hypothesis| {
            *questions += 1;
            resources
                .runner
                .what_if(&asked, &[], std::slice::from_ref(one))
                .unwrap()
                .is_empty()
        })
    }

    fn evicts(&mut self, priority: i32, cpu: &str) -> (String, Vec<String>) {
        self.find_way(pod("new", priority, cpu), None).unwrap()
    }
}

fn pod(name: &str, priority: i32, cpu: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "name": name } },
        "spec": {
            "priority": priority,
            "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }],
        },
    })
}

fn victims(node: &str, names: &[&str]) -> (String, Vec<String>) {
    (
        node.to_owned(),
        names.iter().map(|name| (*name).to_owned()).collect(),
    )
}

#[test]
fn as_many_as_possible_stay_the_most_important_first() {
    let mut world = World::new(&["a"]);
    world
        .run("a", "high", 9, "1")
        .run("a", "mid", 5, "1")
        .run("a", "low", 1, "1")
        .run("a", "tiny", 0, "1");
    assert_eq!(world.evicts(10, "1"), victims("a", &["tiny"]));
    assert_eq!(world.evicts(10, "2"), victims("a", &["low", "tiny"]));
    assert_eq!(world.evicts(6, "3"), victims("a", &["mid", "low", "tiny"]));
    assert!(
        world.find_way(pod("new", 6, "4"), None).is_err(),
        "one of higher priority is never evicted"
    );
    assert!(
        world.find_way(pod("new", 0, "1"), None).is_err(),
        "nor one of equal priority"
    );
}

#[test]
fn a_big_victim_goes_where_small_ones_may_stay() {
    let mut world = World::new(&["a"]);
    world.run("a", "big", 1, "3").run("a", "small", 0, "1");
    // The more important is let stay first, so the small one cannot be all.
    assert_eq!(world.evicts(5, "2"), victims("a", &["big"]));
    assert_eq!(world.evicts(5, "1"), victims("a", &["small"]));
}

#[test]
fn the_node_is_taken_whose_victims_hurt_least() {
    // (pods by node as (name, priority, cpu, started), the node that is taken)
    type Pods = [(&'static str, i32, &'static str, u64)];
    let cases: [(&str, &Pods, &Pods, &str); 5] = [
        (
            "the lowest of the highest priorities",
            &[("a1", 5, "4", 1)],
            &[("b1", 4, "2", 1), ("b2", 4, "2", 1)],
            "b",
        ),
        (
            "the lowest sum",
            &[("a1", 5, "2", 1), ("a2", 5, "2", 1)],
            &[("b1", 5, "2", 1), ("b2", 1, "2", 1)],
            "b",
        ),
        (
            "the fewest",
            &[("a1", 5, "4", 1)],
            &[("b1", 5, "2", 1), ("b2", -2_147_483_648, "2", 1)],
            "a",
        ),
        (
            "the latest start of the foremost",
            &[("a1", 5, "4", 10)],
            &[("b1", 5, "4", 20)],
            "b",
        ),
        (
            "one that has not started is the latest",
            &[("a1", 5, "4", 0)],
            &[("b1", 5, "4", 20)],
            "b",
        ),
    ];
    for (rule, on_a, on_b, taken) in cases {
        let mut world = World::new(&["a", "b"]);
        for (node, pods) in [("a", on_a), ("b", on_b)] {
            for &(name, priority, cpu, started) in pods {
                world.run(node, name, priority, cpu);
                if started > 0 {
                    world.preemption.start(name, started);
                }
            }
        }
        assert_eq!(world.evicts(10, "4").0, taken, "{rule}");
    }
}

#[test]
fn budgets_are_broken_only_where_nothing_else_helps() {
    let mut world = World::new(&["a", "b"]);
    world.run("a", "guarded", 1, "4").run("b", "free", 5, "4");
    world
        .preemption
        .budget("none", json!({ "matchLabels": { "name": "guarded" } }), 0);
    assert_eq!(
        world.evicts(10, "4"),
        victims("b", &["free"]),
        "although its priority is higher"
    );
    assert_eq!(
        world.evicts(3, "4"),
        victims("a", &["guarded"]),
        "the only one that can go"
    );

    let mut world = World::new(&["a"]);
    world.run("a", "guarded", 1, "2").run("a", "free", 5, "2");
    world
        .preemption
        .budget("none", json!({ "matchLabels": { "name": "guarded" } }), 0);
    assert_eq!(
        world.evicts(10, "2"),
        victims("a", &["free"]),
        "the guarded one is let stay first"
    );
    world
        .preemption
        .budget("none", json!({ "matchLabels": { "name": "guarded" } }), 1);
    assert_eq!(
        world.evicts(10, "2"),
        victims("a", &["guarded"]),
        "its budget allows it"
    );
    world.preemption.budget("none", json!({}), 0);
    assert_eq!(
        world.evicts(10, "2"),
        victims("a", &["guarded"]),
        "an empty selector protects nobody"
    );
}

#[test]
fn who_must_not_preempt_or_already_did_gives_up() {
    let mut world = World::new(&["a"]);
    world.run("a", "low", 1, "2");
    let mut polite = pod("polite", 9, "4");
    polite["spec"]["preemptionPolicy"] = json!("Never");
    let why = world.find_way(polite, None).unwrap_err();
    assert_eq!(why, "preemption: not eligible due to preemptionPolicy=Never.");
    let mut leaving = pod("leaving", 1, "2");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    leaving["status"]["conditions"] = json!([{ "type": "DisruptionTarget" }]);
    world.run_with("a", leaving);
    let why = world.find_way(pod("new", 9, "4"), Some("a")).unwrap_err();
    assert_eq!(
        why,
        "preemption: not eligible due to a terminating pod on the nominated node."
    );
    assert!(
        world.find_way(pod("new", 9, "4"), None).is_ok(),
        "without a nomination it may"
    );
    let why = world.find_way(pod("new", 9, "5"), None).unwrap_err();
    assert!(
        why.starts_with("preemption: 0/1 nodes are available: 1 "),
        "{why}"
    );
}

#[test]
fn many_nodes_are_not_all_looked_at() {
    let names: Vec<String> = (0..300).map(|number| format!("n{number:03}")).collect();
    let mut world = World::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for name in &names {
        world.run(name, &format!("on-{name}"), 1, "4");
    }
    assert_eq!(world.evicts(10, "4").1.len(), 1);
    // A hundred nodes, two questions each: without all, and with the one back.
    assert_eq!(world.questions, 200);
}
