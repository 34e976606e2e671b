//! The `EncryptionConfiguration` file: which resources are sealed by which providers, in order. Pure.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Provider;
use super::cipher::Cipher;
use super::kms::{Kms, Settings};
use crate::front::go_duration;

/// How long a key management service may take, as in the original.
const KMS_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<ProviderFile>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ProviderFile {
    aescbc: Option<Keys>,
    aesgcm: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<serde_json::Map<String, serde_json::Value>>,
    kms: Option<KmsFile>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct KmsFile {
    api_version: String,
    name: String,
    cachesize: Option<i64>,
    endpoint: String,
    timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Key {
    name: String,
    secret: String,
}

/// A list of resources and what seals them.
pub(super) struct Rule {
    /// Such as `secrets`, `deployments.apps`, `*.apps`, `*.` and `*.*`.
    pub resources: Vec<String>,
    pub providers: Vec<Provider>,
}

pub(super) fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let file: File = serde_norway::from_str(text).map_err(|error| error.to_string())?;
    if !matches!(
        file.api_version.as_str(),
        "apiserver.config.k8s.io/v1" | "apiserver.k8s.io/v1"
    ) || file.kind != "EncryptionConfiguration"
    {
        return Err(format!(
            "no kind \"{}\" is registered for version \"{}\": it must be EncryptionConfiguration of apiserver.config.k8s.io/v1",
            file.kind, file.api_version
        ));
    }
    if file.resources.is_empty() {
        return Err("resources: Required value: at least one resources is required".into());
    }
    let mut rules: Vec<Rule> = Vec::new();
    for (position, one) in file.resources.into_iter().enumerate() {
        let at = format!("resources[{position}]");
        let rule = rule(&at, one)?;
        for resource in &rule.resources {
            check_masked(resource, &rules)?;
        }
        rules.push(rule);
    }
    let providers = rules.iter().flat_map(|rule| &rule.providers);
    let mut names: Vec<&str> = providers
        .filter_map(|provider| match provider {
            Provider::Kms(kms) => Some(kms.name()),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!(
            "duplicate KMS provider name {}, names must be unique",
            twice[0]
        ));
    }
    Ok(rules)
}

fn rule(at: &str, file: Resources) -> Result<Rule, String> {
    if file.resources.is_empty() {
        return Err(format!(
            "{at}.resources: Required value: at least one {at}.resources is required"
        ));
    }
    if file.providers.is_empty() {
        return Err(format!(
            "{at}.providers: Required value: at least one {at}.providers is required"
        ));
    }
    for (index, resource) in file.resources.iter().enumerate() {
        let problem = if resource == "*" {
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
        } else if resource == "*.events.k8s.io" {
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
        } else if resource.chars().any(char::is_uppercase) {
            "resource name should not contain capital letters"
        } else if file.resources[..index].contains(resource) {
            "the same resource cannot be specified multiple times"
        } else if file
            .resources
            .iter()
            .any(|other| other != resource && covers(other, resource))
        {
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"
        } else {
            continue;
        };
        return Err(format!(
            "{at}.resources[{index}]: Invalid value: \"{resource}\": {problem}"
        ));
    }
    let mut providers = Vec::new();
    for (index, one) in file.providers.into_iter().enumerate() {
        providers.push(provider(&format!("{at}.providers[{index}]"), one)?);
    }
    Ok(Rule {
        resources: file.resources,
        providers,
    })
}

/// An earlier rule that covers the resource by a wildcard would hide this one.
fn check_masked(resource: &str, earlier: &[Rule]) -> Result<(), String> {
    for other in earlier.iter().flat_map(|rule| &rule.resources) {
        if other != resource && covers(other, resource) {
            return Err(format!(
                "resource \"{resource}\" is masked by earlier rule \"{other}\""
            ));
        }
    }
    Ok(())
}

/// Whether a wildcard stands for the resource too.
pub(super) fn covers(wildcard: &str, resource: &str) -> bool {
    let group = resource.split_once('.').map_or("", |(_, group)| group);
    wildcard == "*.*" || wildcard.strip_prefix("*.").is_some_and(|own| own == group)
}

fn provider(at: &str, file: ProviderFile) -> Result<Provider, String> {
    let ProviderFile {
        aescbc,
        aesgcm,
        secretbox,
        identity,
        kms,
    } = file;
    let given = [
        aescbc.is_some(),
        aesgcm.is_some(),
        secretbox.is_some(),
        identity.is_some(),
        kms.is_some(),
    ];
    match given.iter().filter(|given| **given).count() {
        0 => return Err(format!("{at}: Required value: at least one provider is required")),
        1 => {}
        _ => {
            return Err(format!(
                "{at}: Invalid value: more than one provider specified in a single element, should split into different list elements"
            ));
        }
    }
    if let Some(kms) = kms {
        let settings = settings(&format!("{at}.kms"), kms)?;
        return Kms::start(settings).map(Provider::Kms);
    }
    type Make = fn(&[u8]) -> Option<Cipher>;
    let all: [(Option<Keys>, &'static str, Make, &[usize]); 3] = [
        (aescbc, "aescbc", Cipher::cbc, &[16, 24, 32]),
        (aesgcm, "aesgcm", Cipher::gcm, &[16, 24, 32]),
        (secretbox, "secretbox", Cipher::secretbox, &[32]),
    ];
    for (keys, name, make, sizes) in all {
        let Some(Keys { keys }) = keys else { continue };
        let at = format!("{at}.{name}.keys");
        if keys.is_empty() {
            return Err(format!("{at}: Required value: at least one keys is required"));
        }
        let mut ciphers = Vec::new();
        for (index, key) in keys.into_iter().enumerate() {
            ciphers.push(cipher(&format!("{at}[{index}]"), key, make, sizes)?);
        }
        return Ok(Provider::Ciphers {
            prefix: format!("k8s:enc:{name}:v1:"),
            ciphers,
        });
    }
    Ok(Provider::Identity)
}

fn settings(at: &str, file: KmsFile) -> Result<Settings, String> {
    let invalid =
        |field: &str, value: &str, why: String| Err(format!("{at}.{field}: Invalid value: {value:?}: {why}"));
    match file.api_version.as_str() {
        "v2" => {}
        "" | "v1" => {
            return Err(format!(
                "{at}.apiVersion: Forbidden: KMSv1 is deprecated and is not supported. Use KMSv2 instead"
            ));
        }
        other => {
            return invalid(
                "apiVersion",
                other,
                "unsupported apiVersion for KMS provider, only v1 and v2 are supported".into(),
            );
        }
    }
    let KmsFile { name, endpoint, .. } = file;
    if name.is_empty() {
        return Err(format!(
            "{at}.name: Required value: name is a mandatory field for a kms"
        ));
    }
    if name.contains(':') {
        return invalid(
            "name",
            &name,
            format!("invalid KMS provider name {name}, must not contain ':'"),
        );
    }
    if file.cachesize.is_some() {
        return Err(format!(
            "{at}.cachesize: Invalid value: cachesize is not supported in v2"
        ));
    }
    if endpoint.is_empty() {
        return Err(format!(
            "{at}.endpoint: Required value: endpoint is a mandatory field for a kms"
        ));
    }
    let Some(socket) = endpoint.strip_prefix("unix://").filter(|path| !path.is_empty()) else {
        let scheme = endpoint.split("://").next().unwrap_or_default();
        return invalid(
            "endpoint",
            &endpoint,
            format!("unsupported scheme {scheme:?} for KMS provider"),
        );
    };
    let timeout = match file.timeout {
        None => KMS_TIMEOUT,
        Some(text) => match go_duration(&text).filter(|timeout| !timeout.is_zero()) {
            Some(timeout) => timeout,
            None => return invalid("timeout", &text, "should be a positive value".into()),
        },
    };
    Ok(Settings {
        name,
        socket: PathBuf::from(socket),
        timeout,
    })
}

fn cipher(
    at: &str,
    key: Key,
    make: fn(&[u8]) -> Option<Cipher>,
    sizes: &[usize],
) -> Result<(String, Cipher), String> {
    for (value, field) in [(&key.name, "name"), (&key.secret, "secret")] {
        if value.is_empty() {
            return Err(format!(
                "{at}.{field}: Required value: {field} is a mandatory field for a key"
            ));
        }
    }
    let secret = STANDARD
        .decode(&key.secret)
        .map_err(|_| format!("{at}.secret: Invalid value: \"REDACTED\": secrets must be base64 encoded"))?;
    let cipher = make(&secret).filter(|_| sizes.contains(&secret.len()));
    let cipher = cipher.ok_or_else(|| {
        format!(
            "{at}.secret: Invalid value: \"REDACTED\": secret is not of the expected length, got {}, expected one of {sizes:?}",
            secret.len()
        )
    })?;
    Ok((key.name, cipher))
}
