//! Query strings: decoded once, read by name.
//!
//! Keys repeat (`command=sh&command=-c`), so this is a list, not a map. Few parameters per request: a scan is enough.

/// The decoded parameters of one request, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=1&b=x%20y+z`. A part that is no valid encoding is dropped, as Go's parser does.
    pub fn parse(raw: &str) -> Self {
        let parts = raw.split('&').filter(|part| !part.is_empty());
        Self(parts.filter_map(pair).collect())
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name, empty when absent.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A switch as apimachinery reads it: absent, `0` and `false` are off, everything else (even empty) is on.
    pub fn switch(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false"))
    }

    /// Replaces all values of a name.
    pub fn set(&mut self, name: &str, values: Vec<String>) {
        self.0.retain(|(key, _)| key != name);
        self.0.extend(values.into_iter().map(|value| (name.to_owned(), value)));
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn pair(part: &str) -> Option<(String, String)> {
    let (key, value) = part.split_once('=').unwrap_or((part, ""));
    Some((decode(key, true)?, decode(value, true)?))
}

/// Decodes percent escapes (and `+` as a space in queries); `None` when they are broken or not UTF-8.
pub fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    if !text.bytes().any(|b| b == b'%' || (plus_is_space && b == b'+')) {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// Encodes a value for a query string.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| value.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_decode_and_repeat() {
        let query = Query::parse("command=sh&command=-c&x=a%20b+c&bad=%zz&watch&flag=false&=e");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c"]);
        assert_eq!((query.text("x"), query.get("bad"), query.text("none")), ("a b c", None, ""));
        assert!(query.switch("watch") && !query.switch("flag") && !query.switch("none"));
    }

    #[test]
    fn encoding_is_undone_by_decoding() {
        for text in ["", "a b", "ä+/%&=", "plain-1.2_~"] {
            assert_eq!(decode(&encode(text), true).as_deref(), Some(text));
        }
        assert_eq!(decode("%2", false), None);
        assert_eq!(decode("%ff", false), None);
    }
}
