//! What an expression may use: its variables and their types.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::cel::{Node, Type, check_types, parse};
use crate::custom::Schema;

/// See the module.
#[derive(Debug, Clone)]
pub struct Environment<'a> {
    /// Of `object` and `oldObject`.
    pub object: Type<'a>,
    /// Of `params`; none where the policy has no parameters.
    pub params: Option<Type<'a>>,
    /// Whether `authorizer` may be asked.
    pub authorizer: bool,
    /// Whether objects may be made.
    pub messages: bool,
    /// The policy's variables so far; none where there cannot be any.
    pub variables: Option<Vec<(String, Type<'a>)>>,
}

impl Environment<'static> {
    /// Of match conditions of webhooks: nothing is known of the objects.
    pub fn plain(params: bool) -> Self {
        Self {
            object: Type::Dyn,
            params: params.then_some(Type::Dyn),
            authorizer: true,
            messages: false,
            variables: None,
        }
    }
}

impl<'a> Environment<'a> {
    /// Reads and judges an expression; says why it cannot be used. `wanted` names the types that it may give;
    /// empty for any.
    pub fn compile(&self, text: &str, wanted: &[&str]) -> Result<(Node, Type<'a>), String> {
        let failed = |problem: crate::cel::Problem| format!("compilation failed: {}", problem.shown(text));
        let node = parse(text).map_err(failed)?;
        let mut variables = vec![
            ("object", self.object.clone()),
            ("oldObject", self.object.clone()),
            ("request", Type::of(request_schema(), false)),
            ("namespaceObject", Type::of(namespace_schema(), false)),
        ];
        variables.extend(self.params.clone().map(|params| ("params", params)));
        if self.authorizer {
            variables.push(("authorizer", Type::Plain("kubernetes.authorization.Authorizer")));
        }
        if let Some(own) = &self.variables {
            variables.push(("variables", Type::Fields(own.clone())));
        }
        let kind = check_types(&node, &variables, self.messages).map_err(failed)?;
        let name = kind.name();
        // What the checker cannot tell is left to running, unless it is plainly a part of an object.
        let fits = wanted.is_empty()
            || wanted.contains(&name.as_str())
            || (matches!(&kind, Type::Dyn) && !node.is_plain_selection())
            || (matches!(&kind, Type::List(items) if matches!(**items, Type::Dyn))
                && wanted == ["list(JSONPatch)"]);
        if fits {
            return Ok((node, kind));
        }
        Err(match wanted {
            [one] => format!("must evaluate to {one} but got {name}"),
            several => format!("must evaluate to one of [{}] but got {name}", several.join(" ")),
        })
    }
}

fn object(fields: &[(&str, Value)]) -> Value {
    let properties: serde_json::Map<String, Value> = fields
        .iter()
        .map(|(name, kind)| ((*name).to_string(), kind.clone()))
        .collect();
    json!({ "type": "object", "properties": properties })
}

fn request_schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let text = json!({"type": "string"});
        let texts = json!({"type": "array", "items": {"type": "string"}});
        let kind = object(&[
            ("group", text.clone()),
            ("version", text.clone()),
            ("kind", text.clone()),
        ]);
        let resource = object(&[
            ("group", text.clone()),
            ("version", text.clone()),
            ("resource", text.clone()),
        ]);
        let user = object(&[
            ("username", text.clone()),
            ("uid", text.clone()),
            ("groups", texts.clone()),
            ("extra", json!({"type": "object", "additionalProperties": texts})),
        ]);
        Schema::compile(&object(&[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text.clone()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text.clone()),
            ("name", text.clone()),
            ("namespace", text.clone()),
            ("operation", text),
            ("userInfo", user),
            ("dryRun", json!({"type": "boolean"})),
            ("options", json!({})),
        ]))
    })
}

fn namespace_schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let text = json!({"type": "string"});
        let time = json!({"type": "string", "format": "date-time"});
        let number = json!({"type": "integer"});
        let texts = json!({"type": "array", "items": {"type": "string"}});
        let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
        let condition = object(&[
            ("status", text.clone()),
            ("type", text.clone()),
            ("lastTransitionTime", time.clone()),
            ("message", text.clone()),
            ("reason", text.clone()),
        ]);
        let metadata = object(&[
            ("name", text.clone()),
            ("generateName", text.clone()),
            ("namespace", text.clone()),
            ("labels", map.clone()),
            ("annotations", map),
            ("UID", text.clone()),
            ("creationTimestamp", time.clone()),
            ("deletionGracePeriodSeconds", number.clone()),
            ("deletionTimestamp", time),
            ("generation", number),
            ("resourceVersion", text.clone()),
            ("finalizers", texts.clone()),
        ]);
        let status = object(&[
            ("conditions", json!({"type": "array", "items": condition})),
            ("phase", text),
        ]);
        Schema::compile(&object(&[
            ("metadata", metadata),
            ("spec", object(&[("finalizers", texts)])),
            ("status", status),
        ]))
    })
}
