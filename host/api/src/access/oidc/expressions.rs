//! What an AuthenticationConfiguration says in CEL: how claims become a user, and what must hold of both.
//!
//! Compiled when the file is read, so that a mistake shows at start; evaluated for each token within the
//! original's budget for one expression. Words are the original's. Pure.

use capstan_kinds::cel::{self, CALL_COST_MAX, Evaluation, Failure, Node, Type};
use serde_json::{Value, json};

use super::super::UserInfo;

/// Which variable an expression is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum About {
    /// `claims`, of the token.
    Claims,
    /// `user`, as it was made of them.
    User,
}

impl About {
    fn variable(self) -> (&'static str, Type<'static>) {
        let text = || Type::Plain("string");
        let texts = || Type::List(text().into());
        match self {
            About::Claims => ("claims", Type::Map(Type::Dyn.into())),
            About::User => {
                let fields = [
                    ("username", text()),
                    ("uid", text()),
                    ("groups", texts()),
                    ("extra", Type::Map(texts().into())),
                ];
                let fields = fields.map(|(name, kind)| (name.to_owned(), kind));
                ("user", Type::Fields(fields.into()))
            }
        }
    }
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    text: Box<str>,
    about: &'static str,
    node: Node,
}

/// A condition, with what is said where it does not hold.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) expression: Expression,
    pub(super) message: Box<str>,
}

/// All expressions of a provider.
#[derive(Debug, Clone, Default)]
pub struct Expressions {
    pub(super) username: Option<Expression>,
    pub(super) groups: Option<Expression>,
    pub(super) uid: Option<Expression>,
    pub(super) extra: Vec<(String, Expression)>,
    pub(super) claim_rules: Vec<Rule>,
    pub(super) user_rules: Vec<Rule>,
}

impl Expression {
    /// Reads and judges a text; says why it cannot be used.
    pub(super) fn compile(text: &str, about: About, condition: bool) -> Result<Self, String> {
        let failed = |problem: cel::Problem| format!("compilation failed: {}", problem.shown(text));
        let (name, kind) = about.variable();
        let node = cel::parse(text).map_err(failed)?;
        let made = cel::check_types(&node, &[(name, kind)], false).map_err(failed)?;
        if condition && !matches!(made, Type::Dyn | Type::Plain("bool")) {
            return Err("must evaluate to bool".to_owned());
        }
        Ok(Self {
            text: text.into(),
            about: name,
            node,
        })
    }

    /// Whether it looks at a claim.
    pub(super) fn uses(&self, claim: &str) -> bool {
        selects(&self.node, self.about, claim)
    }

    fn value<'a>(&self, of: &'a Value) -> Result<cel::Value<'a>, String> {
        let variables = vec![(self.about, cel::Value::json(of, None))];
        let outcome = Evaluation::new(variables, CALL_COST_MAX).value(&self.node);
        outcome.map_err(|failure| {
            let why = match failure {
                Failure::Error(why) => why,
                Failure::OverBudget => "operation cancelled: actual cost limit exceeded".to_owned(),
            };
            format!("expression '{}' resulted in error: {why}", self.text)
        })
    }

    pub(super) fn username(&self, claims: &Value) -> Result<String, String> {
        let name = self.text(claims, "username")?;
        if name.is_empty() {
            return Err("empty username via CEL expression is not allowed".to_owned());
        }
        Ok(name)
    }

    /// A text; `what` is what it is to be.
    pub(super) fn text(&self, claims: &Value, what: &str) -> Result<String, String> {
        let at = |why: String| format!("error evaluating {what} claim expression: {why}");
        match self.value(claims).map_err(at)? {
            cel::Value::String(text) => Ok(text.into_owned()),
            _ => Err(at(format!("{what} claim expression must return a string"))),
        }
    }

    /// A text or a list of them; empty ones are none.
    pub(super) fn texts(&self, claims: &Value, what: &str) -> Result<Vec<String>, String> {
        let at = |why: String| format!("error evaluating {what} claim expression: {why}");
        let wrong = || at("expression must return a string or a list of strings".to_owned());
        let value = self.value(claims).map_err(at)?;
        let items = match value {
            cel::Value::Null => Vec::new(),
            one @ cel::Value::String(_) => vec![one],
            list => list.items().ok_or_else(wrong)?,
        };
        let texts = items.into_iter().map(|item| match item {
            cel::Value::String(text) => Ok(text.into_owned()),
            _ => Err(wrong()),
        });
        let mut texts = texts.collect::<Result<Vec<_>, _>>()?;
        texts.retain(|text| !text.is_empty());
        Ok(texts)
    }
}

fn selects(node: &Node, of: &str, field: &str) -> bool {
    let own = match &node.expr {
        cel::Expr::Select {
            of: on, field: name, ..
        } => name == field && matches!(&on.expr, cel::Expr::Ident(variable) if variable == of),
        _ => false,
    };
    own || node.children().into_iter().any(|child| selects(child, of, field))
}

impl Expressions {
    pub(super) fn extra(&self, claims: &Value) -> Result<Vec<(String, Vec<String>)>, String> {
        let mut extra = Vec::new();
        for (key, expression) in &self.extra {
            let values = expression.texts(claims, "extra")?;
            if !values.is_empty() {
                extra.push((key.clone(), values));
            }
        }
        Ok(extra)
    }

    pub(super) fn validate(&self, claims: &Value, user: &UserInfo) -> Result<(), String> {
        check(&self.claim_rules, claims)
            .map_err(|why| format!("error evaluating claim validation expression: {why}"))?;
        if self.user_rules.is_empty() {
            return Ok(());
        }
        let extra: serde_json::Map<String, Value> = user
            .extra
            .iter()
            .map(|(key, values)| (key.clone(), json!(values)))
            .collect();
        let seen = json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": extra});
        check(&self.user_rules, &seen)
            .map_err(|why| format!("error evaluating user info validation rule: {why}"))
    }
}

fn check(rules: &[Rule], of: &Value) -> Result<(), String> {
    for rule in rules {
        match rule.expression.value(of)? {
            cel::Value::Bool(true) => {}
            cel::Value::Bool(false) => {
                let (text, message) = (&rule.expression.text, &rule.message);
                return Err(format!("validation expression '{text}' failed: {message}"));
            }
            _ => return Err("validation expression must return a boolean".to_owned()),
        }
    }
    Ok(())
}

/// Claims as expressions see them: every number of a token is a double.
pub(super) fn numbers_as_doubles(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(list) => list.iter().map(numbers_as_doubles).collect(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), numbers_as_doubles(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}
