//! A configuration against the JSON Schema that the component exports.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::error::LoadError;

/// Errors that one message names.
const ERRORS_MAX: usize = 5;

/// Refuses a configuration that its plugin would not understand; names the field and what is wrong.
pub(crate) fn check(schema: &str, config: &Value) -> Result<(), LoadError> {
    let invalid = |field: &str, message: String| LoadError::Config {
        field: field.to_owned(),
        message,
    };
    let schema: Value = serde_json::from_str(schema).map_err(|error| {
        invalid(
            "config-schema",
            format!("the component's own schema is not JSON: {error}"),
        )
    })?;
    if schema == Value::Bool(false) {
        let is_empty = config.as_object().is_some_and(serde_json::Map::is_empty);
        return if is_empty {
            Ok(())
        } else {
            Err(invalid("spec.config", "the plugin takes no configuration".into()))
        };
    }
    // Patterns without backtracking: a schema comes from the plugin, and must not stall the host.
    let validator: Validator = jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(&schema)
        .map_err(|error| {
            invalid(
                "config-schema",
                format!("the component's own schema is not valid: {error}"),
            )
        })?;
    let errors: Vec<(String, String)> = validator
        .iter_errors(config)
        .take(ERRORS_MAX)
        .map(|error| (field(error.instance_path().as_str()), error.to_string()))
        .collect();
    let Some((first, _)) = errors.first() else {
        return Ok(());
    };
    let message = match errors.as_slice() {
        [(_, only)] => only.clone(),
        several => several
            .iter()
            .map(|(field, error)| format!("{field}: {error}"))
            .collect::<Vec<_>>()
            .join("; "),
    };
    Err(invalid(first, message))
}

/// A JSON Pointer in Kubernetes' notation.
fn field(pointer: &str) -> String {
    pointer
        .split('/')
        .skip(1)
        .fold("spec.config".to_owned(), |path, segment| {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            if segment.bytes().all(|b| b.is_ascii_digit()) {
                format!("{path}[{segment}]")
            } else {
                format!("{path}.{segment}")
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_at_fault_is_named() {
        let schema = r#"{"type":"object","properties":{"rules":{"type":"array","items":{"type":"object",
            "properties":{"weight":{"type":"integer","minimum":1}}}}},"additionalProperties":false}"#;
        check(schema, &serde_json::json!({"rules": [{"weight": 1}]})).expect("valid");
        for (config, named) in [
            (
                serde_json::json!({"rules": [{"weight": 1}, {"weight": 0}]}),
                "spec.config.rules[1].weight",
            ),
            (serde_json::json!({"rule": []}), "'rule'"),
            (serde_json::json!([]), "spec.config"),
        ] {
            let message = check(schema, &config).expect_err(named).to_string();
            assert!(message.contains(named), "{message}");
        }
        check("{}", &serde_json::json!({"any": 1})).expect("an open schema takes anything");
        check("false", &serde_json::json!({})).expect("nothing is nothing");
        check("false", &serde_json::json!({"any": 1})).expect_err("a closed schema takes nothing");
    }
}
