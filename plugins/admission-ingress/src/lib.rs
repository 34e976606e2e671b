//! Ingresses name an allowed class, and a host belongs to one namespace, ingress, or path.
//!
//! Who else has a host is asked of the cluster (`kube-read` of `ingresses.networking.k8s.io`), and only where a
//! request adds a host. Two requests at the same instant may both find a host free.

mod claim;

use capstan_sdk::{
    Fault, Plugin,
    admission::{Object, Part, Request, Validate, Verdict, allow, deny},
    granted::{self, Kind},
};
use claim::Within;

const INGRESSES: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    plural: "ingresses",
};
/// Where a class was named before `spec.ingressClassName` was there.
const CLASS_ANNOTATION: &str = "/metadata/annotations/kubernetes.io~1ingress.class";

/// The configuration; see `config.schema.json`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    classes: Vec<String>,
    require_class: bool,
    require_host: bool,
    unique_hosts: Option<Within>,
    exempt_namespaces: Vec<String>,
}

/// The policy.
pub struct IngressPolicy(Config);

impl Plugin for IngressPolicy {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self(config))
    }
}

impl Validate for IngressPolicy {
    fn validate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        old: Option<Object<'_>>,
    ) -> Result<Verdict, Fault> {
        let object = object.filter(|_| request.kind == "Ingress" && request.subresource.is_empty());
        let Some(whole) = Part::whole(request, object, old, &self.0.exempt_namespaces) else {
            return Ok(allow());
        };
        let ingress = whole.read::<Ingress>("")?.unwrap_or_default();
        let before = whole.read_old::<Ingress>("")?;
        if before.as_ref().is_some_and(|before| before.spec == ingress.spec) {
            return Ok(allow());
        }
        self.judge(
            request,
            &ingress,
            whole.text(CLASS_ANNOTATION),
            before.as_ref(),
            || granted::list(INGRESSES, "", ""),
        )
    }
}

impl IngressPolicy {
    /// The verdict; `others` asks for all ingresses of the cluster and is called only where it matters.
    ///
    /// # Errors
    /// When the others cannot be read.
    pub fn judge(
        &self,
        request: &Request,
        ingress: &Ingress,
        annotated: Option<String>,
        before: Option<&Ingress>,
        others: impl FnOnce() -> Result<Vec<Ingress>, Fault>,
    ) -> Result<Verdict, Fault> {
        if let Some((field, objection)) = self.objection(ingress, annotated) {
            return Ok(deny(field, format!("{field}: {objection}")));
        }
        let Some(within) = self.0.unique_hosts else {
            return Ok(allow());
        };
        let kept = before.map(|before| claim::of(before, within)).unwrap_or_default();
        let mut claims = claim::of(ingress, within);
        claims.retain(|claim| !kept.iter().any(|kept| kept.same(claim)));
        if claims.is_empty() {
            return Ok(allow());
        }
        let own = (request.namespace.as_str(), request.name.as_str());
        let others = others()?;
        Ok(match claim::taken(&claims, &others, within, own) {
            None => allow(),
            Some((claim, other)) => {
                let field = format!("spec.rules[{}].host", claim.rule);
                let holder = format!("{}/{}", other.metadata.namespace, other.metadata.name);
                deny(
                    field.clone(),
                    format!("{field}: {claim} belongs to ingress {holder}"),
                )
            }
        })
    }

    fn objection(&self, ingress: &Ingress, annotated: Option<String>) -> Option<(&'static str, String)> {
        let Config {
            classes,
            require_class,
            require_host,
            ..
        } = &self.0;
        let field = "spec.ingressClassName";
        let hint = || format!("one of: {}", classes.join(", "));
        match ingress.spec.ingress_class_name.clone().or(annotated) {
            None if *require_class && classes.is_empty() => {
                return Some((field, "a class is required".into()));
            }
            None if *require_class => return Some((field, format!("a class is required, {}", hint()))),
            Some(class) if !classes.is_empty() && !classes.contains(&class) => {
                return Some((field, format!("{class:?} is not allowed; it must be {}", hint())));
            }
            _ => {}
        }
        let rules = ingress.spec.rules.iter().flatten();
        let bare =
            rules.filter(|rule| rule.host.is_empty()).count() > 0 || ingress.spec.default_backend.is_some();
        (*require_host && bare).then(|| {
            (
                "spec.rules",
                "every rule must name a host, and no default backend".into(),
            )
        })
    }
}

pub use claim::{Backend, Ingress, Metadata, Path, Paths, Rule, Spec};

capstan_sdk::export!(admission: validate => IngressPolicy);
