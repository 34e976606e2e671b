//! What an expression is once it is read: a tree of nodes, and what is wrong where one cannot be made.
//! The macros (`has`, `all`, `exists`, `exists_one`, `map`, `filter`, `optMap`, and those over two variables) are
//! nodes of their own. `syntax` makes it, `types` judges it, `eval` walks it.

/// A node and its place in the text.
#[derive(Debug, Clone)]
pub struct Node {
    /// Offset in characters.
    pub at: usize,
    /// What it is.
    pub expr: Expr,
}

/// A literal.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

/// What loops over a list or a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Loop {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
}

/// An expression.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Expr {
    Literal(Literal),
    Ident(String),
    /// `of.field`, `of.?field`.
    Select {
        of: Box<Node>,
        field: String,
        optional: bool,
    },
    /// `has(of.field)`.
    Has {
        of: Box<Node>,
        field: String,
    },
    /// `of[index]`, `of[?index]`.
    Index {
        of: Box<Node>,
        index: Box<Node>,
        optional: bool,
    },
    /// Items, and whether each is there only where it has a value.
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    /// `Type.name{field: value}`; a field may be there only where it has a value.
    Message {
        name: String,
        fields: Vec<(String, Node, bool)>,
    },
    Call {
        target: Option<Box<Node>>,
        name: String,
        args: Vec<Node>,
    },
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Conditional(Box<Node>, Box<Node>, Box<Node>),
    Loop {
        kind: Loop,
        over: Box<Node>,
        names: Vec<String>,
        filter: Option<Box<Node>>,
        body: Box<Node>,
    },
    /// `of.optMap(name, body)`; flat where the body is optional itself.
    OptMap {
        of: Box<Node>,
        name: String,
        body: Box<Node>,
        flat: bool,
    },
}

/// An operator between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Operator {
    /// The name by which errors call it.
    pub fn name(self) -> &'static str {
        match self {
            Operator::Add => "_+_",
            Operator::Subtract => "_-_",
            Operator::Multiply => "_*_",
            Operator::Divide => "_/_",
            Operator::Remainder => "_%_",
            Operator::Equal => "_==_",
            Operator::NotEqual => "_!=_",
            Operator::Less => "_<_",
            Operator::LessOrEqual => "_<=_",
            Operator::Greater => "_>_",
            Operator::GreaterOrEqual => "_>=_",
            Operator::In => "@in",
        }
    }
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Offset in characters.
    pub at: usize,
    /// In words.
    pub message: String,
}

impl Problem {
    /// As the original's compiler shows it, with the line and a mark under the place.
    pub fn shown(&self, text: &str) -> String {
        let (mut line, mut column) = (1, self.at);
        let mut shown = text;
        for one in text.split('\n') {
            let length = one.chars().count();
            shown = one;
            if column <= length {
                break;
            }
            column -= length + 1;
            line += 1;
        }
        let dots = ".".repeat(column);
        format!(
            "ERROR: <input>:{line}:{}: {}\n | {shown}\n | {dots}^",
            column + 1,
            self.message
        )
    }
}

impl Node {
    /// The name that a chain of plain selections spells, such as `Object.spec`.
    pub(super) fn qualified_name(&self) -> Option<String> {
        match &self.expr {
            Expr::Ident(name) => Some(name.clone()),
            Expr::Select {
                of,
                field,
                optional: false,
            } => Some(format!("{}.{field}", of.qualified_name()?)),
            _ => None,
        }
    }

    /// Whether it is a given variable or a part of one.
    pub fn is_plain_selection(&self) -> bool {
        match &self.expr {
            Expr::Ident(name) => name != "variables",
            Expr::Select {
                of, optional: false, ..
            }
            | Expr::Index {
                of, optional: false, ..
            } => of.is_plain_selection(),
            _ => false,
        }
    }

    /// What stands directly below.
    pub fn children(&self) -> Vec<&Node> {
        match &self.expr {
            Expr::Literal(_) | Expr::Ident(_) => Vec::new(),
            Expr::Select { of, .. } | Expr::Has { of, .. } | Expr::Not(of) | Expr::Negate(of) => vec![of],
            Expr::Index { of, index, .. } => vec![of, index],
            Expr::List(items) => items.iter().map(|(one, _)| one).collect(),
            Expr::Map(entries) => entries.iter().flat_map(|(key, value, _)| [key, value]).collect(),
            Expr::Message { fields, .. } => fields.iter().map(|(_, value, _)| value).collect(),
            Expr::Call { target, args, .. } => target.iter().map(|one| &**one).chain(args).collect(),
            Expr::Binary(_, a, b) | Expr::And(a, b) | Expr::Or(a, b) => vec![a, b],
            Expr::Conditional(a, b, c) => vec![a, b, c],
            Expr::Loop {
                over, filter, body, ..
            } => {
                let filter = filter.iter().map(|one| &**one);
                [&**over, &**body].into_iter().chain(filter).collect()
            }
            Expr::OptMap { of, body, .. } => vec![of, body],
        }
    }
}
