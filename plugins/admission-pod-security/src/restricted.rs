//! The restricted standard: what hardened pods must say for themselves.

use crate::{
    pod::{Container, Pod},
    violation::{Violation, containers, plural, quoted, quoted_set, setters},
};

const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// Volumes of images are as harmless as the images themselves.
const VOLUME_IMAGE: &str = "image";

pub(crate) fn check(pod: &Pod) -> Vec<Violation> {
    // Windows has neither privilege escalation nor capabilities nor seccomp.
    let linux = !pod.windows();
    [
        linux.then(|| privilege_escalation(pod)).flatten(),
        linux.then(|| capabilities(pod)).flatten(),
        volumes(pod),
        run_as_non_root(pod),
        run_as_user(pod),
        linux.then(|| seccomp(pod)).flatten(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn privilege_escalation(pod: &Pod) -> Option<Violation> {
    let names = pod.those(|container| container.security().allow_privilege_escalation != Some(false));
    let detail = || {
        format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            containers(&names)
        )
    };
    (!names.is_empty()).then(|| Violation::new("allowPrivilegeEscalation != false", detail()))
}

fn capabilities(pod: &Pod) -> Option<Violation> {
    let drops_all = |container: &Container| {
        let capabilities = container.security().capabilities.as_ref();
        capabilities
            .and_then(|c| c.drop.as_ref())
            .into_iter()
            .flatten()
            .any(|capability| capability == "ALL")
    };
    let added = |container: &Container| -> Vec<String> {
        let capabilities = container.security().capabilities.as_ref();
        let add = capabilities.and_then(|c| c.add.as_ref()).into_iter().flatten();
        add.filter(|capability| *capability != "NET_BIND_SERVICE")
            .cloned()
            .collect()
    };
    let (keeping, adding) = (pod.those(|c| !drops_all(c)), pod.those(|c| !added(c).is_empty()));
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keeping)
        ));
    }
    if !adding.is_empty() {
        let bad = quoted_set(pod.containers().flat_map(added).collect());
        details.push(format!(
            "{} must not include {bad} in securityContext.capabilities.add",
            containers(&adding)
        ));
    }
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

fn volumes(pod: &Pod) -> Option<Violation> {
    let allowed = |source: &str| source.is_empty() || VOLUMES.contains(&source) || source == VOLUME_IMAGE;
    let (names, sources): (Vec<&str>, Vec<String>) = pod
        .volumes()
        .filter(|(_, source)| !allowed(source))
        .map(|(name, source)| (name, source.to_owned()))
        .unzip();
    let mut distinct = sources.clone();
    distinct.sort();
    distinct.dedup();
    let (volume, uses) = (
        plural(names.len(), "volume", "volumes"),
        plural(names.len(), "uses", "use"),
    );
    let kind = plural(distinct.len(), "type", "types");
    let detail = || {
        format!(
            "{volume} {} {uses} restricted volume {kind} {}",
            quoted(&names),
            quoted(&distinct)
        )
    };
    (!names.is_empty()).then(|| Violation::new("restricted volume types", detail()))
}

fn run_as_non_root(pod: &Pod) -> Option<Violation> {
    let by_pod = pod.security().run_as_non_root;
    let set_false = pod.those(|container| container.security().run_as_non_root == Some(false));
    let unset = pod.those(|container| container.security().run_as_non_root.is_none());
    let reason = "runAsNonRoot != true";
    if by_pod == Some(false) || !set_false.is_empty() {
        let who = setters(by_pod == Some(false), &set_false);
        return Some(Violation::new(
            reason,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        ));
    }
    let missing = by_pod.is_none() && !unset.is_empty();
    missing.then(|| {
        Violation::new(
            reason,
            format!(
                "pod or {} must set securityContext.runAsNonRoot=true",
                containers(&unset)
            ),
        )
    })
}

fn run_as_user(pod: &Pod) -> Option<Violation> {
    let by_pod = pod.security().run_as_user == Some(0);
    let names = pod.those(|container| container.security().run_as_user == Some(0));
    let detail = || format!("{} must not set runAsUser=0", setters(by_pod, &names));
    (by_pod || !names.is_empty()).then(|| Violation::new("runAsUser=0", detail()))
}

fn seccomp(pod: &Pod) -> Option<Violation> {
    let kind = |security: &crate::pod::SecurityContext| {
        security
            .seccomp_profile
            .as_ref()
            .map(|profile| profile.kind.clone())
    };
    let allowed = |kind: &String| kind == "RuntimeDefault" || kind == "Localhost";
    let by_pod = kind(pod.security());
    let bad_pod = by_pod.as_ref().is_some_and(|kind| !allowed(kind));
    let bad = pod.those(|container| kind(container.security()).is_some_and(|kind| !allowed(&kind)));
    if bad_pod || !bad.is_empty() {
        let kinds =
            std::iter::once(by_pod).chain(pod.containers().map(|container| kind(container.security())));
        let kinds = quoted_set(kinds.flatten().filter(|kind| !allowed(kind)).collect());
        let who = setters(bad_pod, &bad);
        return Some(Violation::new(
            "seccompProfile",
            format!("{who} must not set securityContext.seccompProfile.type to {kinds}"),
        ));
    }
    let unset = pod.those(|container| kind(container.security()).is_none());
    let missing = by_pod.is_none() && !unset.is_empty();
    let detail = || {
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&unset)
        )
    };
    missing.then(|| Violation::new("seccompProfile", detail()))
}
