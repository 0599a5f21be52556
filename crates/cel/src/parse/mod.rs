//! Text to tree: CEL's grammar by precedence, with macros expanded as they are met.
//!
//! Bounded: a text of more than [`CHARACTERS_MAX`] or deeper than [`DEPTH_MAX`] is refused, so that nothing that walks
//! the tree can run out of stack.

mod lex;
mod literal;
mod macros;

use std::sync::Arc;

use tiphys_api::validate::CEL_RESERVED;

use crate::ast::{Access, Entry, Expr, Kind, StructField};
use crate::error::{CompileError, Issue};
use lex::{Placed, Token};

/// Longest text.
pub const CHARACTERS_MAX: usize = 100_000;
/// Deepest tree.
pub const DEPTH_MAX: u16 = 250;
/// Deepest nesting of brackets, each of which takes the parser several calls.
const NESTING_MAX: u16 = 100;

/// What may begin an expression, in the words of Kubernetes' parser.
const EXPECTED: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// The tree of a text.
pub fn parse(text: &str) -> Result<Expr, CompileError> {
    expression(text).map_err(|issue| CompileError::new(text, vec![issue]))
}

fn expression(text: &str) -> Result<Expr, Issue> {
    let characters = text.chars().count();
    if characters > CHARACTERS_MAX {
        let limit =
            format!("expression code point size exceeds limit: size: {characters}, limit {CHARACTERS_MAX}");
        return Err(Issue::new(0, limit));
    }
    let mut parser = Parser { tokens: lex::tokens(text)?, next: 0, depth: 0 };
    let parsed = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(parsed),
        _ => Err(parser.extraneous()),
    }
}

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    depth: u16,
}

type Parsed = Result<Expr, Issue>;

/// Operators that associate to the left, loosest first.
const BINARY: [&[&str]; 3] = [&["<", "<=", ">=", ">", "==", "!=", "in"], &["+", "-"], &["*", "/", "%"]];

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |placed| &placed.token)
    }

    fn at(&self) -> u32 {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |placed| placed.at)
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += usize::from(self.next + 1 < self.tokens.len());
        token
    }

    fn is(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(found) if *found == mark)
    }

    fn accept(&mut self, mark: &str) -> bool {
        let found = self.is(mark);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, mark: &str) -> Result<(), Issue> {
        match self.accept(mark) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("'{mark}'"))),
        }
    }

    fn shown(&self) -> Arc<str> {
        match self.tokens.get(self.next) {
            Some(placed) if placed.token != Token::End => placed.text.clone(),
            _ => "<EOF>".into(),
        }
    }

    fn unexpected(&self, wanted: &str) -> Issue {
        Issue::new(self.at(), format!("Syntax error: mismatched input '{}' expecting {wanted}", self.shown()))
    }

    fn extraneous(&self) -> Issue {
        Issue::new(self.at(), format!("Syntax error: extraneous input '{}' expecting <EOF>", self.shown()))
    }

    /// An expression, unless the tree would get too deep.
    fn made(&self, kind: Kind, at: u32) -> Parsed {
        bounded(Expr::new(kind, at))
    }

    fn expr(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(too_deep(self.at()));
        }
        let parsed = self.ternary();
        self.depth -= 1;
        parsed
    }

    fn ternary(&mut self) -> Parsed {
        let condition = self.or()?;
        let at = self.at();
        if !self.accept("?") {
            return Ok(condition);
        }
        let yes = self.or()?;
        self.expect(":")?;
        let no = self.expr()?;
        self.made(Kind::Ternary(Box::new([condition, yes, no])), at)
    }

    fn or(&mut self) -> Parsed {
        self.terms("||", Self::and, Kind::Or)
    }

    fn and(&mut self) -> Parsed {
        self.terms("&&", |parser| parser.binary(0), Kind::And)
    }

    fn terms(&mut self, mark: &str, term: fn(&mut Self) -> Parsed, kind: fn(Vec<Expr>) -> Kind) -> Parsed {
        let first = term(self)?;
        let at = self.at();
        if !self.is(mark) {
            return Ok(first);
        }
        let mut terms = vec![first];
        while self.accept(mark) {
            terms.push(term(self)?);
        }
        self.made(kind(terms), at)
    }

    fn binary(&mut self, level: usize) -> Parsed {
        let Some(operators) = BINARY.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            let Token::Mark(mark) = *self.peek() else { return Ok(left) };
            if !operators.contains(&mark) {
                return Ok(left);
            }
            let at = self.at();
            self.advance();
            let right = self.binary(level + 1)?;
            let name = if mark == "in" { "@in".to_owned() } else { format!("_{mark}_") };
            left = bounded(Expr::call(&name, false, vec![left, right], at))?;
        }
    }

    fn unary(&mut self) -> Parsed {
        for (mark, name) in [("!", "!_"), ("-", "-_")] {
            if !self.is(mark) {
                continue;
            }
            let (at, mut count) = (self.at(), 0);
            while self.is(mark) {
                if mark == "-" && self.negative_number_follows() {
                    break;
                }
                self.advance();
                count += 1;
            }
            let operand = self.member()?;
            return match count % 2 {
                0 => Ok(operand),
                _ => bounded(Expr::call(name, false, vec![operand], at)),
            };
        }
        self.member()
    }

    fn negative_number_follows(&self) -> bool {
        matches!(self.tokens.get(self.next + 1), Some(Placed { token: Token::Number(_), .. }))
    }

    fn member(&mut self) -> Parsed {
        let mut operand = self.primary()?;
        loop {
            let at = self.at();
            if self.accept(".") {
                operand = self.field_or_method(operand, at)?;
            } else if self.accept("[") {
                let name = if self.accept("?") { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect("]")?;
                operand = bounded(Expr::call(name, false, vec![operand, index], at))?;
            } else if self.is("{") && operand.qualified_name().is_some() {
                operand = self.structure(&operand)?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn field_or_method(&mut self, operand: Expr, at: u32) -> Parsed {
        let optional = self.accept("?");
        let field = self.name()?;
        let open = self.at();
        if optional || !self.accept("(") {
            let access = if optional { Access::Optional } else { Access::Value };
            return self.made(Kind::Select { operand: Box::new(operand), field, access }, at);
        }
        let args = self.list_until(")")?;
        bounded(macros::method(operand, &field, args, open)?)
    }

    fn name(&mut self) -> Result<Arc<str>, Issue> {
        match self.peek().clone() {
            Token::Ident(name) => {
                self.advance();
                Ok(name)
            }
            _ => Err(Issue::new(
                self.at(),
                format!("Syntax error: no viable alternative at input '.{}'", self.shown()),
            )),
        }
    }

    /// Expressions up to a closing mark; a comma may end them.
    fn list_until(&mut self, close: &str) -> Result<Vec<Expr>, Issue> {
        let mut all = Vec::new();
        while !self.accept(close) {
            all.push(self.expr()?);
            if !self.accept(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(all)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        match self.peek().clone() {
            Token::Literal(literal) => {
                self.advance();
                self.made(Kind::Literal(literal), at)
            }
            Token::Number(digits) => self.number(&digits, false, at),
            Token::Mark("-") => {
                self.advance();
                match self.peek().clone() {
                    Token::Number(digits) => self.number(&digits, true, at),
                    _ => Err(self.unexpected(EXPECTED)),
                }
            }
            Token::Mark("(") => {
                self.advance();
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Mark("[") => self.list(at),
            Token::Mark("{") => self.map(at),
            Token::Mark(".") => {
                self.advance();
                self.ident()
            }
            Token::Ident(_) => self.ident(),
            _ => Err(self.unexpected(EXPECTED)),
        }
    }

    fn number(&mut self, digits: &str, negative: bool, at: u32) -> Parsed {
        self.advance();
        let value = literal::number_value(digits, negative).map_err(|message| Issue::new(at, message))?;
        self.made(Kind::Literal(value), at)
    }

    fn ident(&mut self) -> Parsed {
        let at = self.at();
        let name = self.name()?;
        if CEL_RESERVED.contains(&&*name) {
            return Err(Issue::new(at, format!("reserved identifier: {name}")));
        }
        let open = self.at();
        if !self.accept("(") {
            return self.made(Kind::Ident(name), at);
        }
        let args = self.list_until(")")?;
        bounded(macros::function(&name, args, open)?)
    }

    fn list(&mut self, at: u32) -> Parsed {
        self.advance();
        let mut items = Vec::new();
        while !self.accept("]") {
            let optional = self.accept("?");
            items.push((self.expr()?, optional));
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        self.made(Kind::List(items), at)
    }

    fn map(&mut self, at: u32) -> Parsed {
        self.advance();
        let mut entries = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let key = self.expr()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.expr()?, optional });
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.made(Kind::Map(entries), at)
    }

    fn structure(&mut self, of: &Expr) -> Parsed {
        let at = self.at();
        self.advance();
        let name: Arc<str> = of.qualified_name().unwrap_or_default().into();
        let mut fields = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let at = self.at();
            let name = self.name()?;
            self.expect(":")?;
            fields.push(StructField { name, value: self.expr()?, optional, at });
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.made(Kind::Struct { name, fields }, at)
    }
}

fn too_deep(at: u32) -> Issue {
    Issue::new(at, format!("expression recursion limit exceeded: {DEPTH_MAX}"))
}

fn bounded(expr: Expr) -> Parsed {
    match expr.depth > DEPTH_MAX {
        true => Err(too_deep(expr.at)),
        false => Ok(expr),
    }
}
