//! What pods may reach of their node: host paths, capabilities, host ports, host namespaces.
//!
//! Finer than the Pod Security Standards, which know only all or nothing: this folder but read-only, these
//! ports, that capability. A part of the configuration that is absent is not looked at.

mod config;
mod pod;

pub use config::Config;

use capstan_sdk::{
    Fault, Plugin,
    admission::{Object, Part, Request, Validate, Verdict, allow},
};
use config::{Capabilities, HostPaths};
use pod::{Container, Spec};

/// The policy.
pub struct HostAccess(Config);

/// What is wrong, and below which part of the pod's spec.
type Objection = (String, String);

impl Plugin for HostAccess {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        config.check()?;
        Ok(Self(config))
    }
}

impl Validate for HostAccess {
    fn validate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        old: Option<Object<'_>>,
    ) -> Result<Verdict, Fault> {
        let Some(part) = Part::pod_spec(request, object, old, &self.0.exempt_namespaces) else {
            return Ok(allow());
        };
        if part.is_unchanged("") {
            return Ok(allow());
        }
        let spec = part.read::<Spec>("")?.unwrap_or_default();
        Ok(match self.objection(&spec) {
            None => allow(),
            Some((below, objection)) => part.deny(&below, objection),
        })
    }
}

impl HostAccess {
    fn objection(&self, spec: &Spec) -> Option<Objection> {
        let Config {
            host_paths,
            capabilities,
            host_ports,
            host_namespaces,
            ..
        } = &self.0;
        if let Some(allowed) = host_namespaces {
            let shared = [
                (spec.host_network, "/hostNetwork", "network"),
                (spec.host_pid, "/hostPID", "pid"),
                (spec.host_ipc, "/hostIPC", "ipc"),
            ];
            let bad = shared
                .into_iter()
                .find(|(set, _, name)| *set && !allowed.allowed.iter().any(|one| one == name));
            if let Some((_, part, name)) = bad {
                return Some((
                    part.into(),
                    format!("the node's {name} namespace must not be shared"),
                ));
            }
        }
        if let Some(objection) = host_paths.as_ref().and_then(|paths| of_paths(paths, spec)) {
            return Some(objection);
        }
        for (path, container) in spec.containers() {
            let of_container = |(part, text): Objection| (format!("{path}{part}"), text);
            let objection = capabilities
                .as_ref()
                .and_then(|rule| of_capabilities(rule, container));
            if let Some(objection) = objection {
                return Some(of_container(objection));
            }
            let Some(ports) = host_ports else { continue };
            for (at, port) in container.ports.iter().flatten().enumerate() {
                if port.host_port != 0 && !ports.allow(port.host_port) {
                    let text = format!("{} is not allowed; {}", port.host_port, ports.hint());
                    return Some(of_container((format!("/ports/{at}/hostPort"), text)));
                }
            }
        }
        None
    }
}

fn of_paths(paths: &HostPaths, spec: &Spec) -> Option<Objection> {
    for (at, volume) in spec.volumes.iter().flatten().enumerate() {
        let Some(host_path) = &volume.host_path else {
            continue;
        };
        let part = format!("/volumes/{at}/hostPath/path");
        let Some(read_only) = paths.allow(&host_path.path) else {
            return Some((
                part,
                format!("{:?} is not allowed; {}", host_path.path, paths.hint()),
            ));
        };
        if !read_only {
            continue;
        }
        for (container, mounts) in spec.containers() {
            let mounts = mounts.volume_mounts.iter().flatten().enumerate();
            let mut writable = mounts.filter(|(_, mount)| mount.name == volume.name && !mount.read_only);
            if let Some((at, _)) = writable.next() {
                let text = format!(
                    "must be true: {:?} may be mounted read-only alone",
                    host_path.path
                );
                return Some((format!("{container}/volumeMounts/{at}/readOnly"), text));
            }
        }
    }
    None
}

fn of_capabilities(rule: &Capabilities, container: &Container) -> Option<Objection> {
    let stated = container.capabilities();
    let of = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (add, drop) = (of(&stated.add), of(&stated.drop));
    let plain = |name: &str| name.strip_prefix("CAP_").unwrap_or(name).to_ascii_uppercase();
    let has = |list: &[String], name: &str| list.iter().any(|one| plain(one) == plain(name));
    if let Some((at, name)) = add.iter().enumerate().find(|(_, name)| !has(&rule.allowed, name)) {
        let hint = if rule.allowed.is_empty() {
            "none may be added".to_owned()
        } else {
            format!("allowed: {}", rule.allowed.join(", "))
        };
        let part = format!("/securityContext/capabilities/add/{at}");
        return Some((part, format!("{name} is not allowed; {hint}")));
    }
    let mut kept = rule
        .require_drop
        .iter()
        .filter(|name| !has(&drop, name) && !has(&drop, "ALL"));
    let name = kept.next()?;
    Some((
        "/securityContext/capabilities/drop".into(),
        format!("must include {name}, or ALL"),
    ))
}

capstan_sdk::export!(admission: validate => HostAccess);
