//! A ValidatingAdmissionPolicy, compiled, and what it says of a request.

use std::sync::Arc;

use serde_json::Value as Json;

use super::condition::{Conditions, Matched};
use super::environment::Environment;
use super::expression::{Expression, Input, Variable};
use super::fails;
use super::rule::MatchResources;
use crate::cel::{Evaluation, MESSAGE_BYTES_MAX, OBJECT_COST_MAX, Value};

/// The kind of a policy's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ParamKind {
    pub api_version: String,
    pub kind: String,
}

impl ParamKind {
    pub(super) fn read(spec: &Json) -> Option<Self> {
        let kind = &spec["paramKind"];
        let word = |field: &str| kind[field].as_str().unwrap_or_default().to_string();
        kind.is_object().then(|| Self {
            api_version: word("apiVersion"),
            kind: word("kind"),
        })
    }

    /// As errors show it.
    pub fn shown(&self) -> String {
        let (group, version) = self
            .api_version
            .rsplit_once('/')
            .unwrap_or(("", &self.api_version));
        format!("{group}/{version}, Kind={}", self.kind)
    }
}

/// See the module.
#[derive(Debug)]
pub struct ValidatingPolicy {
    /// Its name.
    pub name: Box<str>,
    /// What it is about.
    pub constraints: MatchResources,
    /// Of its parameters, where it has any.
    pub param_kind: Option<ParamKind>,
    /// Whether what goes wrong refuses the request.
    pub fails: bool,
    conditions: Conditions,
    variables: Box<[Variable]>,
    validations: Box<[Validation]>,
    audits: Box<[(Box<str>, Expression)]>,
}

#[derive(Debug)]
struct Validation {
    expression: Expression,
    message: Box<str>,
    message_expression: Option<Expression>,
    reason: Box<str>,
}

/// What one validation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is against the request.
    pub denied: bool,
    /// Why.
    pub message: String,
    /// Of the refusal; empty for the usual one.
    pub reason: String,
}

/// What one audit annotation says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AuditAnnotation {
    Publish {
        key: String,
        value: String,
    },
    /// It could not be evaluated, and that refuses the request.
    Failed(String),
}

/// What a policy says with one set of parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// One for each validation.
    pub decisions: Vec<Decision>,
    /// What is to be written into the audit log.
    pub audits: Vec<AuditAnnotation>,
}

impl ValidatingPolicy {
    /// Compiles a policy; expressions that do not compile show when it is evaluated.
    pub fn read(text: &Json) -> Arc<Self> {
        let spec = &text["spec"];
        let fails = fails(spec);
        let param_kind = ParamKind::read(spec);
        let mut environment = Environment::plain(param_kind.is_some());
        let variables = Variable::all(&spec["variables"], &mut environment);
        let conditions = Conditions::read(&spec["matchConditions"], fails, &environment);
        let word = |value: &Json| value.as_str().unwrap_or_default().to_string();
        let mut unauthorized = environment.clone();
        unauthorized.authorizer = false;
        let validations = spec["validations"].as_array().into_iter().flatten();
        let validations = validations.map(|one| Validation {
            expression: Expression::compile(&word(&one["expression"]), &environment, &["bool"]),
            message: word(&one["message"]).trim().into(),
            message_expression: one["messageExpression"]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(|text| Expression::compile(text, &unauthorized, &["string"])),
            reason: word(&one["reason"]).into(),
        });
        let audits = spec["auditAnnotations"].as_array().into_iter().flatten();
        let audits = audits.map(|one| {
            let text = word(&one["valueExpression"]);
            let expression = Expression::compile(&text, &environment, &["string", "null_type"]);
            (word(&one["key"]).into(), expression)
        });
        Arc::new(Self {
            name: word(&text["metadata"]["name"]).into(),
            constraints: MatchResources::read(&spec["matchConstraints"]),
            fails,
            conditions,
            validations: validations.collect(),
            audits: audits.collect(),
            variables,
            param_kind,
        })
    }

    /// Judges a request.
    pub fn judge(&self, input: &Input<'_>) -> Judgement {
        match self.conditions.hold_with(input, &self.variables) {
            Matched::No => return Judgement::default(),
            Matched::Failed(why) => return self.broken(why),
            Matched::Yes => {}
        }
        let mut evaluation = input.evaluation(&self.variables);
        let mut budget = OBJECT_COST_MAX;
        let mut decisions = Vec::with_capacity(self.validations.len());
        for one in &self.validations {
            match one.expression.evaluate(&mut evaluation, &mut budget) {
                Ok(Ok(Value::Bool(true))) => decisions.push(self.decision(String::new(), false)),
                Ok(Ok(_)) => decisions.push(self.refusal(one, &mut evaluation, &mut budget)),
                Ok(Err(why)) => decisions.push(self.decision(why, self.fails)),
                Err(why) => return self.broken(why),
            }
        }
        let mut budget = OBJECT_COST_MAX;
        let mut audits = Vec::new();
        for (key, expression) in &self.audits {
            match expression.evaluate(&mut evaluation, &mut budget) {
                Err(why) => return self.broken(why),
                Ok(value) => audits.extend(self.audit(key, expression, value)),
            }
        }
        Judgement { decisions, audits }
    }

    fn decision(&self, message: String, denied: bool) -> Decision {
        Decision {
            denied,
            message,
            reason: String::new(),
        }
    }

    /// Nothing could be evaluated.
    fn broken(&self, why: String) -> Judgement {
        Judgement {
            decisions: vec![self.decision(why, self.fails)],
            audits: Vec::new(),
        }
    }

    fn refusal<'a>(&self, one: &Validation, evaluation: &mut Evaluation<'a>, budget: &mut u64) -> Decision {
        let made = match one
            .message_expression
            .as_ref()
            .map(|text| text.evaluate(evaluation, budget))
        {
            Some(Err(why)) => {
                return self.decision(format!("failed messageExpression: {why}"), self.fails);
            }
            Some(Ok(Ok(Value::String(text)))) => text.trim().to_string(),
            _ => String::new(),
        };
        let fits = !made.is_empty() && made.len() <= MESSAGE_BYTES_MAX && !made.contains('\n');
        let message = match (fits, one.message.is_empty()) {
            (true, _) => made,
            (false, false) => one.message.to_string(),
            (false, true) => format!("failed expression: {}", one.expression.text.trim()),
        };
        let reason = match &*one.reason {
            "" => "Invalid",
            reason => reason,
        };
        Decision {
            denied: true,
            message,
            reason: reason.to_string(),
        }
    }

    fn audit(
        &self,
        key: &str,
        expression: &Expression,
        value: Result<Value<'_>, String>,
    ) -> Option<AuditAnnotation> {
        match value {
            Ok(Value::String(text)) => {
                let value = text.trim().to_string();
                let key = key.to_string();
                (!value.is_empty()).then_some(AuditAnnotation::Publish { key, value })
            }
            Ok(Value::Null) => None,
            Ok(other) => Some(AuditAnnotation::Failed(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string \
                 or null.",
                expression.text,
                other.type_name()
            ))),
            Err(why) => self.fails.then_some(AuditAnnotation::Failed(why)),
        }
    }
}
