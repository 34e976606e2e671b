//! How a provider is set up: by the original's `--oidc-*` flags, or by its AuthenticationConfiguration file.

use serde::Deserialize;
use serde_json::Value;

use super::super::UserInfo;

/// Why an AuthenticationConfiguration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It is no such document.
    #[error("cannot read the AuthenticationConfiguration: {0}")]
    Read(#[source] serde_norway::Error),
    /// It asks for something that there is not, or lacks something.
    #[error("{field}: {why}")]
    Field {
        /// Which field.
        field: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// An OpenID Connect provider whose tokens are taken.
#[derive(Debug, Clone)]
pub struct OpenIdProvider {
    /// `https://…`, exactly as in the tokens' `iss`.
    pub issuer_url: String,
    /// Where its discovery document is, if not below the issuer.
    pub discovery_url: Option<String>,
    /// A token must be for one of these (`--oidc-client-id`).
    pub audiences: Vec<String>,
    /// Claim that is the user's name.
    pub username_claim: String,
    /// Put before the name. `None`: the issuer and `#`, unless the claim is `email`.
    pub username_prefix: Option<String>,
    /// Claim that is the user's groups: a text or a list of texts.
    pub groups_claim: Option<String>,
    /// Put before each group.
    pub groups_prefix: String,
    /// Claim that is the user's uid.
    pub uid_claim: Option<String>,
    /// Claims that a token must have, with their values.
    pub required_claims: Vec<(String, String)>,
    /// Such as `RS256`.
    pub signing_algorithms: Vec<String>,
    /// Who signs the provider's certificate; the machine's own authorities where it is none.
    pub ca_pem: Option<String>,
}

impl OpenIdProvider {
    /// A provider with the original's defaults.
    pub fn new(issuer_url: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            issuer_url: issuer_url.into(),
            discovery_url: None,
            audiences: vec![client_id.into()],
            username_claim: "sub".to_owned(),
            username_prefix: None,
            groups_claim: None,
            groups_prefix: String::new(),
            uid_claim: None,
            required_claims: Vec::new(),
            signing_algorithms: vec!["RS256".to_owned()],
            ca_pem: None,
        }
    }

    /// The user of verified claims.
    pub(super) fn user(&self, claims: &Value, now: i64) -> Result<UserInfo, String> {
        self.check(claims, now)?;
        let text = |claim: &str| claims[claim].as_str();
        let name = text(&self.username_claim).ok_or_else(|| {
            format!(
                "parse username claims {:?}: claim not present",
                self.username_claim
            )
        })?;
        if self.username_claim == "email"
            && !matches!(claims["email_verified"], Value::Null | Value::Bool(true))
        {
            return Err("email not verified".to_owned());
        }
        let prefix = match &self.username_prefix {
            Some(prefix) => prefix.clone(),
            None if self.username_claim == "email" => String::new(),
            None => format!("{}#", self.issuer_url),
        };
        let groups = match self.groups_claim.as_ref().map(|claim| (claim, &claims[claim])) {
            None | Some((_, Value::Null)) => Vec::new(),
            Some((_, Value::String(one))) => vec![format!("{}{one}", self.groups_prefix)],
            Some((claim, list)) => {
                let read = |one: &Value| Some(format!("{}{}", self.groups_prefix, one.as_str()?));
                let all = list.as_array().and_then(|list| list.iter().map(read).collect());
                all.ok_or_else(|| {
                    format!("parse groups claim {claim:?}: neither a text nor a list of texts")
                })?
            }
        };
        let mut user = UserInfo {
            name: format!("{prefix}{name}"),
            groups,
            ..UserInfo::default()
        };
        if let Some(claim) = &self.uid_claim {
            user.uid = text(claim)
                .ok_or_else(|| format!("parse uid claim {claim:?}: claim not present"))?
                .to_owned();
        }
        Ok(user.authenticated())
    }

    fn check(&self, claims: &Value, now: i64) -> Result<(), String> {
        let audiences: Vec<&str> = match &claims["aud"] {
            Value::String(one) => vec![one],
            list => list
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
        };
        if !audiences
            .iter()
            .any(|one| self.audiences.iter().any(|known| known == one))
        {
            return Err(format!(
                "verify token: oidc: expected audience in {:?} got {audiences:?}",
                self.audiences
            ));
        }
        let seconds = |claim: &str| claims[claim].as_f64().map(|value| value as i64);
        if seconds("exp").is_none_or(|end| end <= now) {
            return Err("verify token: oidc: token is expired".to_owned());
        }
        if seconds("nbf").is_some_and(|from| from > now) {
            return Err("verify token: oidc: current time is before the nbf (not before) time".to_owned());
        }
        for (claim, wanted) in &self.required_claims {
            match claims[claim].as_str() {
                None => return Err(format!("required claim {claim} not present in ID token")),
                Some(is) if is == wanted => {}
                Some(is) => {
                    return Err(format!(
                        "required claim {claim} value does not match. Got = {is}, want = {wanted}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The original's AuthenticationConfiguration, as far as it says claims by name.
#[derive(Debug, Clone, Default)]
pub struct AuthenticationConfiguration {
    /// Providers, each of one `jwt` entry.
    pub providers: Vec<OpenIdProvider>,
    /// Whether requests without credentials are taken; the default where it does not say.
    pub anonymous: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<Anonymous>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Anonymous {
    enabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: Issuer,
    #[serde(default)]
    claim_validation_rules: Vec<Rule>,
    claim_mappings: Mappings,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Issuer {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: Option<String>,
    audiences: Vec<String>,
    #[serde(rename = "audienceMatchPolicy")]
    _audience_match_policy: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    claim: String,
    #[serde(default)]
    required_value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mappings {
    username: Mapping,
    groups: Option<Mapping>,
    uid: Option<Mapping>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mapping {
    claim: String,
    prefix: Option<String>,
}

impl AuthenticationConfiguration {
    /// From YAML or JSON. Fields that are CEL expressions are refused by their names.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        let document: Document = serde_norway::from_str(text).map_err(ConfigurationError::Read)?;
        let mut providers = Vec::new();
        for (at, jwt) in document.jwt.into_iter().enumerate() {
            let field = |name: &str, why| ConfigurationError::Field {
                field: format!("jwt[{at}].{name}"),
                why,
            };
            if !jwt.issuer.url.starts_with("https://") {
                return Err(field("issuer.url", "URL scheme must be https"));
            }
            if jwt.issuer.audiences.is_empty() {
                return Err(field(
                    "issuer.audiences",
                    "at least one jwt[*].issuer.audiences is required",
                ));
            }
            let mappings = jwt.claim_mappings;
            let Some(prefix) = mappings.username.prefix else {
                return Err(field(
                    "claimMappings.username.prefix",
                    "prefix is required when claim is set",
                ));
            };
            providers.push(OpenIdProvider {
                discovery_url: jwt.issuer.discovery_url,
                audiences: jwt.issuer.audiences,
                username_claim: mappings.username.claim,
                username_prefix: Some(prefix),
                groups_prefix: mappings
                    .groups
                    .as_ref()
                    .and_then(|one| one.prefix.clone())
                    .unwrap_or_default(),
                groups_claim: mappings.groups.map(|one| one.claim),
                uid_claim: mappings.uid.map(|one| one.claim),
                required_claims: jwt
                    .claim_validation_rules
                    .into_iter()
                    .map(|rule| (rule.claim, rule.required_value))
                    .collect(),
                signing_algorithms: [
                    "RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512",
                ]
                .map(str::to_owned)
                .into(),
                ca_pem: jwt.issuer.certificate_authority,
                ..OpenIdProvider::new(jwt.issuer.url, "")
            });
        }
        Ok(Self {
            providers,
            anonymous: document.anonymous.map(|one| one.enabled),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_become_users() {
        let mut provider = OpenIdProvider::new("https://idp", "app");
        provider.groups_claim = Some("groups".to_owned());
        provider.groups_prefix = "oidc:".to_owned();
        let claims = |more: Value| {
            let mut claims = json!({"iss": "https://idp", "aud": "app", "sub": "ann", "exp": 100});
            claims
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            claims
        };
        let show = |provider: &OpenIdProvider, claims: Value| match provider.user(&claims, 50) {
            Ok(user) => format!("{} {}", user.name, user.groups.join(" ")),
            Err(why) => why,
        };
        let good = claims(json!({"groups": ["a", "b"]}));
        assert_eq!(
            show(&provider, good.clone()),
            "https://idp#ann oidc:a oidc:b system:authenticated"
        );
        assert_eq!(
            show(&provider, claims(json!({"exp": 50}))),
            "verify token: oidc: token is expired"
        );
        assert_eq!(
            show(&provider, claims(json!({"aud": ["x"]}))),
            "verify token: oidc: expected audience in [\"app\"] got [\"x\"]"
        );
        provider.required_claims = vec![("hd".to_owned(), "acme".to_owned())];
        assert_eq!(show(&provider, good), "required claim hd not present in ID token");
        provider.required_claims.clear();
        provider.username_claim = "email".to_owned();
        let mail = |verified: bool| claims(json!({"email": "a@b", "email_verified": verified}));
        assert_eq!(show(&provider, mail(true)), "a@b system:authenticated");
        assert_eq!(show(&provider, mail(false)), "email not verified");
    }

    #[test]
    fn the_configuration_file_is_read_or_refused() {
        let text = |mapping: &str| {
            format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {{ enabled: false }}\n\
                 jwt:\n- issuer: {{ url: https://idp, audiences: [app] }}\n  claimMappings:\n    username: {mapping}\n"
            )
        };
        let read = AuthenticationConfiguration::parse(&text("{ claim: sub, prefix: '' }")).unwrap();
        assert_eq!(
            (read.providers[0].username_prefix.as_deref(), read.anonymous),
            (Some(""), Some(false))
        );
        let refused = AuthenticationConfiguration::parse(&text("{ expression: claims.sub }")).unwrap_err();
        assert!(refused.to_string().contains("expression"), "{refused}");
    }
}
