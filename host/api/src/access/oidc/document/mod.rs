//! The original's AuthenticationConfiguration file (`apiserver.config.k8s.io/v1`), read and judged.
//! Invariants: all that is wrong is said at once, with the original's fields and words; what it asks for beyond
//! this server is refused by name. Left out: egress selectors.

mod rules;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use capstan_kinds::validate::{Cause, FieldError};
use serde::Deserialize;
use serde_json::json;

use super::super::Anonymous;
use super::config::OpenIdProvider;
use super::expressions::Expressions;
use rules::{claim_rules, mapped, user_rules};

/// Providers of one file at most.
const PROVIDERS_MAX: usize = 64;

/// Why an AuthenticationConfiguration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It is no such document.
    #[error("cannot read the AuthenticationConfiguration: {0}")]
    Read(#[source] serde_norway::Error),
    /// Its fields are wrong.
    #[error("{}", shown(.0))]
    Invalid(Vec<FieldError>),
}

fn shown(errors: &[FieldError]) -> String {
    match errors {
        [one] => one.to_string(),
        several => {
            let texts: Vec<String> = several.iter().map(ToString::to_string).collect();
            format!("[{}]", texts.join(", "))
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct AuthenticationConfiguration {
    /// Providers, each of one `jwt` entry.
    pub providers: Vec<OpenIdProvider>,
    /// Which requests without credentials are taken; the default where it does not say.
    pub anonymous: Option<Anonymous>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<AnonymousAuth>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnonymousAuth {
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: Issuer,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    #[serde(default)]
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<UserRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Issuer {
    #[serde(default)]
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[derive(Default)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserRule {
    #[serde(default)]
    expression: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Mappings {
    username: Mapping,
    groups: Mapping,
    uid: Mapping,
    extra: Vec<ExtraMapping>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Mapping {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExtraMapping {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value_expression: String,
}

impl AuthenticationConfiguration {
    /// From YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        let document: Document = serde_norway::from_str(text).map_err(ConfigurationError::Read)?;
        let mut errors = Vec::new();
        let version = &document.api_version;
        if !matches!(
            version.as_str(),
            "apiserver.config.k8s.io/v1" | "apiserver.config.k8s.io/v1beta1"
        ) {
            let known = ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1"];
            errors.push(FieldError::not_supported("apiVersion", version, &known));
        }
        if document.kind != "AuthenticationConfiguration" {
            errors.push(FieldError::not_supported(
                "kind",
                &document.kind,
                &["AuthenticationConfiguration"],
            ));
        }
        if document.jwt.len() > PROVIDERS_MAX {
            let message = format!(
                "Too many: {}: must have at most {PROVIDERS_MAX} items",
                document.jwt.len()
            );
            errors.push(FieldError::new("jwt", Cause::TooMany, message));
        }
        let (mut issuers, mut discoveries) = (HashSet::new(), HashSet::new());
        for (index, jwt) in document.jwt.iter().enumerate() {
            let issuer = &jwt.issuer;
            if !issuers.insert(&issuer.url) {
                let at = format!("jwt[{index}].issuer.url");
                errors.push(FieldError::duplicate(at, &json!(issuer.url)));
            }
            if let Some(url) = &issuer.discovery_url
                && !discoveries.insert(url)
            {
                let at = format!("jwt[{index}].issuer.discoveryURL");
                errors.push(FieldError::duplicate(at, &json!(url)));
            }
        }
        let anonymous = document.anonymous.map(|own| anonymous(own, &mut errors));
        let providers = document.jwt.into_iter().enumerate();
        let providers = providers
            .map(|(index, jwt)| provider(jwt, &format!("jwt[{index}]"), &mut errors))
            .collect();
        if errors.is_empty() {
            Ok(Self { providers, anonymous })
        } else {
            Err(ConfigurationError::Invalid(errors))
        }
    }
}

fn anonymous(own: AnonymousAuth, errors: &mut Vec<FieldError>) -> Anonymous {
    let paths: Vec<String> = own.conditions.into_iter().map(|one| one.path).collect();
    if !own.enabled && !paths.is_empty() {
        let why = "enabled should be set to true when conditions are defined";
        errors.push(FieldError::invalid("anonymous.conditions", &json!(paths), why));
    }
    match (own.enabled, paths.is_empty()) {
        (false, _) => Anonymous::Never,
        (true, true) => Anonymous::Always,
        (true, false) => Anonymous::On(paths),
    }
}

fn provider(jwt: Jwt, at: &str, errors: &mut Vec<FieldError>) -> OpenIdProvider {
    issuer(&jwt.issuer, &format!("{at}.issuer"), errors);
    let mut made = Expressions::default();
    let rules = format!("{at}.claimValidationRules");
    let required = claim_rules(&jwt.claim_validation_rules, &rules, &mut made, errors);
    let mappings = jwt.claim_mappings;
    mapped(&mappings, &format!("{at}.claimMappings"), &mut made, errors);
    user_rules(
        &jwt.user_validation_rules,
        &format!("{at}.userValidationRules"),
        &mut made,
        errors,
    );
    let named = |claim: String| Some(claim).filter(|claim| !claim.is_empty());
    OpenIdProvider {
        discovery_url: jwt.issuer.discovery_url,
        audiences: jwt.issuer.audiences,
        username_claim: mappings.username.claim,
        username_prefix: mappings.username.prefix,
        groups_prefix: mappings.groups.prefix.unwrap_or_default(),
        groups_claim: named(mappings.groups.claim),
        uid_claim: named(mappings.uid.claim),
        required_claims: required,
        signing_algorithms: [
            "RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512",
        ]
        .map(str::to_owned)
        .into(),
        ca_pem: jwt.issuer.certificate_authority,
        expressions: made,
        ..OpenIdProvider::new(jwt.issuer.url, "")
    }
}

fn issuer(issuer: &Issuer, at: &str, errors: &mut Vec<FieldError>) {
    if issuer.url.is_empty() {
        errors.push(FieldError::required(format!("{at}.url"), ""));
    } else {
        url(&issuer.url, &format!("{at}.url"), errors);
    }
    if let Some(discovery) = &issuer.discovery_url {
        let at = format!("{at}.discoveryURL");
        if discovery.trim_end_matches('/') == issuer.url.trim_end_matches('/') {
            let why = "discoveryURL must be different from URL";
            errors.push(FieldError::invalid_text(at.as_str(), discovery, why));
        }
        url(discovery, &at, errors);
    }
    let own = format!("{at}.audiences");
    if issuer.audiences.is_empty() {
        let why = format!("at least one {own} is required");
        errors.push(FieldError::required(own.as_str(), &why));
    }
    let mut seen = HashSet::new();
    for (index, audience) in issuer.audiences.iter().enumerate() {
        if audience.is_empty() {
            errors.push(FieldError::required(format!("{own}[{index}]"), ""));
        }
        if !seen.insert(audience) {
            errors.push(FieldError::duplicate(format!("{own}[{index}]"), &json!(audience)));
        }
    }
    let policy = issuer.audience_match_policy.as_str();
    let why = match issuer.audiences.len() {
        2.. if policy != "MatchAny" => "audienceMatchPolicy must be MatchAny for multiple audiences",
        1 if !matches!(policy, "" | "MatchAny") => {
            "audienceMatchPolicy must be empty or MatchAny for single audience"
        }
        _ => return,
    };
    errors.push(FieldError::invalid_text(
        format!("{at}.audienceMatchPolicy"),
        policy,
        why,
    ));
}

fn url(text: &str, at: &str, errors: &mut Vec<FieldError>) {
    let mut wrong = |why: &str| errors.push(FieldError::invalid_text(at, text, why));
    let Some(rest) = text.strip_prefix("https://") else {
        return wrong("URL scheme must be https");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    for (found, why) in [
        (
            authority.contains('@'),
            "URL must not contain a username or password",
        ),
        (rest.contains('?'), "URL must not contain a query"),
        (rest.contains('#'), "URL must not contain a fragment"),
    ] {
        if found {
            wrong(why);
        }
    }
}
