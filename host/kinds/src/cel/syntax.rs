//! The Common Expression Language: from text to a tree.
//! Invariants: nesting and length are bounded; every node knows where in the text it stands. Left out:
//! identifiers in backticks.

use super::tokens::{Token, is_reserved, lex};
use super::tree::{Expr, Literal, Loop, Node, Operator, Problem};

/// Nodes inside of one another at most: what walks the tree recurs so deep.
const HEIGHT_MAX: usize = 100;
/// Tokens of one expression at most.
const TOKENS_MAX: usize = 5_000;
/// Bytes of one expression at most.
const TEXT_BYTES_MAX: usize = 100_000;

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
