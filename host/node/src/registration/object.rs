//! The Node object: how it is registered and what its status says. Pure.

use std::collections::BTreeMap;

use capstan_runtime::{Image, RuntimeStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec,
    NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::machine::{Disk, Machine, MemoryUse, Tasks, architecture};

/// What the API is told of our version.
const KUBELET_VERSION: &str = "v1.36.0+capstan";
/// Most images that a status lists, as the original's default.
const IMAGES_MAX: usize = 50;
/// Less memory than this is pressure, as the original's default.
const MEMORY_AVAILABLE_MIN: u64 = 100 * 1024 * 1024;
/// Less disk than this is pressure. The original's tenth of the disk would taint most laptops.
const DISK_AVAILABLE_MIN: u64 = 1024 * 1024 * 1024;
/// Fewer free inodes than this part of all is pressure.
const INODES_AVAILABLE_PERCENT_MIN: u64 = 5;
/// More tasks than this part of the maximum is pressure.
const TASKS_USED_PERCENT_MAX: u64 = 95;

/// What the operator says of the node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) addresses: Vec<(String, String)>,
    pub(crate) capacity: BTreeMap<String, String>,
    pub(crate) pods_max: u32,
    pub(crate) kubelet_port: u16,
}

/// What changes with time.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) runtime: Result<RuntimeStatus, String>,
    pub(crate) images: Vec<Image>,
    pub(crate) memory: Option<MemoryUse>,
    pub(crate) disk: Option<Disk>,
    pub(crate) tasks: Option<Tasks>,
}

/// All labels that the node has by itself.
pub(crate) fn labels(identity: &Identity) -> BTreeMap<String, String> {
    let mut labels = identity.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", identity.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ] {
        labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    labels
}

/// The object that is created where there is none.
pub(crate) fn registration(identity: &Identity, status: NodeStatus) -> Node {
    let taints = identity.taints.clone();
    Node {
        metadata: ObjectMeta {
            name: Some(identity.name.clone()),
            labels: Some(labels(identity)),
            annotations: Some(
                [(
                    "volumes.kubernetes.io/controller-managed-attach-detach".into(),
                    "true".into(),
                )]
                .into(),
            ),
            ..Default::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            ..Default::default()
        }),
        status: Some(status),
    }
}

/// Capacity by name, as the machine has it or the operator says.
pub(crate) fn capacity(identity: &Identity, machine: &Machine) -> BTreeMap<String, String> {
    let mut capacity: BTreeMap<String, String> = [
        ("cpu", machine.processors.to_string()),
        ("memory", format!("{}Ki", machine.memory_bytes / 1024)),
        ("ephemeral-storage", format!("{}Ki", machine.disk_bytes / 1024)),
        ("pods", identity.pods_max.to_string()),
        ("hugepages-1Gi", "0".to_owned()),
        ("hugepages-2Mi", "0".to_owned()),
    ]
    .into_iter()
    .map(|(name, amount)| (name.to_owned(), amount))
    .collect();
    capacity.extend(identity.capacity.clone());
    capacity
}

/// The whole status, its conditions timed against those of `before`.
pub(crate) fn status(
    identity: &Identity,
    machine: &Machine,
    reading: &Reading,
    before: &[NodeCondition],
    now: Timestamp,
) -> NodeStatus {
    let amounts: BTreeMap<String, Quantity> = capacity(identity, machine)
        .into_iter()
        .map(|(name, amount)| (name, Quantity(amount)))
        .collect();
    let mut conditions = conditions(reading);
    for condition in &mut conditions {
        let known = before.iter().find(|known| known.type_ == condition.type_);
        let since = known.filter(|known| known.status == condition.status);
        condition.last_heartbeat_time = Some(Time(now));
        condition.last_transition_time = since
            .and_then(|known| known.last_transition_time.clone())
            .or(Some(Time(now)));
    }
    NodeStatus {
        addresses: Some(addresses(identity)),
        capacity: Some(amounts.clone()),
        allocatable: Some(amounts),
        conditions: Some(conditions),
        daemon_endpoints: (identity.kubelet_port != 0).then(|| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(identity.kubelet_port),
            }),
        }),
        node_info: Some(node_info(machine, reading)),
        images: Some(images(&reading.images)),
        ..Default::default()
    }
}

fn addresses(identity: &Identity) -> Vec<NodeAddress> {
    let mut all: Vec<NodeAddress> = identity
        .addresses
        .iter()
        .map(|(type_, address)| NodeAddress {
            type_: type_.clone(),
            address: address.clone(),
        })
        .collect();
    if all.iter().all(|address| address.type_ != "Hostname") {
        all.push(NodeAddress {
            type_: "Hostname".into(),
            address: identity.name.clone(),
        });
    }
    all
}

fn node_info(machine: &Machine, reading: &Reading) -> NodeSystemInfo {
    let runtime = reading.runtime.as_ref().ok();
    let version = runtime.filter(|runtime| !runtime.version.is_empty());
    NodeSystemInfo {
        architecture: architecture().into(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: version.map_or_else(
            || "capstan://0.1.0".to_owned(),
            |runtime| format!("{}://{}", runtime.name, runtime.version),
        ),
        kernel_version: machine.kernel_version.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.into(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".into(),
        os_image: machine.os_image.clone(),
        system_uuid: machine.system_uuid.clone(),
        swap: None,
    }
}

fn images(images: &[Image]) -> Vec<ContainerImage> {
    let mut sorted: Vec<&Image> = images.iter().collect();
    sorted.sort_by_key(|image| (std::cmp::Reverse(image.size_bytes), image.id.clone()));
    let names = |image: &Image| {
        image
            .repo_digests
            .iter()
            .chain(&image.repo_tags)
            .cloned()
            .collect()
    };
    let shown = |image: &&Image| ContainerImage {
        names: Some(names(image)),
        size_bytes: i64::try_from(image.size_bytes).ok(),
    };
    sorted.iter().take(IMAGES_MAX).map(shown).collect()
}

fn conditions(reading: &Reading) -> Vec<NodeCondition> {
    let pressure = |type_: &str, pressed: Option<bool>, name: &str, fine: &str, what: &str| {
        let pressed = pressed == Some(true);
        NodeCondition {
            type_: type_.into(),
            status: if pressed { "True" } else { "False" }.into(),
            reason: Some(format!("KubeletHas{}", if pressed { name } else { fine })),
            message: Some(format!(
                "kubelet has {what}{}",
                if pressed { " pressure" } else { " available" }
            )),
            ..Default::default()
        }
    };
    let memory = reading
        .memory
        .map(|memory| memory.available_bytes < MEMORY_AVAILABLE_MIN);
    let disk = reading.disk.map(|disk| {
        disk.available_bytes < DISK_AVAILABLE_MIN.min(disk.total_bytes / 20)
            || disk.available_inodes * 100 < disk.total_inodes * INODES_AVAILABLE_PERCENT_MIN
    });
    let tasks = reading
        .tasks
        .map(|tasks| tasks.used * 100 > tasks.maximum * TASKS_USED_PERCENT_MAX);
    let mut disk = pressure("DiskPressure", disk, "DiskPressure", "NoDiskPressure", "disk");
    if disk.status == "False" {
        disk.message = Some("kubelet has no disk pressure".into());
    }
    let mut memory = pressure(
        "MemoryPressure",
        memory,
        "InsufficientMemory",
        "SufficientMemory",
        "memory",
    );
    memory.message = Some(if memory.status == "True" {
        "kubelet has insufficient memory available".into()
    } else {
        "kubelet has sufficient memory available".into()
    });
    let mut tasks = pressure("PIDPressure", tasks, "InsufficientPID", "SufficientPID", "PID");
    tasks.message = Some(if tasks.status == "True" {
        "kubelet has insufficient PID available".into()
    } else {
        "kubelet has sufficient PID available".into()
    });
    vec![memory, disk, tasks, ready(reading)]
}

fn ready(reading: &Reading) -> NodeCondition {
    let fault = match &reading.runtime {
        Err(error) => Some(format!("container runtime is down: {error}")),
        Ok(status) if !status.runtime_ready => {
            Some(format!("container runtime not ready: {}", status.message))
        }
        Ok(status) if !status.network_ready => {
            Some(format!("container runtime network not ready: {}", status.message))
        }
        Ok(_) => None,
    };
    NodeCondition {
        type_: "Ready".into(),
        status: if fault.is_none() { "True" } else { "False" }.into(),
        reason: Some(
            if fault.is_none() {
                "KubeletReady"
            } else {
                "KubeletNotReady"
            }
            .into(),
        ),
        message: Some(fault.unwrap_or_else(|| "kubelet is posting ready status".into())),
        ..Default::default()
    }
}

/// Whether two statuses differ in more than their heartbeats.
pub(crate) fn differs(before: &NodeStatus, after: &NodeStatus) -> bool {
    let strip = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    strip(before) != strip(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        let runtime = RuntimeStatus {
            runtime_ready: true,
            network_ready: true,
            ..Default::default()
        };
        Reading {
            runtime: Ok(runtime),
            images: Vec::new(),
            memory: None,
            disk: None,
            tasks: None,
        }
    }

    fn condition<'a>(status: &'a NodeStatus, type_: &str) -> &'a NodeCondition {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == type_)
            .unwrap()
    }

    #[test]
    fn a_condition_keeps_its_transition_time_until_it_turns() {
        let (identity, machine) = (Identity::default(), Machine::default());
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = status(&identity, &machine, &reading(), &[], at(100));
        assert_eq!(condition(&first, "Ready").status, "True");
        let conditions = first.conditions.clone().unwrap();
        let second = status(&identity, &machine, &reading(), &conditions, at(200));
        assert!(!differs(&first, &second), "heartbeats alone are no difference");
        let down = Reading {
            runtime: Err("gone".into()),
            ..reading()
        };
        let third = status(&identity, &machine, &down, &conditions, at(300));
        assert!(differs(&second, &third));
        assert_eq!(
            condition(&third, "Ready").last_transition_time,
            Some(Time(at(300)))
        );
        assert_eq!(
            condition(&third, "MemoryPressure").last_transition_time,
            Some(Time(at(100)))
        );
    }

    #[test]
    fn pressure_shows() {
        let pressed = Reading {
            memory: Some(MemoryUse {
                total_bytes: 1 << 33,
                available_bytes: 1 << 20,
            }),
            tasks: Some(Tasks {
                used: 99,
                maximum: 100,
                load_1m: 0.0,
            }),
            ..reading()
        };
        let status = status(
            &Identity::default(),
            &Machine::default(),
            &pressed,
            &[],
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            condition(&status, "MemoryPressure").reason.as_deref(),
            Some("KubeletHasInsufficientMemory")
        );
        assert_eq!(condition(&status, "PIDPressure").status, "True");
        assert_eq!(
            condition(&status, "DiskPressure").reason.as_deref(),
            Some("KubeletHasNoDiskPressure")
        );
    }
}
