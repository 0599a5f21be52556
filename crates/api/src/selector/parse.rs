//! The grammar of label selectors: a scanner and a recursive descent over its tokens.
//!
//! It follows apimachinery's parser step by step, so that the same texts get the same errors; `in` and `notin` are
//! operators only where an operator may stand, and plain words elsewhere.

use super::SelectorError;
use super::label::{Operator, Requirement};
use crate::{field, validate};

const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Open,
    Close,
    Comma,
    Not,
    Binary(&'a str),
    Word(&'a str),
    /// Special characters that make no operator.
    Unknown(&'a str),
}

/// Reads all requirements, in the order of the text.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { rest: text };
    let mut found = Vec::new();
    loop {
        match parser.peek() {
            Token::Word(_) | Token::Not => {
                let requirement = parser
                    .requirement()
                    .map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
                found.push(requirement);
                if !parser.another()? {
                    return Ok(found);
                }
            }
            Token::End => return Ok(found),
            other => return refuse(other, ", expected: !, identifier, or 'end of string'"),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// The next token, where words are values: `in` and `notin` are words.
    fn next(&mut self) -> Token<'a> {
        let (token, rest) = scan(self.rest);
        self.rest = rest;
        token
    }

    fn peek(&self) -> Token<'a> {
        scan(self.rest).0
    }

    /// After a requirement: whether another one follows.
    fn another(&mut self) -> Result<bool, SelectorError> {
        match self.next() {
            Token::End => Ok(false),
            Token::Comma => match self.peek() {
                Token::Word(_) | Token::Not => Ok(true),
                other => refuse(other, ", expected: identifier after ','"),
            },
            other => refuse(other, ", expected: ',' or 'end of string'"),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut first = self.next();
        let negated = first == Token::Not;
        if negated {
            first = self.next();
        }
        let Token::Word(key) = first else { return refuse(first, ", expected: identifier") };
        let problems = validate::label_key(key);
        if !problems.is_empty() {
            // Kubernetes prints its empty path as <nil>.
            let error = field::Error::invalid(&field::Path::new("<nil>"), key, &problems.join("; "));
            return Err(SelectorError(error.to_string()));
        }
        if matches!(self.peek(), Token::End | Token::Comma) || negated {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Requirement::new(key, operator, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        Requirement::new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        match self.next() {
            Token::Word("in") => Ok(Operator::In),
            Token::Word("notin") => Ok(Operator::NotIn),
            Token::Binary("=") => Ok(Operator::Equals),
            Token::Binary("==") => Ok(Operator::DoubleEquals),
            Token::Binary("!=") => Ok(Operator::NotEquals),
            Token::Binary(">") => Ok(Operator::GreaterThan),
            Token::Binary("<") => Ok(Operator::LessThan),
            other => refuse(other, &format!(", expected: {OPERATORS}")),
        }
    }

    fn exact_value(&mut self) -> Result<Box<str>, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok("".into());
        }
        match self.next() {
            Token::Word(value) => Ok(value.into()),
            other => refuse(other, ", expected: identifier"),
        }
    }

    /// `(a,b)`, where an empty place is the empty value.
    fn values(&mut self) -> Result<Vec<Box<str>>, SelectorError> {
        match self.next() {
            Token::Open => {}
            other => return refuse(other, " expected: '('"),
        }
        let mut values = vec![];
        let mut after_comma = true;
        loop {
            match (self.next(), after_comma) {
                (Token::Word(value), true) => {
                    values.push(value.into());
                    after_comma = false;
                }
                (Token::Comma, true) => values.push("".into()),
                (Token::Comma, false) => after_comma = true,
                (Token::Close, _) => {
                    if after_comma {
                        values.push("".into());
                    }
                    return Ok(values);
                }
                (other, _) if values.is_empty() => {
                    return refuse(other, ", expected: ',', ')' or identifier");
                }
                (other, true) => return refuse(other, ", expected: ',', or identifier"),
                (other, false) => return refuse(other, ", expected: ',' or ')'"),
            }
        }
    }
}

fn refuse<T>(found: Token<'_>, expected: &str) -> Result<T, SelectorError> {
    let literal = match found {
        Token::End => String::new(),
        Token::Open => "(".into(),
        Token::Close => ")".into(),
        Token::Comma => ",".into(),
        Token::Not => "!".into(),
        Token::Binary(text) | Token::Word(text) => text.into(),
        Token::Unknown(text) => format!("error expected: keyword found '{text}'"),
    };
    Err(SelectorError(format!("found '{literal}'{expected}")))
}

/// The first token of a text, and what follows it.
fn scan(text: &str) -> (Token<'_>, &str) {
    let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
    // Kubernetes' scanner reads a NUL as the end.
    let Some(first) = text.chars().next().filter(|c| *c != '\0') else { return (Token::End, "") };
    if !is_special(first) {
        let end = text.find(|c| is_special(c) || " \t\r\n\0".contains(c)).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return (Token::Word(word), rest);
    }
    let length = if text.starts_with("!=") || text.starts_with("==") { 2 } else { 1 };
    let (symbol, rest) = text.split_at(length);
    let token = match symbol {
        "(" => Token::Open,
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "=" | "==" | "!=" | "<" | ">" => Token::Binary(symbol),
        _ => Token::Unknown(symbol),
    };
    (token, rest)
}

fn is_special(c: char) -> bool {
    "=!(),><".contains(c)
}
