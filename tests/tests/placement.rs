//! Differential test of the default filters: random clusters and pods, each policy's own code against a plain
//! reference; and hypotheses against clusters that were really changed.
//!
//! The same crates are what the components are made of. `CAPSTAN_PLACEMENT_CASES` asks for more cases (each is one
//! pod against all nodes by all policies), `CAPSTAN_PLACEMENT_SEED` repeats a run.

use capstan_sdk::scheduler::Filter;
use capstan_sdk::scheduler::testing::Bench;
use fastrand::Rng;
use reference::{World, name};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[path = "../fixtures/placement/reference.rs"]
mod reference;

/// Cases unless more are asked for.
const CASES: u64 = 3_000;
/// Pods tried in each cluster.
const PODS_TRIED: u64 = 6;

fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

fn one_of<T: Clone>(rng: &mut Rng, among: &[T]) -> T {
    among[rng.usize(..among.len())].clone()
}

fn some(rng: &mut Rng, most: usize, mut make: impl FnMut(&mut Rng) -> Value) -> Vec<Value> {
    (0..rng.usize(..=most)).map(|_| make(rng)).collect()
}

const KEYS: [&str; 3] = ["zone", "host", "disk"];
const APPS: [&str; 3] = ["a", "b", "c"];
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

fn node(rng: &mut Rng, number: usize) -> Value {
    let mut labels = json!({});
    if rng.u8(..8) > 0 {
        labels["host"] = json!(format!("n{number}"));
    }
    if rng.u8(..5) > 0 {
        labels["zone"] = json!(one_of(rng, &["x", "y", "z"]));
    }
    if rng.bool() {
        labels["disk"] = json!(one_of(rng, &["1", "5", "ssd"]));
    }
    let taints = some(rng, 1, |rng| {
        let key = one_of(rng, &["t", "u"]);
        json!({ "key": key, "value": one_of(rng, &["", "v"]), "effect": one_of(rng, &EFFECTS) })
    });
    json!({
        "metadata": { "name": format!("n{number}"), "labels": labels },
        "spec": { "taints": taints, "unschedulable": rng.u8(..8) == 0 },
        "status": { "allocatable": {
            "cpu": format!("{}m", rng.i64(1..=4) * 1_000), "pods": rng.usize(1..=6).to_string(),
        } },
    })
}

fn expression(rng: &mut Rng, keys: &[&str], values: &[&str]) -> Value {
    let operator = one_of(rng, &["In", "NotIn", "Exists", "DoesNotExist"]);
    let mut one = json!({ "key": one_of(rng, keys), "operator": operator });
    if matches!(operator, "In" | "NotIn") {
        one["values"] = json!([one_of(rng, values), one_of(rng, values)]);
    }
    one
}

fn selector(rng: &mut Rng) -> Value {
    match rng.u8(..8) {
        0 => Value::Null,
        1 => json!({}),
        2..=4 => json!({ "matchLabels": { "app": one_of(rng, &APPS) } }),
        _ => json!({ "matchExpressions": [expression(rng, &["app", "tier"], &APPS)] }),
    }
}

fn term(rng: &mut Rng) -> Value {
    let mut term = json!({ "topologyKey": one_of(rng, &KEYS), "labelSelector": selector(rng) });
    match rng.u8(..6) {
        0 => term["namespaces"] = json!([one_of(rng, &["default", "other"])]),
        1 => term["namespaceSelector"] = json!({ "matchLabels": { "team": one_of(rng, &["red", "blue"]) } }),
        2 => term["namespaceSelector"] = json!({}),
        _ => {}
    }
    term
}

fn constraint(rng: &mut Rng) -> Value {
    json!({
        "maxSkew": rng.i64(1..=2), "topologyKey": one_of(rng, &KEYS), "labelSelector": selector(rng),
        "whenUnsatisfiable": one_of(rng, &["DoNotSchedule", "DoNotSchedule", "ScheduleAnyway"]),
        "minDomains": rng.i64(1..=4),
        "nodeAffinityPolicy": one_of(rng, &["Honor", "Ignore"]),
        "nodeTaintsPolicy": one_of(rng, &["Honor", "Ignore"]),
    })
}

fn pod(rng: &mut Rng, name: &str) -> Value {
    let mut labels = json!({ "app": one_of(rng, &APPS) });
    if rng.bool() {
        labels["tier"] = json!(one_of(rng, &APPS));
    }
    let ports = some(rng, 1, |rng| {
        let port = one_of(rng, &[80, 443]);
        let ip = one_of(rng, &["", "0.0.0.0", "10.0.0.1", "10.0.0.2"]);
        let protocol = one_of(rng, &["TCP", "UDP"]);
        match ip {
            "" => json!({ "containerPort": port, "hostPort": port, "protocol": protocol }),
            ip => json!({ "containerPort": port, "hostPort": port, "protocol": protocol, "hostIP": ip }),
        }
    });
    let requests = match rng.u8(..4) {
        0 => json!({}),
        _ => json!({ "cpu": format!("{}m", rng.i64(0..=4) * 500) }),
    };
    let tolerations = some(rng, 2, |rng| {
        let mut one = json!({ "key": one_of(rng, &["", "t", "u", "node.kubernetes.io/unschedulable"]) });
        if one["key"] == "" || rng.bool() {
            one["operator"] = json!("Exists");
        } else {
            one["value"] = json!(one_of(rng, &["", "v"]));
        }
        if rng.bool() {
            one["effect"] = json!(one_of(rng, &EFFECTS));
        }
        one
    });
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let mut affinity = json!({
        "podAffinity": { required: if rng.bool() { some(rng, 2, term) } else { Vec::new() } },
        "podAntiAffinity": { required: if rng.bool() { some(rng, 2, term) } else { Vec::new() } },
    });
    if rng.u8(..3) == 0 {
        let terms = some(rng, 2, |rng| {
            let expressions = some(rng, 2, |rng| match rng.u8(..4) {
                0 => json!({ "key": "disk", "operator": one_of(rng, &["Gt", "Lt"]), "values": ["3"] }),
                _ => expression(rng, &KEYS, &["x", "y", "ssd", "n1"]),
            });
            json!({ "matchExpressions": expressions })
        });
        affinity["nodeAffinity"] = json!({ required: { "nodeSelectorTerms": terms } });
    }
    let mut metadata = json!({
        "name": name, "namespace": one_of(rng, &["default", "default", "other"]), "labels": labels,
    });
    if rng.u8(..10) == 0 {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let node_selector = if rng.u8(..4) == 0 {
        json!({ "zone": "x" })
    } else {
        json!({})
    };
    let container = json!({ "resources": { "requests": requests }, "ports": ports });
    json!({ "metadata": metadata, "spec": {
        "containers": [container], "tolerations": tolerations, "affinity": affinity,
        "nodeSelector": node_selector, "topologySpreadConstraints": some(rng, 2, constraint),
    } })
}

fn world(rng: &mut Rng) -> World {
    let nodes: Vec<Value> = (0..rng.usize(1..=7)).map(|number| node(rng, number)).collect();
    let pods = (0..rng.usize(..=10)).map(|number| {
        let there = one_of(rng, &nodes);
        (name(&there).to_owned(), pod(rng, &format!("p{number}")))
    });
    World {
        pods: pods.collect(),
        namespaces: vec![
            ("default".to_owned(), json!({ "team": "red" })),
            ("other".to_owned(), json!({ "team": "blue" })),
        ],
        nodes,
    }
}

type Reference = fn(&World, &Value, &Value) -> bool;

/// Verdicts of one policy: nodes that took the pod, and nodes that did not.
#[derive(Debug, Default)]
struct Tally(usize, usize);

/// Compares the policy with the reference, in the cluster and in what it would be.
fn compare<P: Filter>(
    policy: &str,
    world: &World,
    pods: &[Value],
    rng: &mut Rng,
    reference: Reference,
    seed: u64,
) -> Tally {
    let mut tally = Tally::default();
    let mut bench = Bench::<P>::new(json!({}));
    for (name, labels) in &world.namespaces {
        bench.namespace(name, labels.clone());
    }
    for node in &world.nodes {
        bench.node(node.clone());
    }
    for (node, pod) in &world.pods {
        bench.assign(node, pod.clone());
    }
    for pod in pods {
        let agrees = |bench: &mut Bench<P>, when: &str| {
            let feasible = bench.feasible(pod.clone());
            let expected = world.nodes.iter().filter(|node| reference(world, pod, node));
            let mut expected: Vec<&str> = expected.map(name).collect();
            expected.sort_unstable();
            assert_eq!(
                feasible, expected,
                "{policy}, seed {seed}, {when}\n{pod:#}\n{world:#?}"
            );
        };
        agrees(&mut bench, "as it is");
        let taken = world
            .nodes
            .iter()
            .filter(|node| reference(world, pod, node))
            .count();
        tally = Tally(tally.0 + taken, tally.1 + world.nodes.len() - taken);
        let node = one_of(rng, &world.nodes);
        let (mut other, mut gone) = (world.clone(), Vec::new());
        other.pods.retain(|(there, pod)| {
            let goes = there == name(&node) && rng.bool();
            if goes {
                gone.push(name(pod).to_owned());
            }
            !goes
        });
        let added: Vec<Value> = if rng.bool() {
            vec![self::pod(rng, "thought")]
        } else {
            Vec::new()
        };
        other
            .pods
            .extend(added.iter().map(|pod| (name(&node).to_owned(), pod.clone())));
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        let fits = bench.fits(name(&node), pod.clone(), &gone, added.clone());
        let expected = reference(&other, pod, &node);
        assert_eq!(
            fits,
            expected,
            "{policy}, seed {seed}, what if {gone:?} were gone from {} and {added:#?} there\n{pod:#}\n{world:#?}",
            name(&node)
        );
        agrees(&mut bench, "after a hypothesis");
    }
    tally
}

#[test]
fn filters_and_hypotheses_agree_with_a_plain_reference() {
    let seed = asked("CAPSTAN_PLACEMENT_SEED").unwrap_or_else(|| fastrand::u64(..));
    let cases = asked("CAPSTAN_PLACEMENT_CASES").unwrap_or(CASES);
    println!("{cases} cases, CAPSTAN_PLACEMENT_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for _ in 0..cases.div_ceil(PODS_TRIED) {
        let world = world(&mut rng);
        let pods: Vec<Value> = (0..PODS_TRIED).map(|_| pod(&mut rng, "new")).collect();
        macro_rules! all {
            ($($policy:ty => $reference:ident),+ $(,)?) => {
                $({
                    let verdicts = compare::<$policy>(
                        stringify!($reference), &world, &pods, &mut rng, reference::$reference, seed,
                    );
                    let tally = tallies.entry(stringify!($reference)).or_default();
                    *tally = Tally(tally.0 + verdicts.0, tally.1 + verdicts.1);
                })+
            };
        }
        all! {
            scheduler_taints::Taints => taints,
            scheduler_node_affinity::NodeAffinity => node_affinity,
            scheduler_resources::Resources => resources,
            scheduler_node_ports::NodePorts => node_ports,
            scheduler_pod_affinity::PodAffinity => pod_affinity,
            scheduler_topology_spread::TopologySpread => topology_spread,
        }
    }
    println!("verdicts (taken, refused): {tallies:?}");
    for (policy, Tally(taken, refused)) in tallies {
        let least = (taken + refused) / 100;
        assert!(
            taken > least && refused > least,
            "{policy}: {taken} taken, {refused} refused tell nothing"
        );
    }
}
