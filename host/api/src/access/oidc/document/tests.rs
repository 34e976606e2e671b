//! The configuration file, as it is read and as it is refused.

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
