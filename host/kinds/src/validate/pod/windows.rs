//! Rules of pods for Windows, and of what the two operating systems rule out for each other.
//! Invariants: checked for their form wherever options stand, as a pod without an `os` may land anywhere.

use crate::name;
use crate::validate::at::At;
use crate::validate::names::{Pattern, pattern};

const CREDENTIAL_KIB_MAX: usize = 64;
const DOMAIN_LENGTH_MAX: usize = 256;
const USER_LENGTH_MAX: usize = 104;
const WINDOWS: &str = "cannot be set for a windows pod";
const LINUX: &str = "windows options cannot be set for a linux pod";

pub(super) fn options(context: &At) {
    let Some(at) = context.some("windowsOptions") else {
        return;
    };
    if at.has("gmsaCredentialSpecName") {
        at.name("gmsaCredentialSpecName", name::dns1123_subdomain);
    }
    let credential = "gmsaCredentialSpec";
    if at.has(credential) {
        let length = at.text(credential).len();
        if length == 0 {
            at.invalid(credential, "gmsaCredentialSpec cannot be an empty string");
        } else if length > CREDENTIAL_KIB_MAX * 1024 {
            let why = format!("gmsaCredentialSpec size must be under {CREDENTIAL_KIB_MAX} KiB");
            at.invalid(credential, &why);
        }
    }
    if at.has("runAsUserName") {
        user_name(&at, at.text("runAsUserName"));
    }
}

fn user_name(at: &At, name: &str) {
    static NET_BIOS: Pattern = pattern!(r#"^[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}$"#);
    static DNS: Pattern = pattern!(
        r"^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$"
    );
    let say = |why: &str| at.invalid("runAsUserName", &format!("runAsUserName{why}"));
    if name.is_empty() {
        return say(" cannot be an empty string");
    }
    if name.chars().any(|one| one.is_ascii_control()) {
        return say(" cannot contain control characters");
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return say(" cannot contain more than one backslash"),
    };
    if let Some(domain) = domain {
        if domain.len() >= DOMAIN_LENGTH_MAX {
            say(&format!(
                "'s Domain length must be under {DOMAIN_LENGTH_MAX} characters"
            ));
        }
        if !NET_BIOS.matches(domain) && !DNS.matches(domain) {
            say("'s Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        say("'s User cannot be empty");
    } else if user.len() > USER_LENGTH_MAX {
        say(&format!(
            "'s User length must not be longer than {USER_LENGTH_MAX} characters"
        ));
    }
    if !user.is_empty() && user.chars().all(|one| matches!(one, '.' | ' ')) {
        say("'s User cannot contain only periods or spaces");
    }
    if user.chars().any(|one| "\"/\\:;|=,+*?<>@[]".contains(one)) {
        say("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
}

/// Either all containers are processes of the host or none.
pub(super) fn host_process(spec: &At) {
    const FIELD: &str = "securityContext.windowsOptions.hostProcess";
    let whole = spec.bool(FIELD);
    let (mut count, mut host) = (0, 0);
    for container in super::containers(spec) {
        count += 1;
        let own = container.bool(FIELD);
        if let (Some(whole), Some(own)) = (whole, own)
            && whole != own
        {
            let why = format!("pod hostProcess value must be identical if both are specified, was {whole}");
            container.invalid_as(FIELD, own, &why);
        }
        if own.or(whole) == Some(true) {
            host += 1;
        }
    }
    if host == 0 {
        return;
    }
    if host != count {
        let why =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        spec.invalid_as("", "", why);
    }
    if !spec.flag("hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        spec.invalid_as("hostNetwork", false, why);
    }
}

/// What the operating system of a pod rules out.
pub(super) fn system(spec: &At) {
    const OF_POD: [&str; 15] = [
        "securityContext.appArmorProfile",
        "securityContext.seLinuxOptions",
        "hostUsers",
        "hostPID",
        "hostIPC",
        "securityContext.seccompProfile",
        "securityContext.fsGroup",
        "securityContext.fsGroupChangePolicy",
        "securityContext.sysctls",
        "shareProcessNamespace",
        "securityContext.runAsUser",
        "securityContext.runAsGroup",
        "securityContext.supplementalGroups",
        "securityContext.supplementalGroupsPolicy",
        "securityContext.seLinuxChangePolicy",
    ];
    const OF_CONTAINER: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let Some(system) = spec.some("os") else { return };
    match system.text("name") {
        "" => system.required("name", ""),
        "linux" => {
            for at in std::iter::once(spec.clone()).chain(super::containers(spec)) {
                if at.has("securityContext.windowsOptions") {
                    at.forbidden("securityContext.windowsOptions", LINUX);
                }
            }
        }
        "windows" => {
            for field in OF_POD {
                let given = match field {
                    "hostPID" | "hostIPC" => spec.flag(field),
                    "securityContext.sysctls" => spec.count(field) > 0,
                    _ => spec.has(field),
                };
                if given {
                    spec.forbidden(field, WINDOWS);
                }
            }
            for container in super::containers(spec) {
                let Some(context) = container.some("securityContext") else {
                    continue;
                };
                for field in OF_CONTAINER.iter().filter(|field| context.has(field)) {
                    context.forbidden(field, WINDOWS);
                }
            }
        }
        other => system.unsupported_as("", other, &["linux", "windows"]),
    }
}
