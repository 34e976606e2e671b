//! The Common Expression Language: from text to a tree.
//! Invariants: nesting and length are bounded; every node knows where in the text it stands. The macros
//! (`has`, `all`, `exists`, `exists_one`, `map`, `filter`, `optMap`, and those over two variables) are nodes
//! of their own. Left out: identifiers in backticks.

use super::tokens::{Token, is_reserved, lex};

/// Nodes inside of one another at most: what walks the tree recurs so deep.
const HEIGHT_MAX: usize = 100;
/// Tokens of one expression at most.
const TOKENS_MAX: usize = 5_000;
/// Bytes of one expression at most.
const TEXT_BYTES_MAX: usize = 100_000;

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

/// Reads an expression.
pub fn parse(text: &str) -> Result<Node, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!(
            "expression code point size exceeds limit: size: {}, limit {TEXT_BYTES_MAX}",
            text.len()
        );
        return Err(Problem { at: 0, message });
    }
    let tokens = lex(text)?;
    if tokens.len() > TOKENS_MAX {
        let message = format!("expression has {} tokens, limit {TOKENS_MAX}", tokens.len());
        return Err(Problem { at: 0, message });
    }
    let mut parser = Parser {
        tokens,
        next: 0,
        depth: 0,
    };
    let node = parser.expression()?;
    if *parser.peek() != Token::End {
        return Err(parser.unexpected("<EOF>"));
    }
    // Without recursion, since the tree may be too high for it.
    let mut open = vec![(1, &node)];
    while let Some((height, node)) = open.pop() {
        if height > HEIGHT_MAX {
            return Err(too_deep(node.at));
        }
        open.extend(node.children().into_iter().map(|child| (height + 1, child)));
    }
    Ok(node)
}

fn too_deep(at: usize) -> Problem {
    let message = format!("expression recursion limit exceeded: {HEIGHT_MAX}");
    Problem { at, message }
}

/// One tree of many terms, as low as it can be.
fn balanced(mut terms: Vec<Node>, at: usize, join: fn(Box<Node>, Box<Node>) -> Expr) -> Option<Node> {
    if terms.len() < 2 {
        return terms.pop();
    }
    let right = terms.split_off(terms.len() / 2);
    let (left, right) = (balanced(terms, at, join)?, balanced(right, at, join)?);
    Some(Node {
        at,
        expr: join(left.into(), right.into()),
    })
}

impl Node {
    /// The name that a chain of plain selections spells, such as `Object.spec`.
    fn qualified_name(&self) -> Option<String> {
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

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next].0
    }

    fn advance(&mut self) -> Token {
        let token = self.tokens[self.next].1.clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(one) if *one == symbol);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Problem> {
        if self.eat(symbol) {
            Ok(())
        } else {
            Err(self.unexpected(symbol))
        }
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        let found = match self.peek() {
            Token::End => "<EOF>".to_string(),
            Token::Symbol(symbol) => (*symbol).to_string(),
            Token::Ident(name) => name.clone(),
            Token::Literal(literal) => format!("{literal:?}"),
        };
        Problem {
            at: self.at(),
            message: format!("Syntax error: mismatched input '{found}' expecting {wanted}"),
        }
    }

    fn expression(&mut self) -> Result<Node, Problem> {
        self.depth += 1;
        if self.depth > HEIGHT_MAX {
            return Err(too_deep(self.at()));
        }
        let condition = self.or()?;
        let at = self.at();
        let node = if self.eat("?") {
            let yes = self.or()?;
            self.expect(":")?;
            let no = self.expression()?;
            let expr = Expr::Conditional(condition.into(), yes.into(), no.into());
            Node { at, expr }
        } else {
            condition
        };
        self.depth -= 1;
        Ok(node)
    }

    fn or(&mut self) -> Result<Node, Problem> {
        let mut terms = vec![self.and()?];
        let at = self.at();
        while self.eat("||") {
            terms.push(self.and()?);
        }
        balanced(terms, at, Expr::Or).ok_or_else(|| self.unexpected("an expression"))
    }

    fn and(&mut self) -> Result<Node, Problem> {
        let mut terms = vec![self.relation()?];
        let at = self.at();
        while self.eat("&&") {
            terms.push(self.relation()?);
        }
        balanced(terms, at, Expr::And).ok_or_else(|| self.unexpected("an expression"))
    }

    fn operators(
        &mut self,
        table: &[(&str, Operator)],
        next: fn(&mut Self) -> Result<Node, Problem>,
    ) -> Result<Node, Problem> {
        let mut left = next(self)?;
        loop {
            let at = self.at();
            let Some((_, operator)) = table.iter().find(|(symbol, _)| self.eat(symbol)) else {
                return Ok(left);
            };
            let expr = Expr::Binary(*operator, left.into(), next(self)?.into());
            left = Node { at, expr };
        }
    }

    fn relation(&mut self) -> Result<Node, Problem> {
        const TABLE: [(&str, Operator); 7] = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
            ("in", Operator::In),
        ];
        self.operators(&TABLE, Self::sum)
    }

    fn sum(&mut self) -> Result<Node, Problem> {
        self.operators(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::product)
    }

    fn product(&mut self) -> Result<Node, Problem> {
        const TABLE: [(&str, Operator); 3] = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("%", Operator::Remainder),
        ];
        self.operators(&TABLE, Self::unary)
    }

    fn unary(&mut self) -> Result<Node, Problem> {
        let at = self.at();
        let mut nots = 0;
        while self.eat("!") {
            nots += 1;
        }
        if nots > 0 {
            let mut node = self.member()?;
            if nots % 2 == 1 {
                node = Node {
                    at,
                    expr: Expr::Not(node.into()),
                };
            }
            return Ok(node);
        }
        let mut minus = 0;
        while self.eat("-") {
            minus += 1;
        }
        let node = self.member()?;
        Ok(match (minus % 2, node.expr) {
            (0, expr) => Node { at: node.at, expr },
            (_, Expr::Literal(Literal::Int(number))) => {
                let expr = Expr::Literal(Literal::Int(number.wrapping_neg()));
                Node { at, expr }
            }
            (_, Expr::Literal(Literal::Double(number))) => {
                let expr = Expr::Literal(Literal::Double(-number));
                Node { at, expr }
            }
            (_, expr) => {
                let inner = Node { at: node.at, expr };
                Node {
                    at,
                    expr: Expr::Negate(inner.into()),
                }
            }
        })
    }

    fn member(&mut self) -> Result<Node, Problem> {
        let mut node = self.primary()?;
        loop {
            let at = self.at();
            if self.eat(".") || matches!(self.peek(), Token::Symbol(".?")) {
                let optional = self.eat(".?");
                let field = self.ident()?;
                if !optional && self.eat("(") {
                    let args = self.arguments(")")?;
                    node = call(Some(node), field, args, at)?;
                } else {
                    let of = Box::new(node);
                    let expr = Expr::Select { of, field, optional };
                    node = Node { at, expr };
                }
            } else if matches!(self.peek(), Token::Symbol("[" | "[?")) {
                let optional = self.advance() == Token::Symbol("[?");
                let index = Box::new(self.expression()?);
                self.expect("]")?;
                let of = Box::new(node);
                node = Node {
                    at,
                    expr: Expr::Index { of, index, optional },
                };
            } else if let Some(name) = self.type_before_brace(&node) {
                self.advance();
                let fields = self.fields()?;
                node = Node {
                    at: node.at,
                    expr: Expr::Message { name, fields },
                };
            } else {
                return Ok(node);
            }
        }
    }

    /// The qualified name that stands before the fields of an object.
    fn type_before_brace(&self, node: &Node) -> Option<String> {
        let brace = matches!(self.peek(), Token::Symbol("{"));
        brace.then(|| node.qualified_name()).flatten()
    }

    fn fields(&mut self) -> Result<Vec<(String, Node, bool)>, Problem> {
        let mut fields = Vec::new();
        while !self.eat("}") {
            let optional = self.eat("?");
            let name = self.ident()?;
            self.expect(":")?;
            fields.push((name, self.expression()?, optional));
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(fields)
    }

    fn ident(&mut self) -> Result<String, Problem> {
        match self.peek().clone() {
            Token::Ident(name) => {
                self.advance();
                Ok(name)
            }
            // A keyword may name a member.
            Token::Symbol("in") => {
                self.advance();
                Ok("in".to_string())
            }
            _ => Err(self.unexpected("IDENTIFIER")),
        }
    }

    fn arguments(&mut self, end: &str) -> Result<Vec<Node>, Problem> {
        let mut args = Vec::new();
        while !self.eat(end) {
            args.push(self.expression()?);
            if !self.eat(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(args)
    }

    fn primary(&mut self) -> Result<Node, Problem> {
        let at = self.at();
        if self.eat("(") {
            let node = self.expression()?;
            self.expect(")")?;
            return Ok(node);
        }
        if matches!(self.peek(), Token::Symbol("[" | "[?")) {
            let first_optional = self.advance() == Token::Symbol("[?");
            let expr = Expr::List(self.items(first_optional)?);
            return Ok(Node { at, expr });
        }
        if self.eat("{") {
            let expr = Expr::Map(self.entries()?);
            return Ok(Node { at, expr });
        }
        self.eat(".");
        match self.peek().clone() {
            Token::Literal(literal) => {
                self.advance();
                Ok(Node { at, expr: Expr::Literal(literal) })
            }
            Token::Ident(name) => {
                if is_reserved(&name) {
                    let message = format!("reserved identifier: {name}");
                    return Err(Problem { at, message });
                }
                self.advance();
                if self.eat("(") {
                    let args = self.arguments(")")?;
                    return call(None, name, args, at);
                }
                Ok(Node { at, expr: Expr::Ident(name) })
            }
            _ => Err(self.unexpected("{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}")),
        }
    }

    fn items(&mut self, mut optional: bool) -> Result<Vec<(Node, bool)>, Problem> {
        let mut items = Vec::new();
        while optional || !self.eat("]") {
            optional |= self.eat("?");
            items.push((self.expression()?, optional));
            optional = false;
            if !self.eat(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(items)
    }

    fn entries(&mut self) -> Result<Vec<(Node, Node, bool)>, Problem> {
        let mut entries = Vec::new();
        while !self.eat("}") {
            let optional = self.eat("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?, optional));
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(entries)
    }
}

/// A call, or the macro that it is.
fn call(target: Option<Node>, name: String, mut args: Vec<Node>, at: usize) -> Result<Node, Problem> {
    if target.is_none() && name == "has" && args.len() == 1 {
        return match args.remove(0).expr {
            Expr::Select {
                of,
                field,
                optional: false,
            } => Ok(Node {
                at,
                expr: Expr::Has { of, field },
            }),
            _ => Err(Problem {
                at,
                message: "invalid argument to has() macro".to_string(),
            }),
        };
    }
    let Some(of) = target else {
        return Ok(Node {
            at,
            expr: Expr::Call {
                target: None,
                name,
                args,
            },
        });
    };
    let kind = match (name.as_str(), args.len()) {
        ("all", 2 | 3) => Some(Loop::All),
        ("exists", 2 | 3) => Some(Loop::Exists),
        ("exists_one" | "existsOne", 2 | 3) => Some(Loop::ExistsOne),
        ("map", 2 | 3) => Some(Loop::Map),
        ("filter", 2) => Some(Loop::Filter),
        ("transformList", 3 | 4) => Some(Loop::TransformList),
        ("transformMap", 3 | 4) => Some(Loop::TransformMap),
        ("optMap" | "optFlatMap", 2) => {
            let body = Box::new(args.remove(1));
            let expr = Expr::OptMap {
                name: variable(&args[0])?,
                of: of.into(),
                body,
                flat: name == "optFlatMap",
            };
            return Ok(Node { at, expr });
        }
        _ => None,
    };
    let Some(kind) = kind else {
        let target = Some(Box::new(of));
        return Ok(Node {
            at,
            expr: Expr::Call { target, name, args },
        });
    };
    let count = match kind {
        Loop::TransformList | Loop::TransformMap => 2,
        Loop::Map | Loop::Filter => 1,
        _ => args.len() - 1,
    };
    let mut rest = args.split_off(count);
    let names = args.iter().map(variable).collect::<Result<_, _>>()?;
    let body = Box::new(rest.pop().unwrap_or(Node {
        at,
        expr: Expr::Literal(Literal::Null),
    }));
    let filter = rest.pop().map(Box::new);
    let over = Box::new(of);
    let expr = Expr::Loop {
        kind,
        over,
        names,
        filter,
        body,
    };
    Ok(Node { at, expr })
}

fn variable(node: &Node) -> Result<String, Problem> {
    match &node.expr {
        Expr::Ident(name) => Ok(name.clone()),
        _ => Err(Problem {
            at: node.at,
            message: "argument must be a simple name".to_string(),
        }),
    }
}
