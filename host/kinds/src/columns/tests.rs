//! Rows as kubectl shows them.

use serde_json::{Value, json};

use super::{cells, of};
use crate::resource::{all, find_kind};

/// 2026-01-01T01:00:00Z
const NOW: i64 = 1_767_229_200;

#[track_caller]
fn check(api_version: &str, kind: &str, object: Value, expected: &[&str]) {
    let resource = find_kind(api_version, kind).expect("a known kind");
    let shown: Vec<String> = cells(&resource, &object, NOW)
        .iter()
        .map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_string))
        .collect();
    assert_eq!(
        shown,
        expected,
        "{:?}",
        of(&resource)
            .iter()
            .map(|column| &column.name)
            .collect::<Vec<_>>()
    );
}

#[track_caller]
fn check_pod(status: Value, more: Value, ready: &str, word: &str, restarts: &str) {
    let mut pod = json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": status});
    json_patch::merge(&mut pod, &more);
    let row = cells(&find_kind("v1", "Pod").unwrap(), &pod, NOW);
    assert_eq!(row[1..4], [json!(ready), json!(word), json!(restarts)]);
    assert_eq!(row[4], json!("60m"));
}

#[test]
fn pods_running_and_failing() {
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    let crashing = json!({"ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:55:00Z"}}});
    let done = json!({"restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    let killed = json!({"restartCount": 0, "state": {"terminated": {"exitCode": 137, "signal": 9}}});
    let with = |phase: &str, statuses: Value| json!({"phase": phase, "containerStatuses": statuses});
    check_pod(json!({"phase": "Pending"}), json!({}), "0/2", "Pending", "0");
    check_pod(
        with("Running", json!([running, running])),
        json!({}),
        "2/2",
        "Running",
        "0",
    );
    check_pod(
        with("Running", json!([running, crashing])),
        json!({}),
        "1/2",
        "CrashLoopBackOff",
        "3 (5m ago)",
    );
    check_pod(
        with("Running", json!([done, running])),
        json!({}),
        "1/2",
        "NotReady",
        "0",
    );
    check_pod(
        with("Succeeded", json!([done, done])),
        json!({}),
        "0/2",
        "Completed",
        "0",
    );
    check_pod(
        with("Failed", json!([killed, done])),
        json!({}),
        "0/2",
        "Signal:9",
        "0",
    );
    check_pod(
        json!({"phase": "Failed", "reason": "Evicted"}),
        json!({}),
        "0/2",
        "Evicted",
        "0",
    );
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}});
    check_pod(
        with("Running", json!([running, running])),
        deleted.clone(),
        "2/2",
        "Terminating",
        "0",
    );
    check_pod(with("Succeeded", json!([done])), deleted, "0/2", "Completed", "0");
    let gated = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
    check_pod(
        json!({"phase": "Pending", "conditions": gated}),
        json!({}),
        "0/2",
        "SchedulingGated",
        "0",
    );
}

#[test]
fn pods_initializing() {
    let spec = json!({"spec": {"initContainers": [{"name": "i"}, {"name": "j"}]}});
    let done = json!({"name": "i", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}});
    let status = |statuses: Value| json!({"phase": "Pending", "initContainerStatuses": statuses});
    let waiting =
        json!({"name": "j", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}});
    check_pod(
        status(json!([done, waiting])),
        spec.clone(),
        "0/2",
        "Init:1/2",
        "0",
    );
    let failed = json!({"name": "j", "restartCount": 2, "state": {"terminated": {"exitCode": 3}}});
    check_pod(
        status(json!([done, failed])),
        spec.clone(),
        "0/2",
        "Init:ExitCode:3",
        "2",
    );
    let backing =
        json!({"name": "i", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    check_pod(
        status(json!([backing, waiting])),
        spec,
        "0/2",
        "Init:CrashLoopBackOff",
        "1",
    );
    let sidecar = json!({"spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}]}});
    let up =
        json!({"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}});
    check_pod(
        json!({"phase": "Running", "initContainerStatuses": [up]}),
        sidecar,
        "1/3",
        "Running",
        "1",
    );
}

#[test]
fn other_kinds() {
    let metadata = json!({"name": "x", "creationTimestamp": "2026-01-01T00:59:00Z"});
    check(
        "apps/v1",
        "Deployment",
        json!({"metadata": metadata, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
            "template": {"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]}}},
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}}),
        &["x", "2/3", "3", "2", "60s", "c,d", "i,j", "a=b"],
    );
    check(
        "v1",
        "Service",
        json!({"metadata": metadata, "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
        &[
            "x",
            "NodePort",
            "10.0.0.1",
            "<none>",
            "80:30000/TCP,53/UDP",
            "60s",
            "<none>",
        ],
    );
    check(
        "v1",
        "Node",
        json!({"metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:59:00Z", "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.0"}, "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}]}}),
        &[
            "x",
            "Ready,SchedulingDisabled",
            "control-plane",
            "60s",
            "v1.36.0",
            "1.2.3.4",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>",
        ],
    );
    check(
        "v1",
        "Event",
        json!({"metadata": metadata, "type": "Normal", "reason": "Pulled", "involvedObject": {"kind": "Pod", "name": "p"}, "message": "m", "count": 3,
            "firstTimestamp": "2026-01-01T00:50:00Z", "lastTimestamp": "2026-01-01T00:59:30Z", "source": {"component": "kubelet", "host": "n"}}),
        &[
            "30s (x3 over 10m)",
            "Normal",
            "Pulled",
            "pod/p",
            "",
            "kubelet, n",
            "m",
            "10m",
            "3",
            "x",
        ],
    );
    check(
        "batch/v1",
        "Job",
        json!({"metadata": metadata, "spec": {"completions": 1, "template": {"spec": {}}}, "status": {"succeeded": 1, "startTime": "2026-01-01T00:59:00Z", "completionTime": "2026-01-01T00:59:05Z", "conditions": [{"type": "Complete", "status": "True"}]}}),
        &["x", "Complete", "1/1", "5s", "60s", "", "", "<none>"],
    );
    check(
        "plugins.capstan.dev/v1",
        "Plugin",
        json!({"metadata": metadata, "status": {"worlds": ["scheduler"], "revision": "spread 1.2.0", "calls": 7, "p99Micros": 1500, "traps": 1,
            "conditions": [{"type": "Ready", "status": "True"}]}}),
        &["x", "scheduler", "spread 1.2.0", "True", "OK", "7", "1.5ms", "1", "60s", "<none>", "<none>"],
    );
    for (spec, status, health) in [
        (json!({"limits": {"deadline": "2ms"}}), json!({"p99Micros": 1500}), "Slow"),
        (json!({}), json!({"digest": "a", "hosts": [{"digest": "b"}]}), "Behind"),
        (json!({}), json!({"candidate": {"calls": 3}}), "OnTrial (3 calls)"),
        (json!({}), json!({"conditions": [{"type": "Ready", "status": "False", "reason": "WrongWorld"}]}), "WrongWorld"),
        (json!({}), json!({"conditions": [{"type": "Degraded", "status": "True", "reason": "SetAside"}]}), "SetAside"),
    ] {
        let mut object = json!({"metadata": metadata, "spec": spec, "status": status});
        if object["status"]["conditions"].is_null() {
            object["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        }
        let plugin = find_kind("plugins.capstan.dev/v1", "Plugin").unwrap();
        assert_eq!(cells(&plugin, &object, NOW)[4], health, "{object}");
    }
    check(
        "plugins.capstan.dev/v1",
        "PolicyException",
        json!({"metadata": metadata, "spec": {"plugins": ["a", "b"], "expires": "2026-01-01T00:59:00Z", "reason": "legacy"}}),
        &["x", "a,b", "2026-01-01T00:59:00Z", "False", "60s", "legacy"],
    );
    check(
        "rbac.authorization.k8s.io/v1",
        "Role",
        json!({"metadata": metadata}),
        &["x", "2026-01-01T00:59:00Z"],
    );
    check(
        "resource.k8s.io/v1",
        "DeviceClass",
        json!({"metadata": metadata}),
        &["x", "60s"],
    );
}

#[test]
fn every_kind_shows_something_of_anything() {
    for resource in all() {
        for object in [
            json!({}),
            json!({"metadata": null, "spec": [], "status": 1}),
            json!(null),
        ] {
            assert_eq!(
                cells(resource, &object, NOW).len(),
                of(resource).len(),
                "{}",
                resource.kind
            );
        }
    }
}

#[test]
fn flow_and_devices() {
    let made = json!({"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"});
    check(
        "flowcontrol.apiserver.k8s.io/v1",
        "FlowSchema",
        json!({"metadata": made, "spec": {"matchingPrecedence": 100, "priorityLevelConfiguration": {"name": "p"},
            "distinguisherMethod": {"type": "ByUser"}}, "status": {"conditions": [{"type": "Dangling", "status": "False"}]}}),
        &["a", "p", "100", "ByUser", "60m", "False"],
    );
    check(
        "flowcontrol.apiserver.k8s.io/v1",
        "PriorityLevelConfiguration",
        json!({"metadata": made, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 30}}}),
        &["a", "Limited", "30", "<none>", "<none>", "<none>", "60m"],
    );
    check(
        "resource.k8s.io/v1",
        "ResourceClaim",
        json!({"metadata": made, "status": {"allocation": {}, "reservedFor": [{"name": "p"}]}}),
        &["a", "allocated,reserved", "60m"],
    );
    check(
        "networking.k8s.io/v1",
        "IPAddress",
        json!({"metadata": made, "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}}),
        &["a", "services/n/s", "60m"],
    );
    check(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        json!({"metadata": made, "spec": {"cidrs": ["10.0.0.0/24", "fd00::/64"]}}),
        &["a", "10.0.0.0/24,fd00::/64", "60m"],
    );
}
