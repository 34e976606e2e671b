//! What an expression can cost at worst, told before it is stored: the original's static estimate.
//!
//! Every node is walked once with what is known of the size of its value: of literals by counting, of fields by
//! asking (`most` knows the schema), of what functions make by theirs (`calls`). The figures are part of the
//! API: a definition that the original takes is taken, so its oddities are kept, such as a path that starts at
//! an unknown value and is looked up from the root all the same. Called by `custom::rule`. Left out: lower
//! bounds of costs, and the macros' optional branches beyond what the original counts. Pure.

mod calls;
mod size;

use std::collections::HashMap;

pub use self::size::Size;
use super::tree::{Expr, Literal, Loop, Node, Operator};
use super::types::{Type, Types};

/// Units for each list that is made.
const LIST_COST: u64 = 10;
/// Units for each map that is made.
const MAP_COST: u64 = 30;
/// Units for each object that is made.
const MESSAGE_COST: u64 = 40;

/// A field's way from a variable: its name, then fields, `@items`, `@keys` and `@values`.
type Path = Vec<String>;

/// Units that a judged expression costs at most. `most` gives the elements of the value that a path leads to.
pub fn estimate(node: &Node, types: &Types<'_>, most: &dyn Fn(&[String]) -> Option<u64>) -> u64 {
    let mut estimate = Estimate {
        types,
        most,
        locals: Vec::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        paths: HashMap::new(),
    };
    estimate.cost(node)
}

/// The sizes of what a list or a map holds.
#[derive(Debug, Clone, Copy)]
struct Entry {
    list: bool,
    key: Size,
    value: Size,
}

impl Entry {
    fn union(self, other: Self) -> Self {
        Self {
            list: self.list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

/// A variable of a loop.
struct Local {
    name: String,
    path: Path,
    size: Option<Size>,
}

struct Estimate<'e> {
    types: &'e Types<'e>,
    most: &'e dyn Fn(&[String]) -> Option<u64>,
    locals: Vec<Local>,
    sizes: HashMap<*const Node, Size>,
    entries: HashMap<*const Node, Entry>,
    paths: HashMap<*const Node, Path>,
}

impl Estimate<'_> {
    fn cost(&mut self, node: &Node) -> u64 {
        match &node.expr {
            Expr::Literal(_) => 0,
            Expr::Ident(name) => {
                let path = self.local(name).map(|local| local.path.clone());
                self.paths
                    .insert(node, path.unwrap_or_else(|| vec![name.clone()]));
                1
            }
            Expr::Has { of, .. } => self.cost(of),
            Expr::Select { of, field, optional } => self.select(node, of, field, *optional),
            Expr::Index { of, index, optional } => self.index(node, of, index, *optional),
            Expr::List(items) => {
                let cost = self.all(items.iter().map(|(item, _)| item));
                let value = self.widest(items.iter().map(|(item, _)| item));
                let key = Size::exactly(1);
                let list = true;
                self.entries.insert(node, Entry { list, key, value });
                cost.saturating_add(LIST_COST)
            }
            Expr::Map(entries) => {
                let cost = self.all(entries.iter().flat_map(|(key, value, _)| [key, value]));
                let key = self.widest(entries.iter().map(|(key, _, _)| key));
                let value = self.widest(entries.iter().map(|(_, value, _)| value));
                let list = false;
                self.entries.insert(node, Entry { list, key, value });
                cost.saturating_add(MAP_COST)
            }
            Expr::Message { fields, .. } => {
                let cost = self.all(fields.iter().map(|(_, value, _)| value));
                cost.saturating_add(MESSAGE_COST)
            }
            Expr::Not(of) | Expr::Negate(of) => self.cost(of).saturating_add(1),
            Expr::And(left, right) | Expr::Or(left, right) => self.all([&**left, &**right]),
            Expr::Binary(operator, left, right) => self.operate(node, *operator, left, right),
            Expr::Conditional(condition, yes, no) => {
                let condition = self.cost(condition);
                let cost = condition.saturating_add(self.cost(yes).max(self.cost(no)));
                let size = self.size_or_any(yes).union(self.size_or_any(no));
                self.sizes.insert(node, size);
                if let (Some(yes), Some(no)) = (self.entry(yes), self.entry(no)) {
                    self.entries.insert(node, yes.union(no));
                }
                cost
            }
            Expr::Loop {
                kind,
                over,
                names,
                filter,
                body,
            } => self.iterate(node, *kind, over, names, filter.as_deref(), body),
            Expr::OptMap { of, name, body, flat } => self.opt_map(node, of, name, body, *flat),
            Expr::Call { target, name, args } => self.call(node, target.as_deref(), name, args),
        }
    }

    fn all<'n>(&mut self, nodes: impl IntoIterator<Item = &'n Node>) -> u64 {
        nodes
            .into_iter()
            .fold(0, |sum, node| sum.saturating_add(self.cost(node)))
    }

    fn widest<'n>(&self, nodes: impl Iterator<Item = &'n Node>) -> Size {
        let sizes = nodes.map(|node| self.size_or_any(node));
        sizes.reduce(Size::union).unwrap_or_default()
    }

    fn select(&mut self, node: &Node, of: &Node, field: &str, optional: bool) -> u64 {
        let cost = self.cost(of);
        if optional {
            return cost.saturating_add(1);
        }
        let mut path = self.path(of);
        path.push(field.to_string());
        self.paths.insert(node, path);
        let whole = matches!(
            self.types.get(of),
            Type::Map(_) | Type::Object(..) | Type::Metadata | Type::Fields(_) | Type::Message(_)
        );
        cost.saturating_add(whole.into())
    }

    fn index(&mut self, node: &Node, of: &Node, index: &Node, optional: bool) -> u64 {
        let cost = self.all([of, index]).saturating_add(1);
        let step = match self.types.get(of) {
            Type::List(_) => "@items",
            Type::Map(_) | Type::Dyn => "@values",
            _ => return cost,
        };
        if !optional {
            let mut path = self.path(of);
            path.push(step.to_string());
            self.paths.insert(node, path);
            if let Some(entry) = self.entry(of) {
                self.sizes.insert(node, entry.value);
            }
        }
        cost
    }

    fn operate(&mut self, node: &Node, operator: Operator, left: &Node, right: &Node) -> u64 {
        let cost = self.all([left, right]);
        let (a, b) = (self.types.get(left), self.types.get(right));
        let text = |kind: &Type<'_>| matches!(kind, Type::Dyn | Type::Plain("string" | "bytes"));
        let (sizes, own) = ((self.size_or_any(left), self.size_or_any(right)), 1);
        let own = match operator {
            Operator::Add => {
                let (texts, lists) = (
                    text(a) && text(b),
                    !matches!((a, b), (Type::Plain(_), _) | (_, Type::Plain(_))),
                );
                if !texts && !lists {
                    own
                } else {
                    let size = sizes.0 + sizes.1;
                    self.sizes.insert(node, size);
                    if let (Some(left), Some(right)) = (self.entry(left), self.entry(right)) {
                        self.entries.insert(node, left.union(right));
                    }
                    if texts { size.walk().max(own) } else { own }
                }
            }
            Operator::Equal if cheap_to_compare(a, b) => own,
            Operator::Equal | Operator::NotEqual => sizes.0.shorter(sizes.1).walk(),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual
                if text(a) && text(b) =>
            {
                let walked = sizes.0.shorter(sizes.1).walk();
                // Numbers are among what unknown values may be.
                if matches!((a, b), (Type::Dyn, Type::Dyn)) {
                    walked.max(own)
                } else {
                    walked
                }
            }
            Operator::In if !matches!(b, Type::Map(_)) => sizes.1.max,
            _ => own,
        };
        cost.saturating_add(own)
    }

    /// As the macro's loop in the original: what it begins with, its condition and step for each element, its
    /// result.
    fn iterate(
        &mut self,
        node: &Node,
        kind: Loop,
        over: &Node,
        names: &[String],
        filter: Option<&Node>,
        body: &Node,
    ) -> u64 {
        let before = self.locals.len();
        let range = self.cost(over);
        self.bind(over, names);
        let body_cost = self.cost(body);
        let filtered = filter.map_or(0, |filter| self.cost(filter));
        let item = match kind {
            // The item itself is what is kept.
            Loop::Filter => self
                .locals
                .get(before)
                .and_then(|local| self.size_of_local(local)),
            _ => self.size(body),
        };
        self.locals.truncate(before);
        let (begin, each, result) = match kind {
            Loop::All => (0, 3, 1),
            Loop::Exists => (0, 4, 1),
            Loop::ExistsOne => (0, 2, 2),
            Loop::Map | Loop::TransformList => (LIST_COST, 2 + LIST_COST, 1),
            Loop::Filter => (LIST_COST, 3 + LIST_COST, 1),
            Loop::TransformMap => (MAP_COST, 3, 1),
        };
        let count = self.size_or_any(over);
        let made = matches!(
            kind,
            Loop::Map | Loop::Filter | Loop::TransformList | Loop::TransformMap
        );
        self.sizes
            .insert(node, if made { count } else { Size::exactly(1) });
        if made && !matches!(kind, Loop::TransformMap) {
            let value = Size::default().union(item.unwrap_or(Size::ANY));
            let (list, key) = (true, Size::exactly(1));
            self.entries.insert(node, Entry { list, key, value });
        }
        let step = body_cost.saturating_add(filtered).saturating_add(each);
        let loops = count.max.saturating_mul(step);
        range.saturating_add(loops).saturating_add(begin + result)
    }

    fn bind(&mut self, over: &Node, names: &[String]) {
        let entry = self.entry(over);
        let list = entry.map_or(matches!(self.types.get(over), Type::List(_)), |entry| entry.list);
        let steps: &[(&str, bool)] = match (names.len(), list) {
            (1, true) => &[("@items", false)],
            (1, false) => &[("@keys", true)],
            (_, true) => &[("@indices", true), ("@items", false)],
            (_, false) => &[("@keys", true), ("@values", false)],
        };
        for (name, (step, key)) in names.iter().zip(steps) {
            let mut path = self.path(over);
            path.push((*step).to_string());
            self.locals.push(Local {
                name: name.clone(),
                path,
                size: entry.map(|entry| if *key { entry.key } else { entry.value }),
            });
        }
    }

    /// `of.hasValue() ? optional.of(BODY with of.value()) : optional.none()`
    fn opt_map(&mut self, node: &Node, of: &Node, name: &str, body: &Node, flat: bool) -> u64 {
        let asked = self.cost(of).saturating_add(1);
        let size = match self.types.get(of) {
            Type::Optional(inner) if is_scalar(inner) => Some(Size::exactly(1)),
            _ => None,
        };
        self.locals.push(Local {
            name: name.to_string(),
            path: Path::new(),
            size,
        });
        let bound = self.cost(body).saturating_add(asked).saturating_add(LIST_COST);
        self.locals.pop();
        if let (true, Some(size)) = (flat, self.size(body)) {
            self.sizes.insert(node, size);
        }
        asked.saturating_add(bound).saturating_add((!flat).into())
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn path(&self, node: &Node) -> Path {
        let local = match &node.expr {
            Expr::Ident(name) => self.local(name),
            _ => None,
        };
        let own = local.map(|local| &local.path);
        let known = own.or_else(|| self.paths.get(&std::ptr::from_ref(node)));
        known.cloned().unwrap_or_default()
    }

    fn entry(&self, node: &Node) -> Option<Entry> {
        self.entries.get(&std::ptr::from_ref(node)).copied()
    }

    fn declared(&self, path: &[String]) -> Option<Size> {
        let (_, rest) = path.split_first()?;
        (self.most)(rest).map(Size::up_to)
    }

    fn size_of_local(&self, local: &Local) -> Option<Size> {
        self.declared(&local.path).or(local.size)
    }

    /// What is known of the size of a node's value.
    fn size(&self, node: &Node) -> Option<Size> {
        if let Some(size) = self.sizes.get(&std::ptr::from_ref(node)) {
            return Some(*size);
        }
        let counted = match &node.expr {
            Expr::Literal(Literal::String(text)) => Some(text.chars().count()),
            Expr::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Expr::Literal(_) => Some(1),
            Expr::List(items) => Some(items.len()),
            Expr::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(count) = counted {
            return Some(Size::exactly(count as u64));
        }
        let declared = self.declared(&self.path(node));
        let scalar = || is_scalar(self.types.get(node)).then_some(Size::exactly(1));
        declared.or_else(scalar).or_else(|| match &node.expr {
            Expr::Ident(name) => self.local(name)?.size,
            _ => None,
        })
    }

    fn size_or_any(&self, node: &Node) -> Size {
        self.size(node).unwrap_or(Size::ANY)
    }
}

/// Whether values of a type are all of one size.
fn is_scalar(kind: &Type<'_>) -> bool {
    match kind {
        Type::Plain(name) => matches!(
            *name,
            "bool" | "int" | "uint" | "double" | "google.protobuf.Timestamp" | "google.protobuf.Duration"
        ),
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}

/// Kubernetes' own types that are compared at once.
fn cheap_to_compare(a: &Type<'_>, b: &Type<'_>) -> bool {
    const CHEAP: [&str; 4] = ["net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver"];
    matches!((a, b), (Type::Plain(a), Type::Plain(b)) if a == b && CHEAP.contains(a))
}
