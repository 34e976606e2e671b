//! Refuses secrets written into the environment of containers, and on wish references to Secrets there too.
//!
//! A literal is one by its variable's name (`DB_PASSWORD`) or by its own form (a private key, a cloud key, a
//! JWT, a password in a URL). Messages name the field and never the value.

mod form;

use capstan_sdk::{
    Fault, Plugin,
    admission::{Object, Part, Request, Validate, Verdict, allow},
};

/// The configuration; see `config.schema.json`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Whether Secrets must be mounted as files, never put into the environment.
    deny_references: bool,
    /// Further words in names of variables.
    secret_words: Vec<String>,
    /// Variables that are fine whatever they look like.
    allow_names: Vec<String>,
    exempt_namespaces: Vec<String>,
}

/// The policy.
pub struct EnvSecrets(Config);

impl Plugin for EnvSecrets {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self(config))
    }
}

#[derive(Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Option<Vec<Variable>>,
    env_from: Option<Vec<Source>>,
}

#[derive(Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Variable {
    name: String,
    value: Option<String>,
    value_from: Option<ValueFrom>,
}

#[derive(Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    secret_key_ref: Option<Reference>,
}

#[derive(Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    secret_ref: Option<Reference>,
}

#[derive(Default, PartialEq, serde::Deserialize)]
#[serde(default)]
struct Reference {
    name: String,
}

impl Validate for EnvSecrets {
    fn validate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        old: Option<Object<'_>>,
    ) -> Result<Verdict, Fault> {
        let Some(spec) = Part::pod_spec(request, object, old, &self.0.exempt_namespaces) else {
            return Ok(allow());
        };
        for place in spec.containers() {
            let container = place.read::<Container>("")?.unwrap_or_default();
            // What was there before the policy may stay there.
            if place.read_old("")?.as_ref() == Some(&container) {
                continue;
            }
            if let Some((part, objection)) = self.objection(&container) {
                return Ok(place.deny(&part, objection));
            }
        }
        Ok(allow())
    }
}

impl EnvSecrets {
    /// What is wrong, and below which part of the container.
    fn objection(&self, container: &Container) -> Option<(String, String)> {
        for (at, variable) in container.env.iter().flatten().enumerate() {
            if self.0.allow_names.contains(&variable.name) {
                continue;
            }
            let reference = variable
                .value_from
                .as_ref()
                .and_then(|from| from.secret_key_ref.as_ref());
            if let Some(reference) = reference.filter(|_| self.0.deny_references) {
                let objection = as_file(&reference.name);
                return Some((format!("/env/{at}/valueFrom/secretKeyRef"), objection));
            }
            let value = variable.value.as_deref().unwrap_or_default();
            if let Some(form) = form::of(&variable.name, value, &self.0.secret_words) {
                let objection = format!(
                    "{} holds {form} as plain text; keep it in a Secret and refer to it by valueFrom.secretKeyRef",
                    variable.name
                );
                return Some((format!("/env/{at}/value"), objection));
            }
        }
        let sources = container.env_from.iter().flatten().enumerate();
        let mut refused = sources.filter(|_| self.0.deny_references);
        refused.find_map(|(at, source)| {
            let reference = source.secret_ref.as_ref()?;
            Some((format!("/envFrom/{at}/secretRef"), as_file(&reference.name)))
        })
    }
}

fn as_file(secret: &str) -> String {
    format!("Secret {secret:?} must not be put into the environment; mount it as a volume")
}

capstan_sdk::export!(admission: validate => EnvSecrets);
