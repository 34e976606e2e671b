//! What the file says in rules: claims that must be there, expressions that judge claims and users, and where a user's
//! name, groups, uid and extra come from. What is wrong goes to the errors, and the rest is read on.

use std::collections::HashSet;

use capstan_kinds::validate::FieldError;
use serde_json::json;

use super::super::expressions::{About, Expression, Expressions, Rule};
use super::{ClaimRule, ExtraMapping, Mapping, Mappings, UserRule};

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
pub(super) fn claim_rules(
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

pub(super) fn user_rules(rules: &[UserRule], at: &str, made: &mut Expressions, errors: &mut Vec<FieldError>) {
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

pub(super) fn mapped(mappings: &Mappings, at: &str, made: &mut Expressions, errors: &mut Vec<FieldError>) {
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
