//! A provider, and whose the tokens are that it signs: claims by their names, or expressions over them.
//!
//! Set up by the original's `--oidc-*` flags, or by a `jwt` entry of its AuthenticationConfiguration
//! (`document`). Invariants: the order of checks and the words are the original's.

use serde_json::Value;

use super::super::UserInfo;
use super::expressions::{Expressions, numbers_as_doubles};

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
    /// What the configuration file says in CEL.
    pub expressions: Expressions,
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
            expressions: Expressions::default(),
        }
    }

    /// The user of verified claims.
    pub(super) fn user(&self, claims: &Value, now: i64) -> Result<UserInfo, String> {
        self.check(claims, now)?;
        let made = &self.expressions;
        let seen = numbers_as_doubles(claims);
        let mut user = UserInfo {
            name: match &made.username {
                Some(expression) => expression.username(&seen)?,
                None => self.username(claims)?,
            },
            groups: match &made.groups {
                Some(expression) => expression.texts(&seen, "group")?,
                None => self.groups(claims)?,
            },
            ..UserInfo::default()
        };
        if let Some(expression) = &made.uid {
            user.uid = expression.text(&seen, "uid")?;
        } else if let Some(claim) = &self.uid_claim {
            let uid = claims[claim].as_str();
            user.uid = uid
                .ok_or_else(|| format!("parse uid claim {claim:?}: claim not present"))?
                .to_owned();
        }
        if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
            let key = "authentication.kubernetes.io/credential-id";
            user.extra.push((key.to_owned(), vec![format!("JTI={id}")]));
        }
        user.extra.extend(made.extra(&seen)?);
        self.required(claims)?;
        made.validate(&seen, &user)?;
        Ok(user.authenticated())
    }

    fn username(&self, claims: &Value) -> Result<String, String> {
        let name = claims[&self.username_claim].as_str().ok_or_else(|| {
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
        Ok(match &self.username_prefix {
            Some(prefix) => format!("{prefix}{name}"),
            None if self.username_claim == "email" => name.to_owned(),
            None => format!("{}#{name}", self.issuer_url),
        })
    }

    fn groups(&self, claims: &Value) -> Result<Vec<String>, String> {
        match self.groups_claim.as_ref().map(|claim| (claim, &claims[claim])) {
            None | Some((_, Value::Null)) => Ok(Vec::new()),
            Some((_, Value::String(one))) => Ok(vec![format!("{}{one}", self.groups_prefix)]),
            Some((claim, list)) => {
                let read = |one: &Value| Some(format!("{}{}", self.groups_prefix, one.as_str()?));
                let all = list.as_array().and_then(|list| list.iter().map(read).collect());
                all.ok_or_else(|| format!("parse groups claim {claim:?}: neither a text nor a list of texts"))
            }
        }
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
        Ok(())
    }

    fn required(&self, claims: &Value) -> Result<(), String> {
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
}
