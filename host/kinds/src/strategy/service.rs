//! A service that changes its type loses what only the old type has, unless its author changed that too.

use serde_json::{Map, Value, json};

/// Takes from `new` what its type no longer has and what stands there only because it stood in `old`.
pub(super) fn drop_what_the_type_lost(new: &mut Map<String, Value>, old: &Value) {
    let before = &old["spec"];
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let after = Value::Object(spec.clone());
    let lost = |has: fn(&Value) -> bool| has(before) && !has(&after);
    if lost(has_address) {
        let same = |field: &str| after[field].is_null() || after[field] == before[field];
        if same("clusterIP") && same("clusterIPs") {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        drop_same(spec, before, "ipFamilies");
        drop_same(spec, before, "ipFamilyPolicy");
    }
    if lost(has_node_ports) && node_ports(&after).all(|port| node_ports(before).any(|old| old == port)) {
        let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
    if lost(has_health_port) {
        drop_same(spec, before, "healthCheckNodePort");
    }
    if lost(is_balanced) {
        drop_same(spec, before, "allocateLoadBalancerNodePorts");
        drop_same(spec, before, "loadBalancerClass");
    }
    if lost(is_external) {
        drop_same(spec, before, "externalTrafficPolicy");
    }
    if lost(is_balanced)
        && let Some(status) = new.get_mut("status")
    {
        status["loadBalancer"] = json!({});
    }
}

fn drop_same(spec: &mut Map<String, Value>, before: &Value, field: &str) {
    if spec.get(field) == before.get(field) {
        spec.remove(field);
    }
}

fn has_address(spec: &Value) -> bool {
    spec["type"] != "ExternalName"
}

fn is_balanced(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer"
}

fn has_node_ports(spec: &Value) -> bool {
    spec["type"] == "NodePort" || is_balanced(spec) && spec["allocateLoadBalancerNodePorts"] != false
}

fn has_health_port(spec: &Value) -> bool {
    is_balanced(spec) && spec["externalTrafficPolicy"] == "Local"
}

/// Whether traffic comes in from outside of the cluster.
fn is_external(spec: &Value) -> bool {
    let addressed = spec["externalIPs"].as_array().is_some_and(|ips| !ips.is_empty());
    spec["type"] == "NodePort" || is_balanced(spec) || spec["type"] == "ClusterIP" && addressed
}

fn node_ports(spec: &Value) -> impl Iterator<Item = u64> {
    let ports = spec["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| port["nodePort"].as_u64().filter(|port| *port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(old: &Value, change: Value) -> Value {
        let mut new = old.clone();
        json_patch::merge(&mut new, &change);
        drop_what_the_type_lost(new.as_object_mut().unwrap(), old);
        new
    }

    #[test]
    fn a_balanced_service_loses_what_a_name_has_not() {
        let old = json!({"spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "allocateLoadBalancerNodePorts": true, "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30001, "loadBalancerClass": "x/y", "ports": [{"port": 80, "nodePort": 30000}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}});
        let named = changed(
            &old,
            json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}),
        );
        assert_eq!(
            named,
            json!({"spec": {"type": "ExternalName", "externalName": "a.b", "ports": [{"port": 80}]},
                "status": {"loadBalancer": {}}})
        );
        let inner = changed(&old, json!({"spec": {"type": "ClusterIP"}}));
        assert_eq!(
            inner["spec"],
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80}]})
        );
    }

    #[test]
    fn what_the_author_changed_stays_to_be_refused() {
        let old = json!({"spec": {"type": "NodePort", "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30000}]}});
        let change = json!({"spec": {"type": "ClusterIP", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30002}]}});
        let new = changed(&old, change.clone());
        assert_eq!(new["spec"], change["spec"]);
    }
}
