//! Pod Security Standards by namespace label: Kubernetes' PodSecurity admission.
//!
//! Pods are denied by the namespace's `enforce` level; pods and workload templates are warned about by
//! `warn`. The `audit` level is read and checked, but there is no audit log to annotate yet. Texts are the
//! original's, so that what users search for is found.

mod baseline;
mod level;
mod pod;
mod restricted;
mod violation;

use capstan_sdk::{
    Fault, Plugin, SelfTest,
    admission::{Denial, Object, Operation, Request, Validate, Verdict, allow, pod_spec_path},
};
use level::{Defaults, Level, Standard, Standards};
use pod::PodSpec;
use violation::Violation;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    defaults: Defaults,
    exemptions: Exemptions,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Exemptions {
    usernames: Vec<String>,
    runtime_classes: Vec<String>,
    namespaces: Vec<String>,
}

/// The policy.
pub struct PodSecurity(Config);

impl Plugin for PodSecurity {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self(config))
    }
}

impl Validate for PodSecurity {
    fn validate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        old: Option<Object<'_>>,
    ) -> Result<Verdict, Fault> {
        let Some(object) = object else { return Ok(allow()) };
        if request.kind == "Namespace" {
            return Ok(level::check_labels(object));
        }
        let looked_at = matches!(request.subresource.as_str(), "" | "ephemeralcontainers");
        let Some(path) = pod_spec_path(&request.kind).filter(|_| looked_at && !self.exempt(request)) else {
            return Ok(allow());
        };
        let standards = self.standards(request);
        // As the original: where everything is allowed and nothing warned about, the pod is not looked at.
        if standards.enforce.level == Level::Privileged && standards.warn.level == Level::Privileged {
            return Ok(allow());
        }
        // Labels, annotations and status of what runs already change nothing about its security.
        if request.operation == Operation::Update
            && old.is_some_and(|old| old.json(path) == object.json(path))
        {
            return Ok(allow());
        }
        let Some(spec) = object.read::<PodSpec>(path)? else {
            return Ok(allow());
        };
        if spec
            .runtime_class_name
            .as_ref()
            .is_some_and(|class| self.0.exemptions.runtime_classes.contains(class))
        {
            return Ok(allow());
        }
        let annotations = path
            .strip_suffix("/spec")
            .map(|parent| format!("{parent}/metadata/annotations"));
        let annotations = object.read(&annotations.unwrap_or_default())?.unwrap_or_default();
        Ok(judge(request, &standards, &pod::Pod { spec, annotations }))
    }
}

impl PodSecurity {
    fn exempt(&self, request: &Request) -> bool {
        let exemptions = &self.0.exemptions;
        exemptions.namespaces.contains(&request.namespace) || exemptions.usernames.contains(&request.user)
    }

    /// What holds in the request's namespace.
    fn standards(&self, request: &Request) -> Standards {
        let label = |key: &str| {
            let pair = request.namespace_labels.iter().find(|pair| pair.key == key);
            pair.map(|pair| pair.value.as_str())
        };
        self.0.defaults.with_labels(label)
    }
}

fn judge(request: &Request, standards: &Standards, pod: &pod::Pod) -> Verdict {
    let enforced = violations(standards.enforce.level, pod);
    if request.kind == "Pod" && !enforced.is_empty() {
        let message = format!(
            "violates PodSecurity {}: {}",
            standards.enforce,
            describe(&enforced)
        );
        return Verdict::Deny(Denial {
            code: 403,
            message,
            field: None,
        });
    }
    let warned = violations(standards.warn.level, pod);
    match warned.is_empty() {
        true => allow(),
        false => Verdict::Allow(vec![format!(
            "would violate PodSecurity {}: {}",
            standards.warn,
            describe(&warned)
        )]),
    }
}

fn violations(level: Level, pod: &pod::Pod) -> Vec<Violation> {
    match level {
        Level::Privileged => Vec::new(),
        Level::Baseline => baseline::check(pod, false),
        Level::Restricted => {
            let mut found = baseline::check(pod, true);
            found.extend(restricted::check(pod));
            found
        }
    }
}

fn describe(violations: &[Violation]) -> String {
    let each: Vec<String> = violations.iter().map(Violation::to_string).collect();
    each.join(", ")
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}:{}\"", self.level.name(), self.version)
    }
}

/// A pod's spec as its users write it, and the first reason that the restricted standard has against it.
const CHECKED: [(&str, &str); 3] = [
    (
        r#"{"containers":[{"name":"a","image":"i"}]}"#,
        "allowPrivilegeEscalation != false",
    ),
    (r#"{"hostNetwork":true,"containers":[]}"#, "host namespaces"),
    (
        r#"{"volumes":[{"name":"v","hostPath":{"path":"/"}}]}"#,
        "restricted volume types",
    ),
];

impl SelfTest for PodSecurity {
    fn run() -> Result<u32, Fault> {
        for (spec, reason) in CHECKED {
            let spec = capstan_sdk::json::from_str(spec).map_err(|e| Fault::permanent(e.to_string()))?;
            let found = violations(
                Level::Restricted,
                &pod::Pod {
                    spec,
                    annotations: Default::default(),
                },
            );
            if found.first().map(|violation| violation.reason.as_str()) != Some(reason) {
                return Err(Fault::permanent(format!(
                    "{reason:?} was expected, found: {}",
                    describe(&found)
                )));
            }
        }
        Ok(CHECKED.len() as u32)
    }
}

capstan_sdk::export!(admission: validate, self_test => PodSecurity);
