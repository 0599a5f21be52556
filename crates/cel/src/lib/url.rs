//! URLs: absolute ones, and absolute paths, as Go's `url.ParseRequestURI` takes them.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::operators::text;
use crate::error::EvalError;
use crate::value::{Key, Map, Opaque, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("url", |args| {
        let text = text(args, 0)?;
        let wrong = || {
            EvalError::failed(format!(
                "URL parse error during conversion from string: parse {:?}: invalid URI for request",
                &**text
            ))
        };
        Ok(Value::Opaque(Opaque::Url(Arc::new(Url::parse(text).ok_or_else(wrong)?))))
    }),
    ("isURL", |args| Ok(Value::Bool(Url::parse(text(args, 0)?).is_some()))),
    ("getScheme", |args| Ok(Value::text(&*url(args)?.scheme))),
    ("getHost", |args| Ok(Value::text(&*url(args)?.host))),
    ("getHostname", |args| Ok(Value::text(url(args)?.split_host().0))),
    ("getPort", |args| Ok(Value::text(url(args)?.split_host().1))),
    ("getEscapedPath", |args| Ok(Value::text(&*url(args)?.path))),
    ("getQuery", |args| Ok(url(args)?.query_values())),
];

fn url<'v>(args: &'v [Value<'_>]) -> std::result::Result<&'v Url, EvalError> {
    match args.first() {
        Some(Value::Opaque(Opaque::Url(url))) => Ok(url),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A URL's parts as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: Box<str>,
    scheme: Box<str>,
    host: Box<str>,
    path: Box<str>,
    query: Box<str>,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Url {
    /// `None` if it is no absolute URL and no absolute path.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return None;
        }
        let (scheme, rest) = match scheme(text) {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None if text.starts_with('/') => (String::new(), text),
            None => return None,
        };
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = match before.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() => {
                let end = rest.find('/').unwrap_or(rest.len());
                rest.split_at_checked(end)?
            }
            _ => ("", before),
        };
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let escapes_are_right = [path, host].into_iter().all(escapes_are_right);
        (is_host(host) && escapes_are_right).then(|| Self {
            text: text.into(),
            scheme: scheme.into(),
            host: host.into(),
            path: path.replace(' ', "%20").into(),
            query: query.into(),
        })
    }

    /// Name and port; an IPv6 address is without its brackets.
    fn split_host(&self) -> (&str, &str) {
        if let Some(rest) = self.host.strip_prefix('[') {
            let (address, port) = rest.split_once(']').unwrap_or((rest, ""));
            return (address, port.strip_prefix(':').unwrap_or_default());
        }
        self.host.rsplit_once(':').unwrap_or((&self.host, ""))
    }

    fn query_values<'a>(&self) -> Value<'a> {
        let mut values: BTreeMap<Key, (Value<'a>, Vec<Value<'a>>)> = BTreeMap::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (unescaped(name), unescaped(value)) else { continue };
            let key = Key::Text(name.as_str().into());
            values.entry(key).or_insert_with(|| (Value::text(name), Vec::new())).1.push(Value::text(value));
        }
        let entries = values.into_iter().map(|(key, (name, values))| (key, (name, Value::list(values))));
        Value::Map(Map::Entries(Rc::new(entries.collect())))
    }
}

fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(plain);
    // Without a slash after it, it would be no request URI.
    (valid && rest.starts_with('/')).then_some((scheme, rest))
}

fn is_host(host: &str) -> bool {
    let port = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((_, port)) => port,
            None => return false,
        },
        None => host.find(':').and_then(|at| host.get(at..)).unwrap_or_default(),
    };
    let port_is_right = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    port_is_right && !host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}'])
}

fn escapes_are_right(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|after| after.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

/// A part of a query in plain text.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
