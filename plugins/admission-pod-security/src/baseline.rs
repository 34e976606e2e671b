//! The baseline standard: nothing that is known to lead out of the container.

use crate::{
    pod::{Action, Container, Host, Pod, SeLinux, SecurityContext},
    violation::{Violation, containers, plural, quoted, quoted_set, setters},
};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// All violations in the original's order. Under the restricted standard, which has stricter checks of
/// its own for the same fields, those of capabilities, hostPath and seccomp are left to it.
pub(crate) fn check(pod: &Pod, restricted: bool) -> Vec<Violation> {
    let own = !restricted;
    [
        app_armor(pod),
        own.then(|| capabilities(pod)).flatten(),
        host_namespaces(pod),
        own.then(|| host_path(pod)).flatten(),
        host_ports(pod),
        probe_hosts(pod),
        privileged(pod),
        proc_mount(pod),
        se_linux(pod),
        own.then(|| seccomp(pod)).flatten(),
        sysctls(pod),
        host_process(pod),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn app_armor(pod: &Pod) -> Option<Violation> {
    let bad = |security: &SecurityContext| {
        let profile = security
            .app_armor_profile
            .as_ref()
            .map(|profile| profile.kind.clone());
        profile.filter(|kind| kind != "RuntimeDefault" && kind != "Localhost")
    };
    let mut kinds: Vec<String> = bad(pod.security()).into_iter().collect();
    let by_pod = !kinds.is_empty();
    kinds.extend(pod.containers().filter_map(|container| bad(container.security())));
    let names = pod.those(|container| bad(container.security()).is_some());
    let allowed =
        |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let forbidden =
        |(key, value): &(&String, &String)| key.starts_with(APPARMOR_ANNOTATION) && !allowed(value);
    let annotations: Vec<String> = pod
        .annotations
        .iter()
        .filter(forbidden)
        .map(|(key, value)| format!("annotation[{key}]={value:?}"))
        .collect();
    let mut details = Vec::new();
    if !kinds.is_empty() {
        let who = setters(by_pod, &names);
        details.push(format!(
            "{who} must not set AppArmor profile type to {}",
            quoted_set(kinds.clone())
        ));
    }
    details.extend(annotations.iter().cloned());
    let reason = plural(
        kinds.len() + annotations.len(),
        "forbidden AppArmor profile",
        "forbidden AppArmor profiles",
    );
    (!details.is_empty()).then(|| Violation::new(reason, details.join(", ")))
}

fn added(container: &Container, allowed: &[&str]) -> Vec<String> {
    let capabilities = container.security().capabilities.as_ref();
    let add = capabilities.and_then(|capabilities| capabilities.add.as_ref());
    add.into_iter()
        .flatten()
        .filter(|capability| !allowed.contains(&capability.as_str()))
        .cloned()
        .collect()
}

fn capabilities(pod: &Pod) -> Option<Violation> {
    let names = pod.those(|container| !added(container, &CAPABILITIES).is_empty());
    let bad: Vec<String> = pod
        .containers()
        .flat_map(|container| added(container, &CAPABILITIES))
        .collect();
    let detail = || {
        let bad = quoted_set(bad);
        format!(
            "{} must not include {bad} in securityContext.capabilities.add",
            containers(&names)
        )
    };
    (!names.is_empty()).then(|| Violation::new("non-default capabilities", detail()))
}

fn host_namespaces(pod: &Pod) -> Option<Violation> {
    let spec = &pod.spec;
    let each = [
        (spec.host_network, "hostNetwork=true"),
        (spec.host_pid, "hostPID=true"),
        (spec.host_ipc, "hostIPC=true"),
    ];
    let bad: Vec<&str> = each
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, text)| text)
        .collect();
    (!bad.is_empty()).then(|| Violation::new("host namespaces", bad.join(", ")))
}

fn host_path(pod: &Pod) -> Option<Violation> {
    let bad: Vec<&str> = pod
        .volumes()
        .filter(|(_, source)| *source == "hostPath")
        .map(|(name, _)| name)
        .collect();
    let detail = || format!("{} {}", plural(bad.len(), "volume", "volumes"), quoted(&bad));
    (!bad.is_empty()).then(|| Violation::new("hostPath volumes", detail()))
}

fn host_ports(pod: &Pod) -> Option<Violation> {
    let ports_of = |container: &Container| -> Vec<i64> {
        container
            .ports
            .iter()
            .flatten()
            .filter_map(|port| port.host_port)
            .filter(|port| *port != 0)
            .collect()
    };
    let names = pod.those(|container| !ports_of(container).is_empty());
    let mut ports: Vec<String> = pod
        .containers()
        .flat_map(ports_of)
        .map(|port| port.to_string())
        .collect();
    ports.sort();
    ports.dedup();
    let (uses, port) = (
        plural(names.len(), "uses", "use"),
        plural(ports.len(), "hostPort", "hostPorts"),
    );
    (!names.is_empty()).then(|| {
        Violation::new(
            "hostPort",
            format!("{} {uses} {port} {}", containers(&names), ports.join(", ")),
        )
    })
}

fn probe_hosts(pod: &Pod) -> Option<Violation> {
    let hosts_of = |container: &Container| -> Vec<String> {
        let hooks = container
            .lifecycle
            .as_ref()
            .map(|hooks| [hooks.post_start.as_ref(), hooks.pre_stop.as_ref()]);
        let probes = [
            &container.liveness_probe,
            &container.readiness_probe,
            &container.startup_probe,
        ];
        let actions = probes
            .into_iter()
            .flatten()
            .chain(hooks.into_iter().flatten().flatten());
        let hosts = |action: &Action| {
            let each = [&action.http_get, &action.tcp_socket].into_iter().flatten();
            each.map(|Host { host }| host.clone())
                .filter(|host| !host.is_empty())
                .collect::<Vec<_>>()
        };
        actions.flat_map(hosts).collect()
    };
    let names = pod.those(|container| !hosts_of(container).is_empty());
    let hosts: Vec<String> = pod.containers().flat_map(hosts_of).collect();
    let uses = plural(names.len(), "uses", "use");
    let what = plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts");
    let detail = || {
        format!(
            "{} {uses} {what} {}",
            containers(&names),
            quoted_set(hosts.clone())
        )
    };
    (!names.is_empty()).then(|| Violation::new("probe or lifecycle host", detail()))
}

fn privileged(pod: &Pod) -> Option<Violation> {
    let names = pod.those(|container| container.security().privileged == Some(true));
    let detail = || {
        format!(
            "{} must not set securityContext.privileged=true",
            containers(&names)
        )
    };
    (!names.is_empty()).then(|| Violation::new("privileged", detail()))
}

fn proc_mount(pod: &Pod) -> Option<Violation> {
    let bad = |container: &Container| {
        container
            .security()
            .proc_mount
            .clone()
            .filter(|mount| mount != "Default")
    };
    let names = pod.those(|container| bad(container).is_some());
    let mounts = quoted_set(pod.containers().filter_map(bad).collect());
    let detail = || {
        format!(
            "{} must not set securityContext.procMount to {mounts}",
            containers(&names)
        )
    };
    (!names.is_empty()).then(|| Violation::new("procMount", detail()))
}

fn se_linux(pod: &Pod) -> Option<Violation> {
    let bad = |options: &SeLinux| {
        !SELINUX_TYPES.contains(&options.kind.as_str())
            || !options.user.is_empty()
            || !options.role.is_empty()
    };
    let of = |security: &SecurityContext| security.se_linux_options.as_ref().is_some_and(bad);
    let (by_pod, names) = (
        of(pod.security()),
        pod.those(|container| of(container.security())),
    );
    if !by_pod && names.is_empty() {
        return None;
    }
    let securities = std::iter::once(pod.security()).chain(pod.containers().map(Container::security));
    let options: Vec<&SeLinux> = securities
        .filter_map(|security| security.se_linux_options.as_ref())
        .collect();
    let kinds = options.iter().map(|options| options.kind.clone());
    let kinds: Vec<String> = kinds
        .filter(|kind| !SELINUX_TYPES.contains(&kind.as_str()))
        .collect();
    let mut details = Vec::new();
    if !kinds.is_empty() {
        details.push(format!(
            "{} {}",
            plural(kinds.len(), "type", "types"),
            quoted_set(kinds)
        ));
    }
    if options.iter().any(|options| !options.user.is_empty()) {
        details.push("user may not be set".into());
    }
    if options.iter().any(|options| !options.role.is_empty()) {
        details.push("role may not be set".into());
    }
    let who = setters(by_pod, &names);
    Some(Violation::new(
        "seLinuxOptions",
        format!(
            "{who} set forbidden securityContext.seLinuxOptions: {}",
            details.join("; ")
        ),
    ))
}

fn seccomp(pod: &Pod) -> Option<Violation> {
    let of = |security: &SecurityContext| {
        security
            .seccomp_profile
            .as_ref()
            .is_some_and(|profile| profile.kind == "Unconfined")
    };
    let (by_pod, names) = (
        of(pod.security()),
        pod.those(|container| of(container.security())),
    );
    let detail = || {
        format!(
            "{} must not set securityContext.seccompProfile.type to \"Unconfined\"",
            setters(by_pod, &names)
        )
    };
    (by_pod || !names.is_empty()).then(|| Violation::new("seccompProfile", detail()))
}

fn sysctls(pod: &Pod) -> Option<Violation> {
    let names = pod
        .security()
        .sysctls
        .iter()
        .flatten()
        .map(|sysctl| sysctl.name.as_str());
    let bad: Vec<&str> = names.filter(|name| !SYSCTLS.contains(name)).collect();
    (!bad.is_empty()).then(|| Violation::new("forbidden sysctls", bad.join(", ")))
}

fn host_process(pod: &Pod) -> Option<Violation> {
    let of = |security: &SecurityContext| {
        security.windows_options.as_ref().and_then(|w| w.host_process) == Some(true)
    };
    let (by_pod, names) = (
        of(pod.security()),
        pod.those(|container| of(container.security())),
    );
    let detail = || {
        format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            setters(by_pod, &names)
        )
    };
    (by_pod || !names.is_empty()).then(|| Violation::new("hostProcess", detail()))
}
