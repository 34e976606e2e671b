//! Rules of security contexts, of pods and of containers, and of what an operating system rules out.
//! Invariants: whether a pod may be as privileged as it asks is admission's to say.

use std::collections::HashSet;

use super::source;
use super::windows;
use crate::validate::at::At;
use crate::validate::names::{Pattern, pattern};

const ID_MAX: i64 = i32::MAX as i64;
const SYSCTL_LENGTH_MAX: usize = 253;
const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const APP_ARMOR_LENGTH_MAX: usize = 4095;

pub(super) fn of_container(container: &At, spec: &At) {
    let Some(at) = container.some("securityContext") else {
        return;
    };
    at.range("runAsUser", 0, ID_MAX);
    at.range("runAsGroup", 0, ID_MAX);
    if at.has("procMount") {
        at.exactly_one_of("procMount", &["Default", "Unmasked"]);
        if at.text("procMount") == "Unmasked" && spec.bool("hostUsers") != Some(false) {
            at.invalid("procMount", "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(&at);
    if at.bool("allowPrivilegeEscalation") == Some(false) {
        if at.flag("privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            at.invalid("", why);
        }
        if at.texts("capabilities.add").any(|one| one == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            at.invalid("", why);
        }
    }
    windows::options(&at);
    app_armor(&at);
}

pub(super) fn of_pod(spec: &At) {
    let Some(at) = spec.some("securityContext") else {
        return;
    };
    at.range("fsGroup", 0, ID_MAX);
    at.range("runAsUser", 0, ID_MAX);
    at.range("runAsGroup", 0, ID_MAX);
    at.each("supplementalGroups")
        .for_each(|group| group.range("", 0, ID_MAX));
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        at.invalid_as("shareProcessNamespace", true, why);
    }
    sysctls(&at, spec);
    if at.has("fsGroupChangePolicy") {
        at.exactly_one_of("fsGroupChangePolicy", &["Always", "OnRootMismatch"]);
    }
    seccomp(&at);
    windows::options(&at);
    app_armor(&at);
    if at.has("supplementalGroupsPolicy") {
        at.exactly_one_of("supplementalGroupsPolicy", &["Merge", "Strict"]);
    }
    if at.has("seLinuxChangePolicy") {
        at.exactly_one_of("seLinuxChangePolicy", &["Recursive"]);
    }
}

fn sysctls(at: &At, spec: &At) {
    static NAME: Pattern = pattern!(SYSCTL);
    let mut names = HashSet::new();
    for sysctl in at.each("sysctls") {
        let name = sysctl.text("name");
        if name.is_empty() {
            sysctl.required("name", "");
        } else if name.len() > SYSCTL_LENGTH_MAX || !NAME.matches(name) {
            let why = format!("must have at most {SYSCTL_LENGTH_MAX} characters and match regex {SYSCTL}");
            sysctl.invalid("name", &why);
        } else if names.contains(name) {
            sysctl.duplicate("name");
        }
        names.insert(name);
        let dotted = name.replace('/', ".");
        let ipc = ["kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue."];
        if spec.flag("hostNetwork") && dotted.starts_with("net.") {
            sysctl.invalid("name", "may not be specified when 'hostNetwork' is true");
        } else if spec.flag("hostIPC") && ipc.iter().any(|start| dotted.starts_with(start)) {
            sysctl.invalid("name", "may not be specified when 'hostIPC' is true");
        }
    }
}

fn seccomp(context: &At) {
    let Some(at) = context.some("seccompProfile") else {
        return;
    };
    let known = ["Localhost", "RuntimeDefault", "Unconfined"];
    if at.text("type").is_empty() {
        at.required("type", "type is required when seccompProfile is set");
    } else {
        at.exactly_one_of("type", &known);
    }
    match (at.text("type") == "Localhost", at.has("localhostProfile")) {
        (true, false) => at.required("localhostProfile", "must be set when seccomp type is Localhost"),
        (true, true) => source::local_path(&at, "localhostProfile"),
        (false, true) => at.invalid_as(
            "localhostProfile",
            at.value().clone(),
            "can only be set when seccomp type is Localhost",
        ),
        (false, false) => {}
    }
}

fn app_armor(context: &At) {
    let Some(at) = context.some("appArmorProfile") else {
        return;
    };
    let (field, must) = ("localhostProfile", "must be set when AppArmor type is Localhost");
    let profile = at.text(field);
    match at.text("type") {
        "Localhost" if !at.has(field) || profile.is_empty() => at.required(field, must),
        "Localhost" => {
            if profile.trim() != profile {
                at.invalid(field, "must not be padded with whitespace");
            }
            if profile.len() > APP_ARMOR_LENGTH_MAX {
                at.too_long(field, APP_ARMOR_LENGTH_MAX);
            }
        }
        "RuntimeDefault" | "Unconfined" if at.has(field) => {
            at.invalid(field, "can only be set when AppArmor type is Localhost");
        }
        "RuntimeDefault" | "Unconfined" => {}
        "" => at.required("type", "type is required when appArmorProfile is set"),
        _ => at.unsupported("type", &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

/// What the users of a pod's own namespace rule out.
pub(super) fn own_users(spec: &At) {
    if spec.bool("hostUsers") != Some(false) {
        return;
    }
    for (field, told) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.flag(field) {
            spec.forbidden(told, "when `hostUsers` is false");
        }
    }
    for container in super::containers(spec) {
        if container.count("volumeDevices") > 0 {
            container.forbidden("volumeDevices", "when `hostUsers` is false");
        }
    }
}
