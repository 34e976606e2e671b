//! Sets default labels on objects, and refuses objects that lack required ones.
//!
//! Defaults are set before requirements are checked, so a required label with a default never fails.

use capstan_sdk::{
    Fault, Plugin,
    admission::{Mutate, Object, Operation, Patch, Request, Validate, Verdict, allow, deny, escape, set},
};
use std::collections::BTreeMap;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    defaults: BTreeMap<String, String>,
    required: Vec<Required>,
    exempt_namespaces: Vec<String>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Required {
    key: String,
    values: Option<Vec<String>>,
}

/// The policy.
pub struct Labels(Config);

impl Plugin for Labels {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self(config))
    }
}

impl Labels {
    /// Objects alone have labels, not their subresources; and what is being deleted needs none.
    fn concerns(&self, request: &Request) -> bool {
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        written && request.subresource.is_empty() && !self.0.exempt_namespaces.contains(&request.namespace)
    }
}

impl Mutate for Labels {
    fn mutate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        _: Option<Object<'_>>,
    ) -> Result<Vec<Patch>, Fault> {
        let Some(object) = object.filter(|_| self.concerns(request)) else {
            return Ok(Vec::new());
        };
        if !object.exists("/metadata/labels") && !self.0.defaults.is_empty() {
            return Ok(vec![set("/metadata/labels", &self.0.defaults)?]);
        }
        let missing = self
            .0
            .defaults
            .iter()
            .filter(|(key, _)| object.label(key).is_none());
        missing
            .map(|(key, value)| set(format!("/metadata/labels/{}", escape(key)), value))
            .collect()
    }
}

impl Validate for Labels {
    fn validate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        _: Option<Object<'_>>,
    ) -> Result<Verdict, Fault> {
        let Some(object) = object.filter(|_| self.concerns(request)) else {
            return Ok(allow());
        };
        for Required { key, values } in &self.0.required {
            let field = format!("metadata.labels[{key}]");
            let any = || {
                values
                    .as_ref()
                    .map_or(String::new(), |values| format!(", one of: {}", values.join(", ")))
            };
            match (object.label(key), values) {
                (None, _) => {
                    return Ok(deny(
                        field,
                        format!("metadata.labels: label {key:?} is required{}", any()),
                    ));
                }
                (Some(value), Some(values)) if !values.contains(&value) => {
                    return Ok(deny(
                        field,
                        format!(
                            "metadata.labels: label {key:?} is {value:?}, but must be{}",
                            &any()[1..]
                        ),
                    ));
                }
                _ => {}
            }
        }
        Ok(allow())
    }
}

capstan_sdk::export!(admission: validate, mutate => Labels);
