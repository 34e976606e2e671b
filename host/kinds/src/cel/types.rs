//! Judging an expression before it is run: names and fields that are not there, operators between types that
//! do not fit, a result of the wrong type.
//! Invariants: only what is surely wrong is refused; where a type is not known (`dyn`), running tells. The
//! original's checker knows the type of everything; this one knows what the schema says and what operators
//! and the common functions give.

use std::collections::HashMap;

use super::eval::unescape;
use super::functions;
use super::signatures::{AUTHORIZER, RESOURCE_CHECK, access_result, member_of_message, result_of};
use super::tree::{Expr, Literal, Loop, Node, Operator, Problem};
use crate::custom::{Additional, Schema, Type as Json};

/// What is known of a value.
#[derive(Debug, Clone)]
pub enum Type<'a> {
    /// Nothing.
    Dyn,
    /// A type by the name that errors call it.
    Plain(&'static str),
    /// Items of one type.
    List(Box<Type<'a>>),
    /// Keys are texts.
    Map(Box<Type<'a>>),
    /// An object of known fields; whether it is a whole resource.
    Object(&'a Schema, bool),
    /// The metadata of a resource, of which only the names may be asked.
    Metadata,
    /// Variables of the policy, each with its type.
    Fields(Vec<(String, Type<'a>)>),
    /// An object that the expression makes, by the name of its type.
    Message(String),
    /// Perhaps a value.
    Optional(Box<Type<'a>>),
}

impl<'a> Type<'a> {
    /// What a schema says of its values.
    pub fn of(schema: &'a Schema, resource: bool) -> Self {
        if schema.int_or_string {
            return Type::Dyn;
        }
        match schema.kind {
            None => Type::Dyn,
            Some(Json::Boolean) => Type::Plain("bool"),
            Some(Json::Integer) => Type::Plain("int"),
            Some(Json::Number) => Type::Plain("double"),
            Some(Json::String) => Type::Plain(match schema.format() {
                Some("byte") => "bytes",
                Some("date" | "date-time") => "google.protobuf.Timestamp",
                Some("duration") => "google.protobuf.Duration",
                _ => "string",
            }),
            Some(Json::Array) => {
                let items = schema
                    .items
                    .as_ref()
                    .map_or(Type::Dyn, |items| Type::of(items, items.embedded));
                Type::List(items.into())
            }
            Some(Json::Object) => match &schema.additional {
                Additional::Schema(values) => Type::Map(Type::of(values, values.embedded).into()),
                Additional::Any => Type::Map(Type::Dyn.into()),
                _ if schema.properties.is_empty() && schema.preserve && !resource => Type::Dyn,
                _ => Type::Object(schema, resource || schema.embedded),
            },
        }
    }

    /// By what name errors call it.
    pub fn name(&self) -> String {
        match self {
            Type::Dyn => "dyn".to_string(),
            Type::Plain(name) => (*name).to_string(),
            Type::List(items) => format!("list({})", items.name()),
            Type::Map(values) => format!("map(string, {})", values.name()),
            Type::Object(..) | Type::Metadata | Type::Fields(_) => "object".to_string(),
            Type::Message(name) => name.clone(),
            Type::Optional(inner) => format!("optional_type({})", inner.name()),
        }
    }

    fn member(&self, field: &str) -> Option<Type<'a>> {
        match self {
            Type::Object(schema, resource) => {
                let own = schema.property(field).map(|one| (one, field.to_string()));
                let own = own.or_else(|| {
                    let name = unescape(field)?;
                    schema.property(&name).map(|one| (one, name))
                });
                match field {
                    "apiVersion" | "kind" if *resource => Some(Type::Plain("string")),
                    "metadata" if *resource => Some(Type::Metadata),
                    _ => own.map(|(one, _)| Type::of(one, false)),
                }
            }
            Type::Metadata => matches!(field, "name" | "generateName").then_some(Type::Plain("string")),
            Type::Map(values) => Some((**values).clone()),
            Type::Optional(inner) => inner.member(field).map(|inner| Type::Optional(inner.into())),
            Type::Dyn => Some(Type::Dyn),
            Type::Fields(fields) => fields
                .iter()
                .find(|(name, _)| name == field)
                .map(|(_, kind)| kind.clone()),
            Type::Message(name) => member_of_message(name, field),
            Type::Plain(AUTHORIZER) if field == "requestResource" => Some(Type::Plain(RESOURCE_CHECK)),
            _ => None,
        }
    }

    fn is(&self, names: &[&str]) -> bool {
        match self {
            Type::Dyn => true,
            Type::Plain(name) => names.contains(name),
            Type::List(_) => names.contains(&"list"),
            Type::Map(_) => names.contains(&"map"),
            _ => false,
        }
    }

    /// Whether values of the two may be equal at all.
    fn meets(&self, other: &Type<'a>) -> bool {
        let number = |one: &Type<'_>| matches!(one, Type::Plain("int" | "uint" | "double"));
        let null = |one: &Type<'_>| matches!(one, Type::Plain("null_type"));
        match (self, other) {
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (a, b) if null(a) || null(b) => !number(a) && !number(b) || (null(a) && null(b)),
            (Type::Plain(a), Type::Plain(b)) => a == b,
            (Type::List(a), Type::List(b)) | (Type::Map(a), Type::Map(b)) => a.meets(b),
            (Type::Optional(a), Type::Optional(b)) => a.meets(b),
            (
                Type::Object(..) | Type::Metadata | Type::Map(_) | Type::Message(_) | Type::Fields(_),
                Type::Object(..) | Type::Metadata | Type::Map(_) | Type::Message(_) | Type::Fields(_),
            ) => true,
            _ => false,
        }
    }
}

/// Judges an expression; gives its type. Objects can be made only where `messages` says so.
pub fn check<'a>(node: &Node, variables: &[(&str, Type<'a>)], messages: bool) -> Result<Type<'a>, Problem> {
    Checker::new(variables, messages).kind(node)
}

/// The type of every node of an expression that was judged, for as long as the expression stands where it does.
#[derive(Debug, Default)]
pub struct Types<'a>(HashMap<*const Node, Type<'a>>);

impl<'a> Types<'a> {
    /// Judges an expression as [`check`] does, and remembers what it finds.
    pub fn of(node: &Node, variables: &[(&str, Type<'a>)]) -> Result<Self, Problem> {
        let mut checker = Checker::new(variables, false);
        checker.seen = Some(HashMap::new());
        checker.kind(node)?;
        Ok(Self(checker.seen.unwrap_or_default()))
    }

    /// The type of a node of it.
    pub fn get(&self, node: &Node) -> &Type<'a> {
        self.0.get(&std::ptr::from_ref(node)).unwrap_or(&Type::Dyn)
    }
}

struct Checker<'a> {
    variables: Vec<(String, Type<'a>)>,
    messages: bool,
    seen: Option<HashMap<*const Node, Type<'a>>>,
}

fn problem<T>(node: &Node, message: String) -> Result<T, Problem> {
    Err(Problem { at: node.at, message })
}

impl<'a> Checker<'a> {
    fn new(variables: &[(&str, Type<'a>)], messages: bool) -> Self {
        let variables = variables
            .iter()
            .map(|(name, kind)| ((*name).to_string(), kind.clone()))
            .collect();
        Self {
            variables,
            messages,
            seen: None,
        }
    }

    fn kind(&mut self, node: &Node) -> Result<Type<'a>, Problem> {
        let kind = self.kind_of(node)?;
        if let Some(seen) = &mut self.seen {
            seen.insert(node, kind.clone());
        }
        Ok(kind)
    }

    fn kind_of(&mut self, node: &Node) -> Result<Type<'a>, Problem> {
        Ok(match &node.expr {
            Expr::Literal(literal) => Type::Plain(match literal {
                Literal::Null => "null_type",
                Literal::Bool(_) => "bool",
                Literal::Int(_) => "int",
                Literal::Uint(_) => "uint",
                Literal::Double(_) => "double",
                Literal::String(_) => "string",
                Literal::Bytes(_) => "bytes",
            }),
            Expr::Ident(name) => match self.variables.iter().rev().find(|(one, _)| one == name) {
                Some((_, kind)) => kind.clone(),
                None if functions::type_named(name).is_some() => Type::Plain("type"),
                None => {
                    return problem(
                        node,
                        format!("undeclared reference to '{name}' (in container '')"),
                    );
                }
            },
            Expr::Select { of, field, optional } => {
                let kind = self.field(node, of, field)?;
                match (kind, optional) {
                    (kind @ Type::Optional(_), _) | (kind, false) => kind,
                    (kind, true) => Type::Optional(kind.into()),
                }
            }
            Expr::Has { of, field } => {
                self.field(node, of, field)?;
                Type::Plain("bool")
            }
            Expr::Index { of, index, optional } => self.index(node, of, index, *optional)?,
            Expr::List(items) => {
                let mut kinds = Vec::new();
                for (item, optional) in items {
                    let kind = self.kind(item)?;
                    kinds.push(if *optional { Type::Dyn } else { kind });
                }
                Type::List(common(kinds).into())
            }
            Expr::Map(entries) => {
                let mut kinds = Vec::new();
                for (key, value, optional) in entries {
                    self.kind(key)?;
                    let kind = self.kind(value)?;
                    kinds.push(if *optional { Type::Dyn } else { kind });
                }
                Type::Map(common(kinds).into())
            }
            Expr::Message { name, fields } => self.message(node, name, fields)?,
            Expr::Call { target, name, args } => self.call(node, target.as_deref(), name, args)?,
            Expr::Not(of) => self.all_bool(node, "!_", &[of])?,
            Expr::Negate(of) => self.kind(of)?,
            Expr::And(left, right) => self.all_bool(node, "_&&_", &[left, right])?,
            Expr::Or(left, right) => self.all_bool(node, "_||_", &[left, right])?,
            Expr::Binary(operator, left, right) => self.operate(node, *operator, left, right)?,
            Expr::Conditional(condition, yes, no) => {
                self.all_bool(node, "_?_:_", &[condition])?;
                common(vec![self.kind(yes)?, self.kind(no)?])
            }
            Expr::Loop {
                kind,
                over,
                names,
                filter,
                body,
            } => self.iterate(node, *kind, over, names, filter.as_deref(), body)?,
            Expr::OptMap { of, name, body, flat } => {
                let inner = match self.kind(of)? {
                    Type::Optional(inner) => *inner,
                    _ => Type::Dyn,
                };
                let kind = self.with(vec![(name.clone(), inner)], body)?;
                if *flat { kind } else { Type::Optional(kind.into()) }
            }
        })
    }

    fn with(&mut self, variables: Vec<(String, Type<'a>)>, body: &Node) -> Result<Type<'a>, Problem> {
        let before = self.variables.len();
        self.variables.extend(variables);
        let kind = self.kind(body);
        self.variables.truncate(before);
        kind
    }

    fn field(&mut self, node: &Node, of: &Node, field: &str) -> Result<Type<'a>, Problem> {
        let kind = self.kind(of)?;
        match (kind.member(field), &kind) {
            (Some(member), _) => Ok(member),
            (
                None,
                Type::Object(..) | Type::Metadata | Type::Optional(_) | Type::Fields(_) | Type::Message(_),
            ) => problem(node, format!("undefined field '{field}'")),
            (None, kind) => problem(
                node,
                format!("type '{}' does not support field selection", kind.name()),
            ),
        }
    }

    fn message(
        &mut self,
        node: &Node,
        name: &str,
        fields: &[(String, Node, bool)],
    ) -> Result<Type<'a>, Problem> {
        let known = name == "JSONPatch" || name == "Object" || name.starts_with("Object.");
        if !self.messages || !known {
            return problem(
                node,
                format!("undeclared reference to '{name}' (in container '')"),
            );
        }
        for (field, value, optional) in fields {
            let kind = self.kind(value)?;
            let Some(wanted) = member_of_message(name, field) else {
                return problem(value, format!("undefined field '{field}'"));
            };
            if !optional && !wanted.meets(&kind) {
                let message = format!(
                    "expected type of field '{field}' is '{}' but provided type is '{}'",
                    wanted.name(),
                    kind.name()
                );
                return problem(value, message);
            }
        }
        Ok(Type::Message(name.to_string()))
    }

    fn index(&mut self, node: &Node, of: &Node, index: &Node, optional: bool) -> Result<Type<'a>, Problem> {
        let (of, index) = (self.kind(of)?, self.kind(index)?);
        let (of, optional) = match of {
            Type::Optional(inner) => (*inner, true),
            other => (other, optional),
        };
        let found = match &of {
            Type::List(items) if index.is(&["int", "uint", "double"]) => (**items).clone(),
            Type::Map(values) => (**values).clone(),
            Type::Dyn | Type::Object(..) | Type::Fields(_) | Type::Message(_) => Type::Dyn,
            _ => return mismatch(node, "_[_]", &[&of, &index]),
        };
        Ok(if optional {
            Type::Optional(found.into())
        } else {
            found
        })
    }

    fn all_bool(&mut self, node: &Node, name: &str, parts: &[&Node]) -> Result<Type<'a>, Problem> {
        let kinds: Vec<Type<'a>> = parts
            .iter()
            .map(|part| self.kind(part))
            .collect::<Result<_, _>>()?;
        if kinds.iter().all(|kind| kind.is(&["bool"])) {
            return Ok(Type::Plain("bool"));
        }
        mismatch(node, name, &kinds.iter().collect::<Vec<_>>())
    }

    fn operate(
        &mut self,
        node: &Node,
        operator: Operator,
        left: &Node,
        right: &Node,
    ) -> Result<Type<'a>, Problem> {
        const TIME: &str = "google.protobuf.Timestamp";
        const SPAN: &str = "google.protobuf.Duration";
        let (a, b) = (self.kind(left)?, self.kind(right)?);
        let same = a.meets(&b);
        let numeric = ["int", "uint", "double"];
        let fits = match operator {
            Operator::Equal | Operator::NotEqual => same,
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                let comparable = ["bool", "int", "uint", "double", "string", "bytes", TIME, SPAN];
                (same && a.is(&comparable) && b.is(&comparable)) || (a.is(&numeric) && b.is(&numeric))
            }
            Operator::In => match &b {
                Type::List(items) => items.meets(&a),
                Type::Map(_) | Type::Dyn => true,
                _ => false,
            },
            Operator::Add => {
                (same && a.is(&["int", "uint", "double", "string", "bytes", "list", SPAN]))
                    || (a.is(&[TIME, SPAN]) && b.is(&[TIME, SPAN]))
            }
            Operator::Subtract => {
                (same && a.is(&["int", "uint", "double", TIME, SPAN])) || (a.is(&[TIME]) && b.is(&[SPAN]))
            }
            Operator::Multiply | Operator::Divide => same && a.is(&numeric),
            Operator::Remainder => same && a.is(&["int", "uint"]),
        };
        if !fits {
            return mismatch(node, operator.name(), &[&a, &b]);
        }
        Ok(match operator {
            Operator::Add => match (a, b) {
                (Type::Plain(TIME), _) | (_, Type::Plain(TIME)) => Type::Plain(TIME),
                (Type::Dyn, other) | (other, _) => other,
            },
            Operator::Subtract => match (&a, &b) {
                (Type::Plain(TIME), Type::Plain(TIME)) => Type::Plain(SPAN),
                (Type::Dyn, Type::Plain(SPAN | TIME)) => Type::Dyn,
                _ => common(vec![a, b]),
            },
            Operator::Multiply | Operator::Divide | Operator::Remainder => common(vec![a, b]),
            _ => Type::Plain("bool"),
        })
    }

    fn iterate(
        &mut self,
        node: &Node,
        kind: Loop,
        over: &Node,
        names: &[String],
        filter: Option<&Node>,
        body: &Node,
    ) -> Result<Type<'a>, Problem> {
        let over = self.kind(over)?;
        let (key, value) = match &over {
            Type::List(items) if names.len() == 2 => (Type::Plain("int"), (**items).clone()),
            Type::List(items) => ((**items).clone(), Type::Dyn),
            Type::Map(values) => (Type::Plain("string"), (**values).clone()),
            Type::Object(..) | Type::Fields(_) => (Type::Plain("string"), Type::Dyn),
            Type::Dyn => (Type::Dyn, Type::Dyn),
            other => {
                let message = format!(
                    "expression of type '{}' cannot be range of a comprehension (must be list, map, or dynamic)",
                    other.name()
                );
                return problem(node, message);
            }
        };
        let bound: Vec<(String, Type<'a>)> = names.iter().cloned().zip([key.clone(), value]).collect();
        if let Some(filter) = filter {
            self.with(bound.clone(), filter)?;
        }
        let result = self.with(bound, body)?;
        if !matches!(kind, Loop::Map | Loop::TransformList | Loop::TransformMap) && !result.is(&["bool"]) {
            return mismatch(node, "_?_:_", &[&result]);
        }
        Ok(match kind {
            Loop::All | Loop::Exists | Loop::ExistsOne => Type::Plain("bool"),
            Loop::Map | Loop::TransformList => Type::List(result.into()),
            Loop::TransformMap => Type::Map(result.into()),
            Loop::Filter => Type::List(key.into()),
        })
    }

    fn call(
        &mut self,
        node: &Node,
        target: Option<&Node>,
        name: &str,
        args: &[Node],
    ) -> Result<Type<'a>, Problem> {
        let space = match target.map(|target| &target.expr) {
            Some(Expr::Ident(space))
                if functions::is_namespace(space) && !self.variables.iter().any(|(one, _)| one == space) =>
            {
                Some(space.as_str())
            }
            _ => None,
        };
        let receiver = match target {
            Some(target) if space.is_none() => Some(self.kind(target)?),
            _ => None,
        };
        let kinds: Vec<Type<'a>> = args.iter().map(|arg| self.kind(arg)).collect::<Result<_, _>>()?;
        let full = space.map_or_else(|| name.to_string(), |space| format!("{space}.{name}"));
        let access = match &receiver {
            Some(Type::Plain(receiver)) if receiver.starts_with("kubernetes.authorization.") => {
                let result =
                    access_result(receiver, name).filter(|_| kinds.iter().all(|kind| kind.is(&["string"])));
                match result {
                    Some(result) => Some(result),
                    None => {
                        let all: Vec<Type<'a>> =
                            std::iter::once(Type::Plain(receiver)).chain(kinds).collect();
                        return mismatch(node, name, &all.iter().collect::<Vec<_>>());
                    }
                }
            }
            _ => None,
        };
        let Some(result) = access.or_else(|| result_of(&full, receiver.as_ref(), &kinds)) else {
            return problem(
                node,
                format!("undeclared reference to '{full}' (in container '')"),
            );
        };
        let texts = [
            "contains",
            "startsWith",
            "endsWith",
            "matches",
            "split",
            "replace",
            "lowerAscii",
            "upperAscii",
        ];
        if let Some(receiver) = &receiver
            && texts.contains(&name)
            && !(receiver.is(&["string"]) && kinds.iter().all(|kind| kind.is(&["string", "int"])))
        {
            let all: Vec<&Type<'a>> = std::iter::once(receiver).chain(&kinds).collect();
            return mismatch(node, name, &all);
        }
        let sized = ["string", "bytes", "list", "map"];
        if let (None, "size", [one]) = (&receiver, name, kinds.as_slice())
            && !one.is(&sized)
            && !matches!(one, Type::Object(..))
        {
            return mismatch(node, name, &[one]);
        }
        Ok(result)
    }
}

fn mismatch<T>(node: &Node, name: &str, kinds: &[&Type<'_>]) -> Result<T, Problem> {
    let names: Vec<String> = kinds.iter().map(|kind| kind.name()).collect();
    let names = names.join(", ");
    problem(
        node,
        format!("found no matching overload for '{name}' applied to '({names})'"),
    )
}

/// The type of all, if they have one.
fn common(kinds: Vec<Type<'_>>) -> Type<'_> {
    let mut rest = kinds.into_iter();
    let Some(first) = rest.next() else {
        return Type::Dyn;
    };
    for one in rest {
        let same = match (&first, &one) {
            (Type::Plain(a), Type::Plain(b)) => a == b,
            (Type::Dyn, _) | (_, Type::Dyn) => false,
            (a, b) => a.name() == b.name(),
        };
        if !same {
            return Type::Dyn;
        }
    }
    first
}
