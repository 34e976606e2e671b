//! `authorizer`: what an expression may ask about who may do what.
//! Invariants: it only gathers the question; the answer is the host's, given by a function, so that this crate
//! knows no rules of access. Each answer costs what the original counts for it.

use std::fmt;
use std::rc::Rc;

use super::eval::{Evaluation, Outcome, error, no_overload};
use super::value::Value;
use crate::name;

/// Units that one answer costs, as in the original.
const ANSWER_COST: usize = 350_000;

/// Who is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Subject {
    /// Who sent the request.
    #[default]
    Requester,
    /// A service account, by namespace and name.
    ServiceAccount(String, String),
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Question {
    pub subject: Subject,
    pub verb: String,
    /// Of what is no resource; the rest is empty then.
    pub path: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

/// What the host says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Answer {
    pub allowed: bool,
    pub reason: String,
    /// Empty where there was none.
    pub error: String,
}

#[derive(Debug, Clone)]
enum Step {
    Authorizer,
    Path,
    Group,
    Resource,
    Decision(Answer),
}

/// A question on its way, or its answer.
#[derive(Clone)]
pub struct Access<'a> {
    ask: Rc<dyn Fn(&Question) -> Answer + 'a>,
    step: Step,
    question: Question,
    /// About the resource of the request itself.
    request: Rc<Question>,
}

impl fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?})", self.step, self.question)
    }
}

impl<'a> Access<'a> {
    /// The value of `authorizer`; `request` names the resource of the request.
    pub fn new(request: Question, ask: impl Fn(&Question) -> Answer + 'a) -> Self {
        Self {
            ask: Rc::new(ask),
            step: Step::Authorizer,
            question: Question::default(),
            request: Rc::new(request),
        }
    }

    /// `authorizer.requestResource`.
    pub(super) fn member(&self, field: &str) -> Option<Value<'a>> {
        let whole = matches!(self.step, Step::Authorizer) && field == "requestResource";
        whole.then(|| self.on(Step::Resource, (*self.request).clone()))
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self.step {
            Step::Authorizer => "kubernetes.authorization.Authorizer",
            Step::Path => "kubernetes.authorization.PathCheck",
            Step::Group => "kubernetes.authorization.GroupCheck",
            Step::Resource => "kubernetes.authorization.ResourceCheck",
            Step::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    fn on(&self, step: Step, question: Question) -> Value<'a> {
        Value::Access(Rc::new(Self {
            step,
            question,
            ..self.clone()
        }))
    }

    pub(super) fn call(&self, on: &mut Evaluation<'a>, name: &str, args: &[Value<'a>]) -> Outcome<'a> {
        let mut texts = Vec::with_capacity(args.len());
        for arg in args {
            match arg {
                Value::String(text) => texts.push(text.to_string()),
                _ => return no_overload(),
            }
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut question = self.question.clone();
        match (&self.step, name, texts.as_slice()) {
            (Step::Authorizer, "path", [path]) if path.trim().is_empty() => error("path must not be empty"),
            (Step::Authorizer, "path", [path]) => {
                question.path = (*path).to_string();
                Ok(self.on(Step::Path, question))
            }
            (Step::Authorizer, "group", [group]) => {
                question.group = (*group).to_string();
                Ok(self.on(Step::Group, question))
            }
            (Step::Authorizer, "serviceAccount", [namespace, account]) => {
                if !name::dns1123_subdomain(account).is_empty() {
                    return error("Invalid service account name");
                }
                if !name::dns1123_label(namespace).is_empty() {
                    return error("Invalid service account namespace");
                }
                question.subject = Subject::ServiceAccount((*namespace).to_string(), (*account).to_string());
                Ok(self.on(Step::Authorizer, question))
            }
            (Step::Group, "resource", [resource]) if resource.trim().is_empty() => {
                error("resource must not be empty")
            }
            (Step::Group, "resource", [resource]) => {
                question.resource = (*resource).to_string();
                Ok(self.on(Step::Resource, question))
            }
            (Step::Resource, "check", [verb]) | (Step::Path, "check", [verb]) => {
                on.pay(ANSWER_COST)?;
                question.verb = (*verb).to_string();
                let answer = (self.ask)(&question);
                Ok(self.on(Step::Decision(answer), question))
            }
            (Step::Resource, _, [text]) => {
                let field = match name {
                    "subresource" => &mut question.subresource,
                    "namespace" => &mut question.namespace,
                    "name" => &mut question.name,
                    "fieldSelector" => &mut question.field_selector,
                    "labelSelector" => &mut question.label_selector,
                    _ => return no_overload(),
                };
                *field = (*text).to_string();
                Ok(self.on(Step::Resource, question))
            }
            (Step::Decision(answer), _, []) => Ok(match name {
                "allowed" => Value::Bool(answer.allowed),
                "reason" => Value::text(answer.reason.clone()),
                "errored" => Value::Bool(!answer.error.is_empty()),
                "error" => Value::text(answer.error.clone()),
                _ => return no_overload(),
            }),
            _ => no_overload(),
        }
    }
}
