//! Objects that an expression makes: `Object.spec{replicas: 3}`, `JSONPatch{op: "add", path: "/x", value: 1}`.
//! Invariants: fields that an optional leaves out are not there; a value becomes JSON only where each part has
//! a form in it. Mutating admission policies are made of it.

use base64::Engine;
use serde_json::{Map, Number, Value as Json};

use super::functions::shown;
use super::value::Value;

/// See the module.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// The type's name.
    pub name: String,
    /// In the order in which they were written.
    pub fields: Vec<(String, Value<'a>)>,
}

impl<'a> Message<'a> {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&Value<'a>> {
        self.fields
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value)
    }
}

impl Value<'_> {
    /// As JSON; what has no form in it is an error.
    pub fn to_json(&self) -> Result<Json, String> {
        Ok(match self {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Int(number) => Json::Number((*number).into()),
            Value::Uint(number) => Json::Number((*number).into()),
            Value::Double(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Value::String(text) => Json::String(text.to_string()),
            Value::Bytes(bytes) => Json::String(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Value::Timestamp(_) | Value::Duration(_) => Json::String(shown(self)),
            Value::Array(list, _) => Json::Array(list.to_vec()),
            Value::Object(fields, _) => Json::Object((*fields).clone()),
            Value::List(items) => Json::Array(items.iter().map(Value::to_json).collect::<Result<_, _>>()?),
            Value::Map(entries) => {
                let mut fields = Map::new();
                for (key, value) in entries.iter() {
                    let Value::String(key) = key else {
                        let kind = key.type_name();
                        return Err(format!(
                            "map key \"{}\" is of type {kind}, not string",
                            shown(key)
                        ));
                    };
                    fields.insert(key.to_string(), value.to_json()?);
                }
                Json::Object(fields)
            }
            Value::Message(message) => {
                let mut fields = Map::new();
                for (name, value) in &message.fields {
                    let value = value
                        .to_json()
                        .map_err(|why| format!("fail to convert field \"{name}\": {why}"))?;
                    fields.insert(name.clone(), value);
                }
                Json::Object(fields)
            }
            Value::Optional(Some(inner)) => inner.to_json()?,
            other => return Err(format!("unsupported type {}", other.type_name())),
        })
    }
}

/// Whether a type's name does not fit where its object stands: what is below `spec` must be an
/// `Object.spec`. Gives all such places, one a line.
pub fn misnamed(value: &Value<'_>) -> Option<String> {
    let Value::Message(message) = value else {
        return None;
    };
    let mut problems = Vec::new();
    walk(value, &message.name, &mut problems);
    (!problems.is_empty()).then(|| problems.join("\n"))
}

fn walk(value: &Value<'_>, path: &str, problems: &mut Vec<String>) {
    match value {
        Value::Message(message) => {
            if message.name != path {
                problems.push(format!(
                    "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
                    message.name
                ));
            }
            for (name, field) in &message.fields {
                walk(field, &format!("{path}.{name}"), problems);
            }
        }
        Value::List(items) => items.iter().for_each(|item| walk(item, path, problems)),
        Value::Map(entries) => entries.iter().for_each(|(_, item)| walk(item, path, problems)),
        _ => {}
    }
}
