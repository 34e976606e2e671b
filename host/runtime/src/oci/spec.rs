//! The OCI runtime specification of a container: pure, from what CRI and the image say.
//!
//! The defaults (capabilities, masked paths, devices, mounts) are those that containers get from the other
//! runtimes. The network is the host's for now, so that there is no network namespace.

use std::path::Path;

use serde_json::{Value, json};

use super::Launch;
use super::user::User;
use crate::{LinuxContainerResources, Mount};

/// The container's root folder within its bundle.
pub(crate) const ROOTFS: &str = "rootfs";
const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Names and numbers of what every container has.
const CAPABILITIES: [(&str, u32); 14] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FSETID", 4),
    ("CAP_FOWNER", 3),
    ("CAP_MKNOD", 27),
    ("CAP_NET_RAW", 13),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETFCAP", 31),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_KILL", 5),
    ("CAP_AUDIT_WRITE", 29),
];
/// What a privileged container has besides.
const CAPABILITIES_PRIVILEGED: [(&str, u32); 10] = [
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_IPC_LOCK", 14),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_MODULE", 16),
    ("CAP_SYS_NICE", 23),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_SYS_TIME", 25),
    ("CAP_SYSLOG", 34),
];
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The container's cgroup, below each controller's root.
pub(crate) fn cgroup_path(id: &str) -> String {
    format!("/capstan/{id}")
}

/// The whole `config.json`.
pub(crate) fn spec(launch: &Launch, user: &User) -> Value {
    let process = &launch.process;
    let mut env: Vec<String> = process
        .envs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !process.envs.iter().any(|(name, _)| name == "PATH") {
        env.insert(0, PATH_DEFAULT.into());
    }
    let mut env = json!(env);
    name_terminal(&mut env, launch.tty);
    let pid_namespace = match launch.pid_namespace_of {
        Some(pid) => json!({ "type": "pid", "path": format!("/proc/{pid}/ns/pid") }),
        None => json!({ "type": "pid" }),
    };
    let privileged = if launch.privileged {
        &CAPABILITIES_PRIVILEGED[..]
    } else {
        &[]
    };
    let all = CAPABILITIES.iter().chain(privileged);
    let may = |number: u32| launch.capability_bounds & 1 << number != 0;
    let capabilities: Vec<&str> = all
        .filter(|(_, number)| may(*number))
        .map(|(name, _)| *name)
        .collect();
    let hidden = |paths: &[&str]| {
        if launch.privileged {
            json!([])
        } else {
            json!(paths)
        }
    };
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": launch.tty,
            "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids },
            "args": process.args,
            "env": env,
            "cwd": process.working_dir,
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "noNewPrivileges": false,
        },
        "root": { "path": ROOTFS, "readonly": launch.readonly_rootfs },
        "hostname": launch.hostname,
        "mounts": mounts(launch),
        "linux": {
            "namespaces": [pid_namespace, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
            "cgroupsPath": cgroup_path(&launch.id),
            "resources": resources(&process.resources, launch.privileged),
            "maskedPaths": hidden(&MASKED),
            "readonlyPaths": hidden(&READONLY),
        },
    })
}

/// Tells a process on a terminal what kind of terminal that is, as other runtimes do.
pub(crate) fn name_terminal(env: &mut Value, tty: bool) {
    if let Some(env) = env.as_array_mut().filter(|_| tty)
        && !env
            .iter()
            .any(|one| one.as_str().is_some_and(|one| one.starts_with("TERM=")))
    {
        env.push(json!("TERM=xterm"));
    }
}

fn mounts(launch: &Launch) -> Vec<Value> {
    let special = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let sys_access = if launch.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        special("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        special(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        special(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        special(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        special("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        special("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys_access]),
    ];
    let is_given = |path: &str| launch.mounts.iter().any(|mount| mount.container_path == path);
    for (path, host) in &launch.own_files {
        if !is_given(path) {
            mounts.push(bind(path, host, false));
        }
    }
    mounts.extend(
        launch
            .mounts
            .iter()
            .map(|mount: &Mount| bind(&mount.container_path, &mount.host_path, mount.readonly)),
    );
    mounts
}

fn bind(destination: &str, source: &Path, readonly: bool) -> Value {
    let access = if readonly { "ro" } else { "rw" };
    json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate", access] })
}

fn resources(limits: &LinuxContainerResources, privileged: bool) -> Value {
    let mut resources = json!({ "devices": [{ "allow": privileged, "access": "rwm" }] });
    let mut cpu = serde_json::Map::new();
    if limits.cpu_shares > 0 {
        cpu.insert("shares".into(), json!(limits.cpu_shares));
    }
    if limits.cpu_quota_us > 0 && limits.cpu_period_us > 0 {
        cpu.insert("quota".into(), json!(limits.cpu_quota_us));
        cpu.insert("period".into(), json!(limits.cpu_period_us));
    }
    if !cpu.is_empty() {
        resources["cpu"] = Value::Object(cpu);
    }
    if limits.memory_limit_bytes > 0 {
        resources["memory"] = json!({ "limit": limits.memory_limit_bytes });
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Process;

    #[test]
    fn limits_and_mounts_come_through() {
        let launch = Launch {
            id: "x".into(),
            process: Process {
                args: vec!["/bin/true".into()],
                working_dir: "/".into(),
                resources: LinuxContainerResources {
                    memory_limit_bytes: 1 << 20,
                    cpu_quota_us: 50_000,
                    cpu_period_us: 100_000,
                    ..Default::default()
                },
                ..Default::default()
            },
            mounts: vec![Mount {
                container_path: "/etc/hosts".into(),
                host_path: "/h".into(),
                readonly: true,
            }],
            own_files: vec![
                ("/etc/hosts".into(), "/own".into()),
                ("/etc/hostname".into(), "/name".into()),
            ],
            ..Default::default()
        };
        let spec = spec(&launch, &User::default());
        assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 1 << 20);
        assert_eq!(
            spec["linux"]["resources"]["cpu"],
            json!({ "quota": 50_000, "period": 100_000 })
        );
        let binds: Vec<_> = spec["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|mount| mount["type"] == "bind")
            .collect();
        assert_eq!(binds.len(), 2, "the pod's own mount replaces the runtime's file");
        assert_eq!(binds[1]["options"], json!(["rbind", "rprivate", "ro"]));
        // What libcontainer reads is what we wrote.
        let parsed: oci_spec::runtime::Spec = serde_json::from_value(spec).unwrap();
        assert_eq!(
            parsed.process().as_ref().unwrap().env().as_ref().unwrap(),
            &[PATH_DEFAULT]
        );
    }
}
