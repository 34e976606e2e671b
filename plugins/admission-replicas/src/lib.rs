//! Keeps the replicas of workloads, their `scale` and their autoscalers within bounds.
//!
//! A workload that runs once is down whenever its node is. What another controller owns is left alone, so that a
//! rollout may count its ReplicaSets as it likes. A number that a request does not change stays as it was.

use capstan_sdk::{
    Fault, Plugin,
    admission::{Object, Part, Request, Validate, Verdict, allow},
};

/// The configuration; see `config.schema.json`.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    minimum: i64,
    maximum: Option<i64>,
    /// Whether none at all is fine: a workload that is switched off.
    allow_zero: bool,
    exempt_namespaces: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            minimum: 2,
            maximum: None,
            allow_zero: true,
            exempt_namespaces: Vec::new(),
        }
    }
}

/// The policy.
pub struct Replicas(Config);

impl Plugin for Replicas {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        match config.maximum {
            Some(maximum) if maximum < config.minimum => Err(Fault::permanent(format!(
                "maximum: {maximum} is below minimum {}",
                config.minimum
            ))),
            _ => Ok(Self(config)),
        }
    }
}

/// Where a kind says how many, and how many it means by saying nothing.
fn counts(kind: &str) -> &'static [(&'static str, i64)] {
    match kind {
        "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController" => &[("/spec/replicas", 1)],
        "Scale" => &[("/spec/replicas", 0)],
        "HorizontalPodAutoscaler" => &[("/spec/minReplicas", 1), ("/spec/maxReplicas", 1)],
        _ => &[],
    }
}

impl Validate for Replicas {
    fn validate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        old: Option<Object<'_>>,
    ) -> Result<Verdict, Fault> {
        let Some(workload) = Part::whole(request, object, old, &self.0.exempt_namespaces) else {
            return Ok(allow());
        };
        let asked = matches!(request.subresource.as_str(), "" | "scale");
        let owned = workload.boolean("/metadata/ownerReferences/0/controller") == Some(true);
        if !asked || owned {
            return Ok(allow());
        }
        for (path, unsaid) in counts(&request.kind) {
            let (count, before) = workload.integers(path);
            let count = count.unwrap_or(*unsaid);
            if workload.is_old() && before.unwrap_or(*unsaid) == count {
                continue;
            }
            if let Some(objection) = self.objection(count) {
                return Ok(workload.deny(path, objection));
            }
        }
        Ok(allow())
    }
}

impl Replicas {
    fn objection(&self, count: i64) -> Option<String> {
        let Config {
            minimum,
            maximum,
            allow_zero,
            ..
        } = &self.0;
        if count == 0 && *allow_zero {
            return None;
        }
        if count < *minimum {
            let or = if *allow_zero {
                ", or 0 to switch it off"
            } else {
                ""
            };
            return Some(format!("{count} is too few; ask for at least {minimum}{or}"));
        }
        maximum
            .filter(|maximum| count > *maximum)
            .map(|maximum| format!("{count} is too many; ask for at most {maximum}"))
    }
}

capstan_sdk::export!(admission: validate => Replicas);
