//! Reading paths. The texts come from clients: depth and length are bounded, and nothing panics.

use crate::Value;

use super::{Comparison, Filter, JsonPath, JsonPathError, Operand, Step};

const STEPS_MAX: usize = 100;
const FILTER_DEPTH_MAX: usize = 4;

/// Reads a whole path, which may stand in braces.
pub(super) fn path(text: &str) -> Result<JsonPath, JsonPathError> {
    let text = text.trim();
    let inner = text.strip_prefix('{').map_or(Ok(text), |rest| {
        rest.strip_suffix('}').ok_or_else(|| error(format!("unclosed action in {text:?}")))
    })?;
    let mut reader = Reader { rest: inner.trim(), depth: 0 };
    let path = reader.path()?;
    match reader.rest {
        "" => Ok(path),
        rest => Err(error(format!("unrecognized character in action: {rest:?}"))),
    }
}

fn error(text: impl Into<String>) -> JsonPathError {
    JsonPathError(text.into())
}

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest.strip_prefix(token);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Steps for as long as there are any.
    fn path(&mut self) -> Result<JsonPath, JsonPathError> {
        let mut steps = Vec::new();
        if !self.eat("$") && !self.eat("@") && self.rest.starts_with(is_name) {
            steps.push(Step::Field(self.name()));
        }
        while steps.len() <= STEPS_MAX {
            if self.eat("..") {
                steps.push(Step::Descend);
                if self.rest.starts_with(is_name) {
                    steps.push(Step::Field(self.name()));
                } else if self.eat("*") {
                    steps.push(Step::Every);
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else if self.eat(".") {
                match self.eat("*") {
                    true => steps.push(Step::Every),
                    false if self.rest.starts_with(is_name) => steps.push(Step::Field(self.name())),
                    // A lone dot is the root; before a bracket it says nothing.
                    false => {}
                }
            } else {
                return Ok(JsonPath { steps: steps.into() });
            }
        }
        Err(error(format!("more than {STEPS_MAX} steps")))
    }

    /// A bare name, in which a backslash takes away the meaning of the next character.
    fn name(&mut self) -> Box<str> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
                c if is_name(c) => name.push(c),
                _ => {
                    end = at;
                    break;
                }
            }
        }
        self.rest = self.rest.get(end..).unwrap_or_default();
        name.into()
    }

    /// What stands in brackets, the opening one already read.
    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        self.skip_spaces();
        if self.eat("?(") {
            let filter = self.filter()?;
            self.close(")")?;
            self.close("]")?;
            return Ok(Step::Filter(Box::new(filter)));
        }
        let mut choices = vec![self.choice()?];
        self.skip_spaces();
        while self.eat(",") {
            choices.push(self.choice()?);
            self.skip_spaces();
        }
        self.close("]")?;
        match choices.len() {
            1 => choices.pop().ok_or_else(|| error("empty brackets")),
            _ => Ok(Step::AnyOf(choices.into())),
        }
    }

    fn close(&mut self, token: &str) -> Result<(), JsonPathError> {
        self.skip_spaces();
        match self.eat(token) {
            true => Ok(()),
            false => {
                Err(error(format!("unterminated array or filter: expected {token:?} at {:?}", self.rest)))
            }
        }
    }

    fn choice(&mut self) -> Result<Step, JsonPathError> {
        self.skip_spaces();
        if self.eat("*") {
            return Ok(Step::Every);
        }
        if let Some(name) = self.quoted()? {
            return Ok(Step::Field(name.into()));
        }
        let end = self.rest.find([']', ',']).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        let number = |text: &str| match text.trim() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| error(format!("invalid array index {text}"))),
        };
        match text.split(':').collect::<Vec<_>>().as_slice() {
            [one] => number(one)?.map(Step::Index).ok_or_else(|| error("empty brackets")),
            [from, to] => Ok(Step::Slice(number(from)?, number(to)?, 1)),
            [from, to, by] => match number(by)?.unwrap_or(1) {
                by @ 1.. => Ok(Step::Slice(number(from)?, number(to)?, by)),
                _ => Err(error("step must be > 0")),
            },
            _ => Err(error(format!("invalid array index {text}"))),
        }
    }

    /// A text in single or double quotes, if one comes next.
    fn quoted(&mut self) -> Result<Option<String>, JsonPathError> {
        let quote = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return Ok(None),
        };
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                c if c == quote => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(Some(text));
                }
                c => text.push(c),
            }
        }
        Err(error("unterminated quoted string"))
    }

    fn filter(&mut self) -> Result<Filter, JsonPathError> {
        self.depth += 1;
        if self.depth > FILTER_DEPTH_MAX {
            return Err(error("filters are nested too deeply"));
        }
        let left = self.operand()?;
        self.skip_spaces();
        let operators = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
            ("=", Comparison::Equal),
        ];
        let operator = operators.into_iter().find(|(token, _)| self.eat(token));
        let test = match operator {
            Some((_, comparison)) => Some((comparison, self.operand()?)),
            None => None,
        };
        self.depth -= 1;
        Ok(Filter { left, test })
    }

    fn operand(&mut self) -> Result<Operand, JsonPathError> {
        self.skip_spaces();
        if let Some(text) = self.quoted()? {
            return Ok(Operand::Literal(text.into()));
        }
        if self.rest.starts_with(['@', '$', '.', '[']) {
            return self.path().map(Operand::Path);
        }
        let ends = |c: char| c.is_whitespace() || ")]=!<>".contains(c);
        let (word, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        match serde_json::from_str::<Value>(word) {
            Ok(value) => Ok(Operand::Literal(value)),
            Err(_) if word.is_empty() => Err(error("a filter needs something to compare")),
            Err(_) => Err(error(format!("unrecognized identifier {word}"))),
        }
    }
}

/// What a bare name may hold.
fn is_name(c: char) -> bool {
    c == '\\' || !(c.is_whitespace() || ".[](){}$@,:=!<>'\"?*".contains(c))
}
