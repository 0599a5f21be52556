//! Tokens: names, numbers, texts and marks of an expression, with the offsets of their first characters.

use std::sync::Arc;

use super::literal;
use crate::ast::Literal;
use crate::error::Issue;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A name or a reserved word.
    Ident(Arc<str>),
    /// A constant other than a number.
    Literal(Literal),
    /// Digits, as they are written: a sign before them is part of the number.
    Number(Arc<str>),
    /// An operator or bracket.
    Mark(&'static str),
    /// The end of the text.
    End,
}

/// A token and where it begins and ends, in characters.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The token.
    pub token: Token,
    /// Its first character.
    pub at: u32,
    /// What was written.
    pub text: Arc<str>,
}

/// Longest first, so that `<=` is not `<`.
const MARKS: [&str; 27] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "(", ")", "[", "]", "{", "}", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%", "=", "&", "|",
];

/// All tokens of a text; the last is [`Token::End`].
pub fn tokens(text: &str) -> Result<Vec<Placed>, Issue> {
    let mut lexer = Lexer { rest: text, at: 0 };
    let mut all = Vec::new();
    loop {
        lexer.skip_blanks();
        let (at, before) = (lexer.at, lexer.rest);
        let token = lexer.token()?;
        let length = before.len() - lexer.rest.len();
        let done = token == Token::End;
        all.push(Placed { token, at, text: before.get(..length).unwrap_or_default().into() });
        if done {
            return Ok(all);
        }
    }
}

struct Lexer<'t> {
    rest: &'t str,
    at: u32,
}

impl<'t> Lexer<'t> {
    /// Takes that many bytes.
    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.at = self.at.saturating_add(u32::try_from(taken.chars().count()).unwrap_or(u32::MAX));
        self.rest = rest;
        taken
    }

    fn skip_blanks(&mut self) {
        loop {
            let blanks =
                self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']).len();
            self.take(blanks);
            if !self.rest.starts_with("//") {
                return;
            }
            self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
    }

    fn token(&mut self) -> Result<Token, Issue> {
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        if let Some(prefix) = text_prefix(self.rest) {
            return self.text(prefix);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(self.name());
        }
        let fraction = first == '.' && self.rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        if first.is_ascii_digit() || fraction {
            return Ok(self.number());
        }
        match MARKS.into_iter().find(|mark| self.rest.starts_with(mark)) {
            Some("=" | "&" | "|") | None => {
                Err(Issue::new(self.at, format!("Syntax error: token recognition error at: '{first}'")))
            }
            Some(mark) => {
                self.take(mark.len());
                Ok(Token::Mark(mark))
            }
        }
    }

    fn name(&mut self) -> Token {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        match self.take(end) {
            "true" => Token::Literal(Literal::Bool(true)),
            "false" => Token::Literal(Literal::Bool(false)),
            "null" => Token::Literal(Literal::Null),
            "in" => Token::Mark("in"),
            name => Token::Ident(name.into()),
        }
    }

    fn number(&mut self) -> Token {
        let bytes = self.rest.as_bytes();
        let digits = |from: usize| bytes.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        if byte(0) == b'0' && matches!(byte(1), b'x' | b'X') {
            let hex = bytes.iter().skip(2).take_while(|b| b.is_ascii_hexdigit()).count();
            let suffix = usize::from(matches!(byte(2 + hex), b'u' | b'U'));
            return Token::Number(self.take(2 + hex + suffix).into());
        }
        let mut end = digits(0);
        let mut whole = true;
        if byte(end) == b'.' && byte(end + 1).is_ascii_digit() {
            end += 1 + digits(end + 1);
            whole = false;
        }
        if matches!(byte(end), b'e' | b'E') {
            let sign = usize::from(matches!(byte(end + 1), b'+' | b'-'));
            let exponent = digits(end + 1 + sign);
            if exponent > 0 {
                end += 1 + sign + exponent;
                whole = false;
            }
        }
        end += usize::from(whole && matches!(byte(end), b'u' | b'U'));
        Token::Number(self.take(end).into())
    }

    fn text(&mut self, prefix: Prefix) -> Result<Token, Issue> {
        let at = self.at;
        let quote_at = usize::from(prefix.raw) + usize::from(prefix.bytes);
        let after = self.rest.get(quote_at..).unwrap_or_default();
        let single = after.get(..1).unwrap_or_default();
        let quote = match after.get(..3) {
            Some(triple) if triple == single.repeat(3) => triple,
            _ => single,
        };
        let body = after.get(quote.len()..).unwrap_or_default();
        let Some(end) = closing(body, quote, prefix.raw) else {
            let shown: String = self.rest.chars().take(20).collect();
            return Err(Issue::new(at, format!("Syntax error: token recognition error at: '{shown}'")));
        };
        let content = body.get(..end).unwrap_or_default();
        self.take(quote_at + quote.len() * 2 + end);
        literal::text(content, prefix.raw, prefix.bytes)
            .map(Token::Literal)
            .map_err(|message| Issue::new(at, message))
    }
}

#[derive(Clone, Copy)]
struct Prefix {
    raw: bool,
    bytes: bool,
}

/// Whether a text constant begins here, and of which sort.
fn text_prefix(rest: &str) -> Option<Prefix> {
    let mut prefix = Prefix { raw: false, bytes: false };
    for byte in rest.bytes().take(3) {
        match byte {
            b'"' | b'\'' => return Some(prefix),
            b'r' | b'R' if !prefix.raw => prefix.raw = true,
            b'b' | b'B' if !prefix.bytes => prefix.bytes = true,
            _ => return None,
        }
    }
    None
}

/// Where the closing quote is.
fn closing(body: &str, quote: &str, raw: bool) -> Option<usize> {
    let mut at = 0;
    while let Some(rest) = body.get(at..) {
        if rest.starts_with(quote) {
            return Some(at);
        }
        let first = rest.chars().next()?;
        if quote.len() == 1 && matches!(first, '\n' | '\r') {
            return None;
        }
        at += first.len_utf8();
        if first == '\\' && !raw {
            at += body.get(at..)?.chars().next()?.len_utf8();
        }
    }
    None
}
