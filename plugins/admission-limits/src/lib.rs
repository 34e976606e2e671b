//! Demands that containers state resource requests and limits, and keeps these within bounds.
//!
//! Like a LimitRange without defaults, for the whole cluster and for workload templates too, so that a
//! Deployment is refused when it is applied and not when its pods fail to appear.

mod quantity;

use capstan_sdk::{
    Fault, Plugin,
    admission::{Object, Part, Request, Validate, Verdict, allow},
};
use quantity::Quantity;
use std::collections::BTreeMap;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    require: Stated,
    minimum: BTreeMap<String, String>,
    maximum: BTreeMap<String, String>,
    exempt_namespaces: Vec<String>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Stated {
    requests: Vec<String>,
    limits: Vec<String>,
}

/// The policy.
pub struct Limits {
    config: Config,
    minimum: Vec<(String, Quantity)>,
    maximum: Vec<(String, Quantity)>,
}

impl Plugin for Limits {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        let (minimum, maximum) = (
            bounds("minimum", &config.minimum)?,
            bounds("maximum", &config.maximum)?,
        );
        Ok(Self {
            config,
            minimum,
            maximum,
        })
    }
}

fn bounds(part: &str, bounds: &BTreeMap<String, String>) -> Result<Vec<(String, Quantity)>, Fault> {
    let read = |(name, text): (&String, &String)| match Quantity::parse(text) {
        Some(quantity) => Ok((name.clone(), quantity)),
        None => Err(Fault::permanent(format!(
            "{part}.{name}: {text:?} is not a quantity such as 100m or 1Gi"
        ))),
    };
    bounds.iter().map(read).collect()
}

/// What a container states.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Resources {
    requests: Option<BTreeMap<String, Quantity>>,
    limits: Option<BTreeMap<String, Quantity>>,
}

impl Resources {
    fn limit(&self, name: &str) -> Option<&Quantity> {
        self.limits.as_ref()?.get(name)
    }

    /// A limit stands for a request that is not stated.
    fn request(&self, name: &str) -> Option<&Quantity> {
        self.requests
            .as_ref()
            .and_then(|requests| requests.get(name))
            .or_else(|| self.limit(name))
    }
}

impl Validate for Limits {
    fn validate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        old: Option<Object<'_>>,
    ) -> Result<Verdict, Fault> {
        let spec = Part::pod_spec(request, object, old, &self.config.exempt_namespaces);
        let Some(spec) = spec.filter(|_| request.subresource.is_empty()) else {
            return Ok(allow());
        };
        for container in spec.containers_of(&["initContainers", "containers"]) {
            if container.is_unchanged("/resources") {
                continue;
            }
            let stated = container.read::<Resources>("/resources")?.unwrap_or_default();
            if let Some((part, objection)) = self.objection(&stated) {
                return Ok(container.deny(&format!("/resources{part}"), objection));
            }
        }
        Ok(allow())
    }
}

impl Limits {
    /// What is wrong, and below which part of `resources`.
    fn objection(&self, stated: &Resources) -> Option<(&'static str, String)> {
        let required =
            |name: &String| format!("{name} is required; state for instance {name}: {}", example(name));
        let Stated { requests, limits } = &self.config.require;
        if let Some(name) = requests.iter().find(|name| stated.request(name).is_none()) {
            return Some(("/requests", required(name)));
        }
        if let Some(name) = limits.iter().find(|name| stated.limit(name).is_none()) {
            return Some(("/limits", required(name)));
        }
        for (name, least) in &self.minimum {
            match stated.request(name) {
                Some(request) if request.nano < least.nano => {
                    return Some((
                        "/requests",
                        format!("minimum {name} usage per Container is {least}, but request is {request}"),
                    ));
                }
                _ => {}
            }
        }
        for (name, most) in &self.maximum {
            match stated.limit(name) {
                Some(limit) if limit.nano > most.nano => {
                    return Some((
                        "/limits",
                        format!("maximum {name} usage per Container is {most}, but limit is {limit}"),
                    ));
                }
                None => {
                    return Some((
                        "/limits",
                        format!("maximum {name} usage per Container is {most}. No limit is specified"),
                    ));
                }
                Some(_) => {}
            }
        }
        None
    }
}

fn example(name: &str) -> &'static str {
    if name == "cpu" { "100m" } else { "128Mi" }
}

capstan_sdk::export!(admission: validate => Limits);
