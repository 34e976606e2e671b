//! A webhook of a configuration, compiled.

use std::sync::Arc;

use base64::Engine;
use serde_json::Value;

use super::condition::Conditions;
use super::environment::Environment;
use super::fails;
use super::request::Request;
use super::rule::{Rule, Selectors};
use crate::resource::Resource;

/// Seconds that a call may take where the webhook does not say.
const TIMEOUT_SECONDS_DEFAULT: u64 = 10;

/// Where a webhook is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// An absolute URL.
    Url(String),
    /// A service of the cluster.
    #[allow(missing_docs)]
    Service {
        namespace: String,
        name: String,
        path: String,
        port: u16,
    },
}

/// `clientConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientConfig {
    /// Whom to call.
    pub place: Place,
    /// PEM; empty for the system's own roots.
    pub ca_bundle: Vec<u8>,
}

impl ClientConfig {
    /// Reads it; none where it names neither URL nor service.
    pub fn read(text: &Value) -> Option<Self> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let place = if let Some(url) = text["url"].as_str() {
            Place::Url(url.to_string())
        } else if text["service"].is_object() {
            let service = &text["service"];
            let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            Place::Service {
                namespace: word(&service["namespace"]),
                name: word(&service["name"]),
                path: word(&service["path"]),
                port: port.unwrap_or(443),
            }
        } else {
            return None;
        };
        let bundle = text["caBundle"].as_str().unwrap_or_default();
        let bundle = base64::engine::general_purpose::STANDARD
            .decode(bundle)
            .unwrap_or_default();
        let blank = bundle.iter().all(u8::is_ascii_whitespace);
        Some(Self {
            place,
            ca_bundle: if blank { Vec::new() } else { bundle },
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Webhook {
    /// Of the configuration that it stands in.
    pub configuration: Box<str>,
    /// Its own.
    pub name: Box<str>,
    /// Its place in the configuration.
    pub index: usize,
    /// Whom to call; none where the configuration does not say.
    pub client: Option<ClientConfig>,
    /// Whether a failed call refuses the request.
    pub fails: bool,
    /// How long a call may take.
    pub timeout_seconds: u64,
    /// Whether a dry run may call it.
    pub dry_runs: bool,
    /// Whether it wants to see what others made of the object after it.
    pub reinvoked: bool,
    /// `v1` or `v1beta1`, the first that it takes; none where it takes neither.
    pub review_version: Option<&'static str>,
    /// What must hold besides.
    pub conditions: Conditions,
    rules: Box<[Rule]>,
    selectors: Selectors,
    equivalent: bool,
}

impl Webhook {
    /// All of a configuration.
    pub fn all(configuration: &Value) -> Vec<Arc<Webhook>> {
        let name = configuration["metadata"]["name"].as_str().unwrap_or_default();
        let list = configuration["webhooks"].as_array().into_iter().flatten();
        list.enumerate()
            .map(|(index, one)| Arc::new(Self::read(name, index, one)))
            .collect()
    }

    fn read(configuration: &str, index: usize, text: &Value) -> Self {
        let fails = fails(text);
        let mut versions = text["admissionReviewVersions"].as_array().into_iter().flatten();
        let review_version = versions.find_map(|version| match version.as_str() {
            Some("v1") => Some("v1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        });
        Self {
            configuration: configuration.into(),
            name: text["name"].as_str().unwrap_or_default().into(),
            index,
            client: ClientConfig::read(&text["clientConfig"]),
            fails,
            timeout_seconds: text["timeoutSeconds"].as_u64().unwrap_or(TIMEOUT_SECONDS_DEFAULT),
            dry_runs: matches!(text["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")),
            reinvoked: text["reinvocationPolicy"] == "IfNeeded",
            review_version,
            conditions: Conditions::read(&text["matchConditions"], fails, &Environment::plain(false)),
            rules: Rule::all(&text["rules"]),
            selectors: Selectors::read(text),
            equivalent: text["matchPolicy"] != "Exact",
        }
    }

    /// As which resource the webhook wants to see the request; none where it does not. Its conditions are
    /// not asked here.
    pub fn find<'r>(
        &self,
        request: &'r Request,
        namespace: &[(String, String)],
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Option<&'r Arc<Resource>> {
        if !self.selectors.matches(request, namespace, object, old) {
            return None;
        }
        Rule::find(&self.rules, self.equivalent, request)
    }
}
