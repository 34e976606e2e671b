//! The original's AuthenticationConfiguration file (`apiserver.config.k8s.io/v1`), read and judged.
//! Invariants: all that is wrong is said at once, with the original's fields and words; what it asks for beyond
//! this server is refused by name. Left out: egress selectors.

use std::collections::HashSet;

use capstan_kinds::validate::{Cause, FieldError};
use serde::Deserialize;
use serde_json::json;

use super::super::Anonymous;
use super::config::OpenIdProvider;
use super::expressions::{About, Expression, Expressions, Rule};

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

/// Compiles an expression; what is wrong with it goes to the errors.
fn compiled(
    text: &str,
    about: About,
    condition: bool,
    at: String,
    errors: &mut Vec<FieldError>,
) -> Option<Expression> {
    let compiled = Expression::compile(text, about, condition);
    compiled
        .map_err(|why| errors.push(FieldError::invalid_text(at, text, &why)))
        .ok()
}

/// Gives the claims that must have a value; conditions go to the expressions.
fn claim_rules(
    rules: &[ClaimRule],
    at: &str,
    made: &mut Expressions,
    errors: &mut Vec<FieldError>,
) -> Vec<(String, String)> {
    let (mut required, mut seen) = (Vec::new(), HashSet::new());
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{at}[{index}]");
        match (rule.claim.is_empty(), rule.expression.is_empty()) {
            (false, false) => {
                let why = "claim and expression can't both be set";
                errors.push(FieldError::invalid_text(at, &rule.claim, why));
            }
            (true, true) => errors.push(FieldError::required(at, "claim or expression is required")),
            (false, true) => {
                if !rule.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.push(FieldError::invalid_text(
                        format!("{at}.message"),
                        &rule.message,
                        why,
                    ));
                }
                if required.iter().any(|(claim, _)| *claim == rule.claim) {
                    errors.push(FieldError::duplicate(format!("{at}.claim"), &json!(rule.claim)));
                }
                required.push((rule.claim.clone(), rule.required_value.clone()));
            }
            (true, false) => {
                if !rule.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    let value = &rule.required_value;
                    errors.push(FieldError::invalid_text(
                        format!("{at}.requiredValue"),
                        value,
                        why,
                    ));
                }
                let at = format!("{at}.expression");
                if !seen.insert(&rule.expression) {
                    errors.push(FieldError::duplicate(at, &json!(rule.expression)));
                    continue;
                }
                let expression = compiled(&rule.expression, About::Claims, true, at, errors);
                made.claim_rules.extend(expression.map(|expression| Rule {
                    expression,
                    message: rule.message.as_str().into(),
                }));
            }
        }
    }
    required
}

fn user_rules(rules: &[UserRule], at: &str, made: &mut Expressions, errors: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{at}[{index}].expression");
        if rule.expression.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if !seen.insert(&rule.expression) {
            errors.push(FieldError::duplicate(at, &json!(rule.expression)));
        } else {
            let expression = compiled(&rule.expression, About::User, true, at, errors);
            made.user_rules.extend(expression.map(|expression| Rule {
                expression,
                message: rule.message.as_str().into(),
            }));
        }
    }
}

fn mapped(mappings: &Mappings, at: &str, made: &mut Expressions, errors: &mut Vec<FieldError>) {
    let mut one = |mapping: &Mapping, name: &str| {
        let at = format!("{at}.{name}");
        let (claim, expression) = (!mapping.claim.is_empty(), !mapping.expression.is_empty());
        match (claim, expression, &mapping.prefix) {
            (true, true, _) => {
                let why = "claim and expression can't both be set";
                errors.push(FieldError::invalid_text(at, "", why));
            }
            (false, false, _) if name == "username" => {
                errors.push(FieldError::required(at, "claim or expression is required"));
            }
            (true, false, None) if name != "uid" => {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.push(FieldError::required(format!("{at}.prefix"), why));
            }
            (false, true, prefix) => {
                if let Some(prefix) = prefix {
                    let why = "may not be specified when expression is set";
                    errors.push(FieldError::invalid_text(format!("{at}.prefix"), prefix, why));
                }
                return compiled(
                    &mapping.expression,
                    About::Claims,
                    false,
                    format!("{at}.expression"),
                    errors,
                );
            }
            _ => {}
        }
        None
    };
    made.username = one(&mappings.username, "username");
    made.groups = one(&mappings.groups, "groups");
    made.uid = one(&mappings.uid, "uid");
    for (index, mapping) in mappings.extra.iter().enumerate() {
        extra(mapping, &format!("{at}.extra[{index}]"), made, errors);
    }
    let uses = |claim: &str| {
        let rules = made.claim_rules.iter().map(|rule| &rule.expression);
        let extra = made.extra.iter().map(|(_, expression)| expression);
        let mut all = rules.chain(extra).chain(&made.username);
        all.any(|expression| expression.uses(claim))
    };
    if made.username.as_ref().is_some_and(|own| own.uses("email")) && !uses("email_verified") {
        let why = "claims.email_verified must be used in claimMappings.username.expression or \
                   claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is \
                   used in claimMappings.username.expression";
        let at = format!("{at}.username.expression");
        errors.push(FieldError::invalid_text(at, &mappings.username.expression, why));
    }
}

fn extra(mapping: &ExtraMapping, at: &str, made: &mut Expressions, errors: &mut Vec<FieldError>) {
    let key = mapping.key.as_str();
    let field = format!("{at}.key");
    let mut wrong = |why: &str| errors.push(FieldError::invalid_text(field.as_str(), key, why));
    let domain = match key.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            for why in capstan_kinds::name::dns1123_subdomain(domain) {
                wrong(&why);
            }
            domain
        }
        _ if key.is_empty() => {
            errors.push(FieldError::required(field.as_str(), ""));
            return;
        }
        _ => {
            wrong("must be a domain-prefixed path (such as \"acme.io/foo\")");
            ""
        }
    };
    if key != key.to_lowercase() {
        wrong("must be lowercase");
    }
    let reserved = |own: &str| domain == own || domain.ends_with(&format!(".{own}"));
    if reserved("kubernetes.io") || reserved("k8s.io") {
        wrong("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
    }
    if made.extra.iter().any(|(known, _)| known == key) {
        errors.push(FieldError::duplicate(field, &json!(key)));
        return;
    }
    let at = format!("{at}.valueExpression");
    if mapping.value_expression.is_empty() {
        errors.push(FieldError::required(at, ""));
        return;
    }
    let expression = compiled(&mapping.value_expression, About::Claims, false, at, errors);
    made.extra
        .extend(expression.map(|expression| (key.to_owned(), expression)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_file_is_read_or_refused() {
        let text = |mapping: &str, more: &str| {
            format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {{ enabled: true, conditions: [{{ path: /livez }}] }}\n\
                 jwt:\n- issuer: {{ url: https://idp, audiences: [app] }}\n  claimMappings:\n    username: {mapping}\n{more}"
            )
        };
        let read = AuthenticationConfiguration::parse(&text("{ claim: sub, prefix: '' }", "")).unwrap();
        assert_eq!(
            (read.providers[0].username_prefix.as_deref(), read.anonymous),
            (Some(""), Some(Anonymous::On(vec!["/livez".to_owned()])))
        );
        for (mapping, more, expected) in [
            (
                "{ claim: sub }",
                "",
                "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
            ),
            (
                "{ claim: sub, expression: claims.sub }",
                "",
                "jwt[0].claimMappings.username: Invalid value: \"\": claim and expression can't both be set",
            ),
            (
                "{ expression: 'claims.' }",
                "",
                "jwt[0].claimMappings.username.expression: Invalid value: \"claims.\": compilation failed: ERROR: <input>:1:8: Syntax error",
            ),
            (
                "{ expression: claims.email }",
                "",
                "jwt[0].claimMappings.username.expression: Invalid value: \"claims.email\": claims.email_verified must be used in",
            ),
            (
                "{ expression: claims.sub }",
                "    extra: [{ key: k8s.io/x, valueExpression: claims.x }]",
                "jwt[0].claimMappings.extra[0].key: Invalid value: \"k8s.io/x\": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
            ),
            (
                "{ expression: claims.sub }",
                "  userValidationRules: [{ expression: user.mail == '' }]",
                "jwt[0].userValidationRules[0].expression: Invalid value: \"user.mail == ''\": compilation failed: ERROR: <input>:1:5: undefined field 'mail'",
            ),
            (
                "{ expression: claims.sub }",
                "  claimValidationRules: [{ expression: '1' }]",
                "jwt[0].claimValidationRules[0].expression: Invalid value: \"1\": must evaluate to bool",
            ),
        ] {
            let refused = AuthenticationConfiguration::parse(&text(mapping, more))
                .unwrap_err()
                .to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }
}
