//! Host ports and named nodes.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::scheduler::testing::Bench;
use scheduler_node_ports::NodePorts;
use serde_json::{Value, json};

fn pod(name: &str, protocol: &str, ip: &str, port: u16) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"ports": [{"protocol": protocol, "hostIP": ip, "hostPort": port}]}]}})
}

#[test]
fn a_port_is_taken_by_protocol_and_address() {
    let mut bench = Bench::<NodePorts>::new(json!({}));
    bench.node(json!({"metadata": {"name": "a"}}));
    bench.node(json!({"metadata": {"name": "b"}}));
    bench.assign("a", pod("web", "TCP", "10.0.0.1", 80));
    let reason = "node(s) didn't have free ports for the requested pod ports";
    for (protocol, ip, port, taken) in [
        ("TCP", "10.0.0.1", 80, true),
        ("TCP", "", 80, true),
        ("TCP", "0.0.0.0", 80, true),
        ("TCP", "10.0.0.2", 80, false),
        ("UDP", "10.0.0.1", 80, false),
        ("TCP", "10.0.0.1", 81, false),
    ] {
        let rejected = bench.rejected(pod("p", protocol, ip, port));
        assert_eq!(
            rejected.get("a").is_some_and(|reasons| reasons == &[reason]),
            taken,
            "{protocol} {ip} {port}"
        );
        assert!(!rejected.contains_key("b"));
    }
    bench.remove("web");
    assert_eq!(bench.feasible(pod("p", "TCP", "", 80)), ["a", "b"]);
}

#[test]
fn a_named_node_is_the_only_one() {
    let mut bench = Bench::<NodePorts>::new(json!({}));
    bench.node(json!({"metadata": {"name": "a"}}));
    bench.node(json!({"metadata": {"name": "b"}}));
    let rejected = bench.rejected(json!({"spec": {"nodeName": "b"}}));
    assert_eq!(rejected["a"], ["node(s) didn't match the requested node name"]);
    assert_eq!(rejected.len(), 1);
}
