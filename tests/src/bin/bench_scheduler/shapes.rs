//! The loads: shapes of the original's scheduler_perf, as pods and the nodes they meet.
//!
//! Numbers of pods before and during the measurement are the original's for 5,000 nodes, but where a shape fills the
//! nodes; a quick run makes them smaller, never the cluster.

use serde_json::{Value, json};

/// Goals in pods a second: of the cycle alone, and through the API server.
pub(crate) const BASIC: Goals = Goals(10_000.0, 3_400.0);
const CROWDED: Goals = Goals(2_000.0, 700.0);
const NONE: Goals = Goals(0.0, 0.0);

#[derive(Clone, Copy)]
pub(crate) struct Goals(pub(crate) f64, pub(crate) f64);

/// A load.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) goals: Goals,
    /// Pods that stand on nodes before, of which each node has at most so many.
    pub(crate) before: Before,
    /// The pods that are measured.
    pub(crate) pods: usize,
    pub(crate) pod: fn(usize) -> Value,
    /// Pods that wait all the while and cannot be placed.
    pub(crate) stuck: Option<fn(usize) -> Value>,
}

#[derive(Clone, Copy)]
pub(crate) struct Before {
    pub(crate) count: usize,
    kind: fn(usize) -> Value,
}

impl Before {
    /// The pod of that number: of its kind, under a name that no measured one has.
    pub(crate) fn pod(&self, n: usize) -> Value {
        let mut pod = (self.kind)(n);
        let name = json!(format!("before-{n:06}"));
        pod["metadata"]["uid"] = name.clone();
        pod["metadata"]["name"] = name;
        pod
    }
}

/// Zones of the cluster.
const ZONES: usize = 3;

/// A node of the original's size.
pub(crate) fn node(n: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": format!("sim-{n:05}"), "labels": {
            "kubernetes.io/hostname": format!("sim-{n:05}"),
            "topology.kubernetes.io/zone": format!("zone-{}", n % ZONES),
            "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "group": "simulated",
        } },
        "status": {
            "allocatable": { "cpu": "4", "memory": "32Gi", "pods": "110" },
            "capacity": { "cpu": "4", "memory": "32Gi", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated" }],
        },
    })
}

fn pod(name: String, cpu: &str, labels: Value, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "uid": name, "labels": labels },
        "spec": {
            "containers": [{
                "name": "pause", "image": "registry.k8s.io/pause:3.10",
                "ports": [{ "containerPort": 80 }],
                "resources": { "requests": { "cpu": cpu, "memory": "500Mi" } },
            }],
        },
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn basic(n: usize) -> Value {
    pod(format!("basic-{n:06}"), "100m", json!({}), json!({}))
}

fn node_affinity(n: usize) -> Value {
    let term = json!({ "matchExpressions": [
        { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-1", "zone-2"] },
    ] });
    let affinity = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] },
    } });
    pod(
        format!("affine-{n:06}"),
        "100m",
        json!({}),
        json!({ "affinity": affinity }),
    )
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

fn term(color: &str, key: &str) -> Value {
    json!({ "labelSelector": { "matchLabels": { "color": color } }, "topologyKey": key })
}

fn affine(name: String, kind: &str, strength: &str, color: &str, key: &str) -> Value {
    let term = match strength {
        REQUIRED => term(color, key),
        _ => json!({ "weight": 1, "podAffinityTerm": term(color, key) }),
    };
    let affinity = json!({ kind: { strength: [term] } });
    pod(
        name,
        "100m",
        json!({ "color": color }),
        json!({ "affinity": affinity }),
    )
}

fn pod_affinity(n: usize) -> Value {
    affine(format!("near-{n:06}"), "podAffinity", REQUIRED, "blue", ZONE)
}

fn anti_affinity(n: usize) -> Value {
    affine(
        format!("apart-{n:06}"),
        "podAntiAffinity",
        REQUIRED,
        "green",
        HOST,
    )
}

fn anti_affinity_namespaces(n: usize) -> Value {
    let mut pod = anti_affinity(n);
    pod["spec"]["affinity"]["podAntiAffinity"][REQUIRED][0]["namespaceSelector"] =
        json!({ "matchLabels": { "team": "devops" } });
    pod
}

fn preferred_affinity(n: usize) -> Value {
    affine(format!("drawn-{n:06}"), "podAffinity", PREFERRED, "red", HOST)
}

fn preferred_anti_affinity(n: usize) -> Value {
    affine(
        format!("shy-{n:06}"),
        "podAntiAffinity",
        PREFERRED,
        "yellow",
        HOST,
    )
}

fn spread(n: usize, when: &str) -> Value {
    let constraint = json!({
        "maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": when,
        "labelSelector": { "matchLabels": { "color": "blue" } },
    });
    let spec = json!({ "topologySpreadConstraints": [constraint] });
    pod(format!("spread-{n:06}"), "100m", json!({ "color": "blue" }), spec)
}

fn spread_required(n: usize) -> Value {
    spread(n, "DoNotSchedule")
}

fn spread_preferred(n: usize) -> Value {
    spread(n, "ScheduleAnyway")
}

fn low(n: usize) -> Value {
    pod(format!("low-{n:06}"), "900m", json!({}), json!({}))
}

fn high(n: usize) -> Value {
    pod(format!("high-{n:06}"), "3", json!({}), json!({ "priority": 10 }))
}

fn too_big(n: usize) -> Value {
    pod(format!("big-{n:06}"), "9", json!({}), json!({}))
}

fn gated(n: usize) -> Value {
    let gates = json!({ "schedulingGates": [{ "name": "bench.capstan.dev/never" }] });
    pod(format!("gated-{n:06}"), "100m", json!({}), gates)
}

fn shape(
    name: &'static str,
    goals: Goals,
    before: usize,
    first: fn(usize) -> Value,
    pods: usize,
    pod: fn(usize) -> Value,
) -> Shape {
    Shape {
        name,
        goals,
        before: Before {
            count: before,
            kind: first,
        },
        pods,
        pod,
        stuck: None,
    }
}

/// Basic alone.
pub(crate) fn basic_shape() -> Shape {
    shape("basic", BASIC, 1_000, basic, 10_000, basic)
}

/// All of them. The pods of `preemption` displace three of four pods of their node each.
pub(crate) fn all(nodes: usize) -> Vec<Shape> {
    let apart = nodes.saturating_sub(1_000).clamp(1, 2_000);
    let stuck = |shape: Shape, stuck| Shape {
        stuck: Some(stuck),
        ..shape
    };
    vec![
        basic_shape(),
        shape("node affinity", CROWDED, 1_000, basic, 10_000, node_affinity),
        shape("pod affinity", CROWDED, 5_000, pod_affinity, 5_000, pod_affinity),
        shape(
            "pod anti-affinity",
            CROWDED,
            1_000.min(nodes / 2),
            anti_affinity,
            apart,
            anti_affinity,
        ),
        shape(
            "anti-affinity, namespaces by label",
            CROWDED,
            1_000.min(nodes / 2),
            anti_affinity_namespaces,
            apart,
            anti_affinity_namespaces,
        ),
        shape(
            "preferred affinity",
            CROWDED,
            5_000,
            preferred_affinity,
            5_000,
            preferred_affinity,
        ),
        shape(
            "preferred anti-affinity",
            CROWDED,
            5_000,
            preferred_anti_affinity,
            5_000,
            preferred_anti_affinity,
        ),
        shape("spread, required", CROWDED, 5_000, basic, 5_000, spread_required),
        shape(
            "spread, preferred",
            CROWDED,
            5_000,
            basic,
            5_000,
            spread_preferred,
        ),
        shape("preemption", NONE, 4 * nodes, low, 1_000.min(nodes), high),
        stuck(
            shape("unschedulable churn", NONE, 1_000, basic, 5_000, basic),
            too_big,
        ),
        stuck(shape("gated", NONE, 1_000, basic, 5_000, basic), gated),
    ]
}
