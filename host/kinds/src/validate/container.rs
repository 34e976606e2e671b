//! Rules of one container: image, ports, environment, mounts, resources, probes.
//! Invariants: what a container refers to in its pod (volumes) is handed in. Called by the rules of pods.

use std::collections::HashSet;

use serde_json::Value;

use super::error::FieldError;
use super::rules::{Errors, NOT_NEGATIVE, flag, list, quantity, text};
use crate::name;

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// What a container is and may refer to.
pub(super) struct Place<'a> {
    pub(super) volumes: &'a HashSet<&'a str>,
    pub(super) host_network: bool,
    /// Init containers that do not stay have no probes and no lifecycle.
    pub(super) passing: bool,
}

pub(super) fn check(path: &str, container: &Value, place: &Place, errors: &mut Errors) {
    let image = text(container, "image");
    if image.is_empty() {
        errors.add(FieldError::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.add(FieldError::invalid_text(format!("{path}.image"), image, why));
    }
    let policy = text(container, "imagePullPolicy");
    errors.one_of(&format!("{path}.imagePullPolicy"), policy, &PULL_POLICIES);
    let policy = text(container, "terminationMessagePolicy");
    errors.one_of(
        &format!("{path}.terminationMessagePolicy"),
        policy,
        &["File", "FallbackToLogsOnError"],
    );
    ports(path, container, place.host_network, errors);
    environment(path, container, errors);
    mounts(path, container, place.volumes, errors);
    if let Some(resources) = container.get("resources") {
        self::resources(&format!("{path}.resources"), resources, errors);
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get(kind) {
            let path = format!("{path}.{kind}");
            if place.passing {
                errors.add(FieldError::forbidden(
                    path,
                    "may not be set for init containers without restartPolicy=Always",
                ));
            } else {
                self::probe(&path, probe, kind != "readinessProbe", errors);
            }
        }
    }
    if let Some(lifecycle) = container.get("lifecycle") {
        let path = format!("{path}.lifecycle");
        if place.passing {
            errors.add(FieldError::forbidden(
                path,
                "may not be set for init containers without restartPolicy=Always",
            ));
        } else {
            for kind in ["postStart", "preStop"] {
                if let Some(handler) = lifecycle.get(kind) {
                    self::handler(
                        &format!("{path}.{kind}"),
                        handler,
                        &["exec", "httpGet", "tcpSocket", "sleep"],
                        errors,
                    );
                }
            }
        }
    }
    security(path, container, errors);
}

fn ports(path: &str, container: &Value, host_network: bool, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (index, port) in list(container, "ports").iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        let name = text(port, "name");
        if !name.is_empty() {
            errors.named(&format!("{path}.name"), name, name::port);
            if !names.insert(name) {
                errors.add(FieldError::duplicate(format!("{path}.name"), &port["name"]));
            }
        }
        match port
            .get("containerPort")
            .and_then(Value::as_i64)
            .unwrap_or_default()
        {
            0 => errors.add(FieldError::required(format!("{path}.containerPort"), "")),
            _ => errors.range(
                &format!("{path}.containerPort"),
                port.get("containerPort"),
                1,
                65_535,
            ),
        }
        if let Some(host) = port.get("hostPort").filter(|host| host.as_i64() != Some(0)) {
            errors.range(&format!("{path}.hostPort"), Some(host), 1, 65_535);
            if host_network && Some(host) != port.get("containerPort") {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.add(FieldError::invalid(format!("{path}.hostPort"), host, why));
            }
        }
        errors.one_of(&format!("{path}.protocol"), text(port, "protocol"), &PROTOCOLS);
    }
}

fn environment(path: &str, container: &Value, errors: &mut Errors) {
    for (index, variable) in list(container, "env").iter().enumerate() {
        let path = format!("{path}.env[{index}]");
        errors.must_be_named(&format!("{path}.name"), text(variable, "name"), name::env_var);
        let Some(source) = variable.get("valueFrom").and_then(Value::as_object) else {
            continue;
        };
        let path = format!("{path}.valueFrom");
        let why = match source.len() {
            0 => {
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            }
            1 if text(variable, "value").is_empty() => continue,
            1 => "may not be specified when `value` is not empty",
            _ => "may not have more than one field specified at a time",
        };
        errors.add(FieldError::invalid_text(path, "", why));
    }
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        let path = format!("{path}.envFrom[{index}]");
        let given: Vec<&str> = ["configMapRef", "secretRef"]
            .into_iter()
            .filter(|kind| source.get(kind).is_some())
            .collect();
        match given[..] {
            [] => errors.add(FieldError::invalid_text(
                path,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            [kind] if text(&source[kind], "name").is_empty() => {
                errors.add(FieldError::required(format!("{path}.{kind}.name"), ""));
            }
            [_] => {}
            _ => errors.add(FieldError::invalid_text(
                path,
                "",
                "may not have more than one field specified at a time",
            )),
        }
    }
}

fn mounts(path: &str, container: &Value, volumes: &HashSet<&str>, errors: &mut Errors) {
    let mut paths = HashSet::new();
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let (name, at) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.add(FieldError::required(format!("{path}.name"), ""));
        } else if !volumes.contains(name) {
            errors.add(FieldError::not_found(format!("{path}.name"), name));
        }
        if at.is_empty() {
            errors.add(FieldError::required(format!("{path}.mountPath"), ""));
        } else if !paths.insert(at) {
            errors.add(FieldError::invalid_text(
                format!("{path}.mountPath"),
                at,
                "must be unique",
            ));
        }
        let sub = text(mount, "subPath");
        if sub.starts_with('/') {
            errors.add(FieldError::invalid_text(
                format!("{path}.subPath"),
                sub,
                "must be a relative path",
            ));
        } else if sub.split('/').any(|part| part == "..") {
            errors.add(FieldError::invalid_text(
                format!("{path}.subPath"),
                sub,
                "must not contain '..'",
            ));
        }
    }
}

/// Resources of a container; also used for whole pods.
pub(super) fn resources(path: &str, resources: &Value, errors: &mut Errors) {
    let empty = serde_json::Map::new();
    let amounts = |kind: &str| resources.get(kind).and_then(Value::as_object).unwrap_or(&empty);
    for kind in ["limits", "requests"] {
        for (name, amount) in amounts(kind) {
            let path = format!("{path}.{kind}[{name}]");
            resource_name(&path, name, errors);
            match quantity(amount) {
                Some(value) if value.is_negative() => {
                    errors.add(FieldError::invalid(&path, amount, NOT_NEGATIVE))
                }
                Some(value) if is_extended(name) && !value.is_whole() => {
                    errors.add(FieldError::invalid(&path, amount, "must be an integer"));
                }
                _ => {}
            }
        }
    }
    for (name, amount) in amounts("requests") {
        let path = format!("{path}.requests");
        let limit = amounts("limits").get(name);
        match (quantity(amount), limit.and_then(quantity)) {
            (Some(request), Some(limit)) if is_extended(name) && request != limit => {
                let why = format!("must be equal to {name} limit of {limit}");
                errors.add(FieldError::invalid(path, amount, &why));
            }
            (Some(request), Some(limit)) if request > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.add(FieldError::invalid(path, amount, &why));
            }
            (Some(_), None) if is_extended(name) => {
                errors.add(FieldError::required(
                    path.replace(".requests", ".limits"),
                    "Limit must be set for non overcommitable resources",
                ));
            }
            _ => {}
        }
    }
}

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

fn resource_name(path: &str, name: &str, errors: &mut Errors) {
    errors.named(path, name, name::qualified);
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        errors.add(FieldError::invalid_text(
            path,
            name,
            "must be a standard resource for containers",
        ));
    }
}

fn probe(path: &str, probe: &Value, once: bool, errors: &mut Errors) {
    handler(path, probe, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.not_negative(&format!("{path}.{field}"), probe.get(field));
    }
    if let Some(value) = probe
        .get("successThreshold")
        .filter(|value| once && value.as_i64().unwrap_or(1) > 1)
    {
        errors.add(FieldError::invalid(
            format!("{path}.successThreshold"),
            value,
            "must be 1",
        ));
    }
}

fn handler(path: &str, handler: &Value, kinds: &[&str], errors: &mut Errors) {
    let given: Vec<&str> = kinds
        .iter()
        .copied()
        .filter(|kind| handler.get(kind).is_some())
        .collect();
    for kind in given.iter().skip(1) {
        errors.add(FieldError::forbidden(
            format!("{path}.{kind}"),
            "may not specify more than 1 handler type",
        ));
    }
    let Some(kind) = given.first() else {
        errors.add(FieldError::required(path, "must specify a handler type"));
        return;
    };
    let (path, action) = (format!("{path}.{kind}"), &handler[*kind]);
    match *kind {
        "exec" if list(action, "command").is_empty() => {
            errors.add(FieldError::required(format!("{path}.command"), ""))
        }
        "httpGet" => {
            if text(action, "path").is_empty() {
                errors.add(FieldError::required(format!("{path}.path"), ""));
            }
            errors.port(&format!("{path}.port"), action.get("port"));
            errors.one_of(
                &format!("{path}.scheme"),
                text(action, "scheme"),
                &["HTTP", "HTTPS"],
            );
        }
        "tcpSocket" | "grpc" => errors.port(&format!("{path}.port"), action.get("port")),
        _ => {}
    }
}

fn security(path: &str, container: &Value, errors: &mut Errors) {
    let Some(context) = container.get("securityContext") else {
        return;
    };
    let path = format!("{path}.securityContext");
    for field in ["runAsUser", "runAsGroup"] {
        errors.range(
            &format!("{path}.{field}"),
            context.get(field),
            0,
            i64::from(i32::MAX),
        );
    }
    let escalation = context.get("allowPrivilegeEscalation").and_then(Value::as_bool);
    if flag(context, "privileged") && escalation == Some(false) {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.add(FieldError::invalid(path, context, why));
    }
}
