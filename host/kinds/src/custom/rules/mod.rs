//! What a CustomResourceDefinition may say.
//! Invariants: fields and words are the original's, which speaks of `spec.validation`, `spec.subresources`
//! and so on where all versions say the same; an established definition keeps its scope and kind; what was
//! stored in a version keeps that version. Called by `validate` before a definition is stored.
//! Left out: tolerance for what older servers once accepted.

mod schema;
mod structural;

use serde_json::{Value, json};

use super::Path;
use super::definition::is_true;
use crate::name;
use crate::validate::FieldError;

/// Bytes of a deprecation warning.
const WARNING_BYTES_MAX: usize = 256;
/// Selectable fields of one version.
const SELECTABLE_MAX: usize = 8;
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "name",
    "password",
];
const APPROVAL: &str = "api-approved.kubernetes.io";

type Errors = Vec<FieldError>;

/// What is wrong with a definition, beside what it changes of the old one.
pub(crate) fn check_definition(definition: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let spec = &definition["spec"];
    let (own, expected) = (
        text(&definition["metadata"]["name"]),
        format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"])),
    );
    if own != expected {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid_text("metadata.name", own, why));
    }
    group(text(&spec["group"]), &mut errors);
    match text(&spec["scope"]) {
        "" => errors.push(FieldError::required("spec.scope", "")),
        scope => one_of("spec.scope", scope, &["Cluster", "Namespaced"], &mut errors),
    }
    versions(spec, old.map(|old| &old["spec"]), &mut errors);
    names(&spec["names"], &mut errors);
    conversion(&spec["conversion"], &mut errors);
    if spec["preserveUnknownFields"] == true {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(
            "spec.preserveUnknownFields",
            &json!(true),
            why,
        ));
    }
    approval(definition, &mut errors);
    errors
}

/// What a definition may not change; its other rules are judged as those of a new one.
pub(crate) fn check_definition_change(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let mut frozen = |pointer: &str, field: &str| {
        let value = new.pointer(pointer).unwrap_or(&Value::Null);
        if value != old.pointer(pointer).unwrap_or(&Value::Null) {
            errors.push(FieldError::invalid(field, value, "field is immutable"));
        }
    };
    if is_true(old, "Established") {
        frozen("/spec/scope", "spec.scope");
        frozen("/spec/names/kind", "spec.names.kind");
    }
    frozen("/spec/group", "spec.group");
    frozen("/spec/names/plural", "spec.names.plural");
    stored_versions(new, &mut errors);
    errors
}

fn stored_versions(definition: &Value, errors: &mut Errors) {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let versions = list(&definition["spec"]["versions"]);
    for (index, stored) in list(&definition["status"]["storedVersions"]).iter().enumerate() {
        if !versions.iter().any(|version| version["name"] == *stored) {
            let name = text(stored);
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                 {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid_text(
                format!("status.storedVersions[{index}]"),
                name,
                &why,
            ));
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn one_of(field: &str, value: &str, known: &[&str], errors: &mut Errors) {
    if !known.contains(&value) {
        errors.push(FieldError::not_supported(field, value, known));
    }
}

fn group(group: &str, errors: &mut Errors) {
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
        return;
    }
    let problems = name::dns1123_subdomain(group);
    if !problems.is_empty() {
        errors.push(FieldError::invalid_text("spec.group", group, &problems.join(",")));
    } else if !group.contains('.') {
        let why = "should be a domain with at least one dot";
        errors.push(FieldError::invalid_text("spec.group", group, why));
    }
}

/// Where something stands of which all versions may say the same: then the original speaks of the spec.
fn places<'a>(spec: &'a Value, field: &str, hoisted: &str) -> Vec<(String, &'a Value, &'a Value)> {
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    match versions {
        [first, rest @ ..] if rest.iter().all(|one| one.get(field) == first.get(field)) => {
            vec![(format!("spec.{hoisted}"), &first[field], first)]
        }
        all => all
            .iter()
            .enumerate()
            .map(|(index, one)| (format!("spec.versions[{index}].{field}"), &one[field], one))
            .collect(),
    }
}

fn versions(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut seen = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let at = format!("spec.versions[{index}]");
        let name = text(&version["name"]);
        let problems = name::dns1035_label(name);
        if !problems.is_empty() {
            errors.push(FieldError::invalid_text(
                format!("{at}.name"),
                name,
                &problems.join(","),
            ));
        }
        seen.push(name);
        if version
            .pointer("/schema/openAPIV3Schema")
            .is_none_or(Value::is_null)
        {
            errors.push(FieldError::required(format!("{at}.schema.openAPIV3Schema"), ""));
        }
        deprecation(version, &at, errors);
    }
    for (at, schema, version) in places(spec, "schema", "validation") {
        let schema = &schema["openAPIV3Schema"];
        if schema.is_object() {
            let has_status = version["subresources"]["status"].is_object();
            let stored = old.is_some_and(|old| schema_of(old, text(&version["name"])) == Some(schema));
            schema::check(
                schema,
                &format!("{at}.openAPIV3Schema"),
                has_status,
                stored,
                errors,
            );
        }
    }
    for (at, subresources, _) in places(spec, "subresources", "subresources") {
        scale(&subresources["scale"], &format!("{at}.scale"), errors);
    }
    for (at, columns, _) in places(spec, "additionalPrinterColumns", "additionalPrinterColumns") {
        for (index, one) in columns.as_array().into_iter().flatten().enumerate() {
            column(one, &format!("{at}[{index}]"), errors);
        }
    }
    for (at, fields, version) in places(spec, "selectableFields", "selectableFields") {
        selectable(fields, &version["schema"]["openAPIV3Schema"], &at, errors);
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() != count {
        let why = "must contain unique version names";
        errors.push(FieldError::invalid("spec.versions", &spec["versions"], why));
    }
    if versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count()
        != 1
    {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", &spec["versions"], why));
    }
}

fn schema_of<'a>(spec: &'a Value, version: &str) -> Option<&'a Value> {
    let mut versions = spec["versions"].as_array().into_iter().flatten();
    let own = versions.find(|one| one["name"] == version)?;
    Some(&own["schema"]["openAPIV3Schema"])
}

fn deprecation(version: &Value, at: &str, errors: &mut Errors) {
    let Some(warning) = version["deprecationWarning"].as_str() else {
        return;
    };
    let mut why = Vec::new();
    if version["deprecated"] != true {
        why.push("can only be set for deprecated versions");
    }
    if warning.len() > WARNING_BYTES_MAX {
        why.push("must be <= 256 characters long");
    }
    if warning.is_empty() {
        why.push("must not be an empty string");
    }
    if warning.contains(char::is_control) {
        why.push("must only contain printable UTF-8 characters");
    }
    let field = format!("{at}.deprecationWarning");
    errors.extend(
        why.iter()
            .map(|why| FieldError::invalid_text(field.as_str(), warning, why)),
    );
}

fn scale(scale: &Value, at: &str, errors: &mut Errors) {
    if !scale.is_object() {
        return;
    }
    let rules: [(&str, bool, &[&str], &str); 3] = [
        (
            "specReplicasPath",
            true,
            &[".spec."],
            "should be a json path under .spec",
        ),
        (
            "statusReplicasPath",
            true,
            &[".status."],
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            false,
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
        ),
    ];
    for (name, required, roots, why) in rules {
        let (field, path) = (format!("{at}.{name}"), text(&scale[name]));
        if path.is_empty() {
            if required {
                errors.push(FieldError::required(field, ""));
            }
        } else if let Err(problem) = simple_path(path) {
            errors.push(FieldError::invalid_text(field, path, &problem));
        } else if !roots.iter().any(|root| path.starts_with(root)) {
            errors.push(FieldError::invalid_text(field, path, why));
        }
    }
}

fn simple_path(path: &str) -> Result<(), String> {
    if !path.starts_with('.') {
        return Err("must be a simple json path starting with .".to_string());
    }
    Path::parse(path).map(drop)
}

fn column(column: &Value, at: &str, errors: &mut Errors) {
    let field = |name: &str| format!("{at}.{name}");
    if text(&column["name"]).is_empty() {
        errors.push(FieldError::required(field("name"), ""));
    }
    let kind = text(&column["type"]);
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    if kind.is_empty() {
        errors.push(FieldError::required(field("type"), &types));
    } else if !COLUMN_TYPES.contains(&kind) {
        errors.push(FieldError::invalid_text(field("type"), kind, &types));
    }
    let format = text(&column["format"]);
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(FieldError::invalid_text(field("format"), format, &why));
    }
    let path = text(&column["jsonPath"]);
    if path.is_empty() {
        errors.push(FieldError::required(field("JSONPath"), ""));
    } else if let Err(why) = simple_path(path) {
        errors.push(FieldError::invalid_text(field("JSONPath"), path, &why));
    }
}

fn selectable(fields: &Value, schema: &Value, at: &str, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, one) in fields.as_array().into_iter().flatten().enumerate() {
        let (field, text) = (format!("{at}[{index}].jsonPath"), text(&one["jsonPath"]));
        if text.is_empty() {
            errors.push(FieldError::required(field, ""));
            continue;
        }
        let path = match Path::parse(text) {
            Ok(path) if text.starts_with('.') => path,
            Ok(_) => {
                let why = "is an invalid path: expected [ or . but got a name";
                errors.push(FieldError::invalid_text(field, text, why));
                continue;
            }
            Err(why) => {
                let why = format!("is an invalid path: {why}");
                errors.push(FieldError::invalid_text(field, text, &why));
                continue;
            }
        };
        let Some(members) = path.members() else {
            let why = "is an invalid path: only members may be named";
            errors.push(FieldError::invalid_text(field, text, why));
            continue;
        };
        if members.first() == Some(&"metadata") {
            let why = "must not point to fields in metadata";
            errors.push(FieldError::invalid_text(field, text, why));
            continue;
        }
        let found = members.iter().try_fold(schema, |schema, name| {
            schema["properties"]
                .get(name)
                .or_else(|| schema.get("additionalProperties"))
        });
        match found {
            None => {
                let why = "is an invalid path: does not refer to a valid field";
                errors.push(FieldError::invalid_text(field.as_str(), text, why));
            }
            Some(schema) if !matches!(schema["type"].as_str(), Some("string" | "boolean" | "integer")) => {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings \
                           with formats are allowed.";
                errors.push(FieldError::invalid_text(field.as_str(), text, why));
            }
            Some(_) => {}
        }
        if seen.contains(&text) {
            errors.push(FieldError::duplicate(field, &json!(text)));
        } else {
            seen.push(text);
        }
    }
    if seen.len() > SELECTABLE_MAX {
        let message = format!(
            "Too many: {}: must have at most {SELECTABLE_MAX} items",
            seen.len()
        );
        errors.push(FieldError::new(at, crate::validate::Cause::TooMany, message));
    }
}

fn names(names: &Value, errors: &mut Errors) {
    let mut label = |field: String, value: &str, lower: bool| {
        let cased = if lower {
            value.to_lowercase()
        } else {
            value.to_string()
        };
        let problems = name::dns1035_label(&cased);
        if !value.is_empty() && !problems.is_empty() {
            let mixed = if lower {
                "may have mixed case, but should otherwise match: "
            } else {
                ""
            };
            let why = format!("{mixed}{}", problems.join(","));
            errors.push(FieldError::invalid_text(field, value, &why));
        } else if value.is_empty() {
            errors.push(FieldError::required(field, ""));
        }
    };
    for (field, lower) in [
        ("plural", false),
        ("singular", false),
        ("kind", true),
        ("listKind", true),
    ] {
        label(format!("spec.names.{field}"), text(&names[field]), lower);
    }
    for list in ["shortNames", "categories"] {
        for (index, one) in names[list].as_array().into_iter().flatten().enumerate() {
            label(format!("spec.names.{list}[{index}]"), text(one), false);
        }
    }
    let list_kind = text(&names["listKind"]);
    if !list_kind.is_empty() && list_kind == text(&names["kind"]) {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid_text("spec.names.listKind", list_kind, why));
    }
}

fn conversion(conversion: &Value, errors: &mut Errors) {
    if !conversion.is_object() {
        return;
    }
    let (at, strategy) = ("spec.conversion", text(&conversion["strategy"]));
    one_of("spec.conversion.strategy", strategy, &["None", "Webhook"], errors);
    let webhook = &conversion["webhook"];
    let config = &webhook["clientConfig"];
    if strategy != "Webhook" {
        if webhook.is_object() {
            let why = "should not be set when strategy is not set to Webhook";
            errors.push(FieldError::forbidden(format!("{at}.webhookClientConfig"), why));
        }
        return;
    }
    if !config.is_object() {
        let why = "required when strategy is set to Webhook";
        errors.push(FieldError::required(format!("{at}.webhookClientConfig"), why));
    } else if config["url"].is_string() == config["service"].is_object() {
        let why = "exactly one of url or service is required";
        errors.push(FieldError::required(format!("{at}.webhookClientConfig"), why));
    }
    let versions = webhook["conversionReviewVersions"].as_array();
    match versions.filter(|versions| !versions.is_empty()) {
        None => errors.push(FieldError::required(format!("{at}.conversionReviewVersions"), "")),
        Some(versions)
            if !versions
                .iter()
                .any(|one| matches!(one.as_str(), Some("v1" | "v1beta1"))) =>
        {
            let why = "must include at least one of v1, v1beta1";
            let field = format!("{at}.conversionReviewVersions");
            errors.push(FieldError::invalid(
                field,
                &webhook["conversionReviewVersions"],
                why,
            ));
        }
        Some(_) => {}
    }
}

/// Groups of the community need its approval.
fn approval(definition: &Value, errors: &mut Errors) {
    let group = text(&definition["spec"]["group"]);
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|suffix| group == *suffix || group.ends_with(&format!(".{suffix}")));
    if !protected {
        return;
    }
    let field = format!("metadata.annotations[{APPROVAL}]");
    match definition["metadata"]["annotations"][APPROVAL].as_str() {
        None | Some("") => errors.push(FieldError::required(
            field,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
             https://github.com/kubernetes/enhancements/pull/1111",
        )),
        Some(value) if value.starts_with("unapproved") || value.contains("://") => {}
        Some(value) => {
            let why = "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or \
                       a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111";
            errors.push(FieldError::invalid_text(field, value, why));
        }
    }
}
