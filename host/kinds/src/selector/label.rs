//! Conditions on labels: what they are, how documents give them, whether an object meets them.
//! Invariants: a selector that was made is valid: keys and values could be labels. The query form is read
//! in `parse`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::{REQUIREMENTS_MAX, parse};
use crate::{Error, name};

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// The comparison.
    pub operator: Operator,
    /// Values compared with; empty for `Exists` and `DoesNotExist`, one for `Gt` and `Lt`.
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of the values.
    In,
    /// The label is absent or its value is none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The value is an integer above the given one.
    Gt,
    /// The value is an integer below the given one.
    Lt,
}

impl Requirement {
    /// Whether an object whose label has this value (None: no such label) meets the condition.
    pub fn matches(&self, value: Option<&str>) -> bool {
        match (self.operator, value) {
            (Operator::In, Some(value)) => self.values.iter().any(|one| one == value),
            (Operator::NotIn, Some(value)) => !self.values.iter().any(|one| one == value),
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::NotIn, None) => true,
            (Operator::Gt, Some(value)) => self.compare(value).is_some_and(|(have, limit)| have > limit),
            (Operator::Lt, Some(value)) => self.compare(value).is_some_and(|(have, limit)| have < limit),
            (Operator::In | Operator::Gt | Operator::Lt, None) => false,
        }
    }

    fn compare(&self, value: &str) -> Option<(i64, i64)> {
        Some((value.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

/// A conjunction of conditions on labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Whether it matches every object.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// The conditions, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Labels that must all be there with these values.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.clone()],
            })
            .collect();
        Self {
            requirements,
            nothing: false,
        }
    }

    /// From a `metav1.LabelSelector`; null selects nothing, an empty object everything.
    pub fn from_value(document: &Value) -> Result<Self, Error> {
        let Some(object) = document.as_object() else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        if let Some(labels) = object.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                let value = value.as_str().unwrap_or_default().to_string();
                requirements.push(Requirement {
                    key: key.clone(),
                    operator: Operator::In,
                    values: vec![value],
                });
            }
        }
        for expression in object
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            requirements.push(expression_requirement(expression)?);
        }
        Self::checked(requirements)
    }

    /// From a plain map document such as a Service's `spec.selector`; null or empty selects nothing.
    pub fn from_map_value(document: &Value) -> Self {
        match document.as_object() {
            Some(map) if !map.is_empty() => {
                let requirements = map
                    .iter()
                    .map(|(key, value)| Requirement {
                        key: key.clone(),
                        operator: Operator::In,
                        values: vec![value.as_str().unwrap_or_default().to_string()],
                    })
                    .collect();
                Self {
                    requirements,
                    nothing: false,
                }
            }
            _ => Self::nothing(),
        }
    }

    /// From the query form: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::checked(parse::requirements(text)?)
    }

    fn checked(mut requirements: Vec<Requirement>) -> Result<Self, Error> {
        if requirements.len() > REQUIREMENTS_MAX {
            return Err(parse_error(format!("more than {REQUIREMENTS_MAX} requirements")));
        }
        for requirement in &requirements {
            check_requirement(requirement)?;
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// Whether an object matches whose labels are read through `label`.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Whether an object with these labels matches.
    pub fn matches_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object document matches by its `metadata.labels`.
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.matches(|key| labels?.get(key)?.as_str())
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let key = &requirement.key;
            let values = requirement.values.join(",");
            match requirement.operator {
                Operator::In if requirement.values.len() == 1 => write!(f, "{key}={values}")?,
                Operator::NotIn if requirement.values.len() == 1 => write!(f, "{key}!={values}")?,
                Operator::In => write!(f, "{key} in ({values})")?,
                Operator::NotIn => write!(f, "{key} notin ({values})")?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::Gt => write!(f, "{key}>{values}")?,
                Operator::Lt => write!(f, "{key}<{values}")?,
            }
        }
        Ok(())
    }
}

pub(super) fn parse_error(text: impl Into<String>) -> Error {
    Error::ParseLabelSelector(text.into())
}

fn expression_requirement(expression: &Value) -> Result<Requirement, Error> {
    let operator = match expression
        .get("operator")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        other => {
            return Err(parse_error(format!(
                "\"{other}\" is not a valid label selector operator"
            )));
        }
    };
    let values = expression
        .get("values")
        .and_then(Value::as_array)
        .map(|values| {
            values
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_string)
                .collect()
        })
        .unwrap_or_default();
    let key = expression
        .get("key")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_string();
    Ok(Requirement {
        key,
        operator,
        values,
    })
}

fn check_requirement(requirement: &Requirement) -> Result<(), Error> {
    if let Some(problem) = name::qualified(&requirement.key).first() {
        return Err(parse_error(format!(
            "key: Invalid value: {:?}: {problem}",
            requirement.key
        )));
    }
    let count = requirement.values.len();
    match requirement.operator {
        Operator::In | Operator::NotIn if count == 0 => {
            return Err(parse_error(
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
            ));
        }
        Operator::Exists | Operator::DoesNotExist if count != 0 => {
            return Err(parse_error(format!(
                "values: Invalid value: {:?}: values set must be empty for exists and does not exist",
                requirement.values
            )));
        }
        Operator::Gt | Operator::Lt if count != 1 || requirement.values[0].parse::<i64>().is_err() => {
            return Err(parse_error(format!(
                "values: Invalid value: {:?}: for 'Gt', 'Lt' operators, exactly one integer value is required",
                requirement.values
            )));
        }
        _ => {}
    }
    for value in &requirement.values {
        if let Some(problem) = name::label_value(value).first() {
            return Err(parse_error(format!(
                "values[0][{}]: Invalid value: {value:?}: {problem}",
                requirement.key
            )));
        }
    }
    Ok(())
}
