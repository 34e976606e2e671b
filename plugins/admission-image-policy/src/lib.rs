//! Allows images by registry, tag and digest, in pods and in the templates of workloads.
//!
//! Image names are read as container runtimes read them: `nginx` is `docker.io/library/nginx:latest`.

mod image;

use capstan_sdk::{
    Fault, Plugin,
    admission::{Object, Part, Request, Validate, Verdict, allow},
};
use image::Image;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    allowed_registries: Vec<String>,
    deny_tags: Vec<String>,
    require_digest: bool,
    exempt_namespaces: Vec<String>,
}

/// The policy.
pub struct ImagePolicy(Config);

impl Plugin for ImagePolicy {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self(config))
    }
}

impl Validate for ImagePolicy {
    fn validate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        old: Option<Object<'_>>,
    ) -> Result<Verdict, Fault> {
        let Some(spec) = Part::pod_spec(request, object, old, &self.0.exempt_namespaces) else {
            return Ok(allow());
        };
        for container in spec.containers() {
            let Some(name) = container.text("/image") else {
                continue;
            };
            // What was there before the policy may stay there.
            if container.is_unchanged("/image") {
                continue;
            }
            if let Some(objection) = self.objection(&name) {
                let objection = format!("image {name:?} is not allowed: {objection}");
                return Ok(container.deny("/image", objection));
            }
        }
        Ok(allow())
    }
}

impl ImagePolicy {
    fn objection(&self, name: &str) -> Option<String> {
        let image = Image::parse(name);
        let Config {
            allowed_registries,
            deny_tags,
            require_digest,
            ..
        } = &self.0;
        if !allowed_registries.is_empty()
            && !allowed_registries.iter().any(|registry| image.is_from(registry))
        {
            let allowed = allowed_registries.join(", ");
            return Some(format!(
                "it is from {}, but must be from one of: {allowed}",
                image.registry()
            ));
        }
        if *require_digest && image.digest.is_none() {
            return Some("it must be named by digest (name@sha256:…)".into());
        }
        let tag = image.effective_tag()?;
        deny_tags
            .iter()
            .any(|denied| denied == tag)
            .then(|| format!("tag {tag:?} is denied; name a fixed version"))
    }
}

capstan_sdk::export!(admission: validate => ImagePolicy);
